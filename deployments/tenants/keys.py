"""API keys: who may use the server, and as which tenant.

A key reads `mv_<id>_<secret>`. Its text is shown once, when it is made; the database keeps an argon2 hash of it. The id
says which hash to compare with and is no secret.

    KeyBook    the table: make, list, revoke, open; synchronous and thread-safe
    KeyRing    in an ingress replica: from a key to its tenant, without a query or argon2 for most requests

A server that ever had a key stays closed, also once the last one is revoked, until an operator says `keys open`.

The ring reads the valid keys at most every `fresh_s`, so a revoked key is refused after that time. That a key fits
its hash, or does not, never changes, so it is found out once and remembered by a digest of the key. Argon2 runs in one
thread of its own, and only for a key whose id is valid: a flood of wrong keys costs one core at most, and requests
with a key that was seen before do not wait behind it. Knows nothing of HTTP.
"""

import asyncio
import hashlib
import re
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from sqlalchemy import Row, select

from deployments.bulkheads import Bulkhead, Shared
from deployments.errors import ConfigError, DeploymentError, RateLimitError
from deployments.journal.database import Database
from deployments.journal.tables import api_keys

_TEXT = re.compile(r"mv_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
# OWASP's least for argon2id: a secret of 256 random bits cannot be guessed, whatever a guess costs.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_REMEMBERED = 4096  # digests, of right and of wrong keys each
_AT_ONCE = 4  # different texts with one id that may wait for argon2
_RECHECK_S = 0.5  # an unknown id may be that of a new key: look again, but not for each


class UnknownKeyError(DeploymentError):
    """No key has this id."""


@dataclass(frozen=True)
class Key:
    """What is known of a key, but for its secret."""

    id: str
    tenant: str
    label: str
    created_at: float  # seconds since the epoch
    revoked_at: float | None


@dataclass(frozen=True)
class _Valid:
    tenant: str
    hash: str


@dataclass(frozen=True)
class _Known:
    """What a ring reads: whether there is any key, and those that are not revoked, by id."""

    closed: bool
    valid: Mapping[str, _Valid]


class KeyBook:
    """The keys in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, tenant: str, label: str = "") -> tuple[Key, str]:
        """A new key and its text, which nobody can show again."""
        key_id = secrets.token_hex(6)
        text = f"mv_{key_id}_{secrets.token_urlsafe(32)}"
        hashed = _HASHER.hash(text)
        with self._database.write() as connection:
            key = Key(key_id, tenant, label, self._database.now(connection), None)
            connection.execute(api_keys.insert().values(**asdict(key), hash=hashed))
        return key, text

    def all(self) -> list[Key]:
        """Revoked ones too, the oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)).all()
        return [_key(row) for row in rows]

    def revoke(self, key_id: str) -> Key:
        """The key is not valid any more; one that was revoked before keeps its time.

        Raises:
            UnknownKeyError: there is no such key.
        """
        with self._database.write() as connection:
            connection.execute(
                api_keys.update()
                .where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=self._database.now(connection))
            )
            row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
        if row is None:
            raise UnknownKeyError(
                f"No key has the id {key_id!r}; `python -m deployments keys list` shows those there are."
            )
        return _key(row)

    def open(self) -> int:
        """Forget the revoked keys, so that the server answers its own machine without one; gives how many there were.

        Raises:
            ConfigError: a key is valid.
        """
        with self._database.write() as connection:
            valid = connection.execute(select(api_keys.c.id).where(api_keys.c.revoked_at.is_(None))).scalars().all()
            if valid:
                raise ConfigError(
                    f"The server cannot be opened while a key is valid, and {len(valid)} are; revoke them first: "
                    f"{' '.join(sorted(valid))}."
                )
            return connection.execute(api_keys.delete().where(api_keys.c.revoked_at.is_not(None))).rowcount

    def in_use(self) -> bool:
        """Whether there is a key, or was one: from then on every request needs a valid one."""
        return self.known().closed

    def known(self) -> _Known:
        """All keys, as a ring needs them."""
        query = select(api_keys.c.id, api_keys.c.tenant, api_keys.c.hash, api_keys.c.revoked_at)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return _Known(bool(rows), {row.id: _Valid(row.tenant, row.hash) for row in rows if row.revoked_at is None})


class KeyRing:
    """The valid keys, as an ingress replica knows them. Lives in one event loop."""

    def __init__(
        self, book: KeyBook, at_journal: Bulkhead, *, fresh_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._known = Shared[_Known](lambda: at_journal.run(book.known), fresh_s, clock)
        self._fresh_s = fresh_s
        self._right, self._wrong = _Digests(), _Digests()
        self._comparing: dict[bytes, asyncio.Task[bool]] = {}
        self._per_id: Counter[str] = Counter()
        self._thread = ThreadPoolExecutor(1, "argon2")
        self.compared = 0  # how often argon2 ran

    async def in_use(self) -> bool:
        """As `KeyBook.in_use`."""
        return (await self._known.get()).closed

    async def tenant_of(self, text: str) -> str | None:
        """Whose key this is; None for one that is not valid.

        Raises:
            RateLimitError: too many wrong keys with this id wait to be compared.
        """
        shaped = _TEXT.fullmatch(text)
        if shaped is None:
            return None
        key_id = shaped[1]
        key = (await self._known.get()).valid.get(key_id)
        if key is None:
            key = (await self._known.get(min(_RECHECK_S, self._fresh_s))).valid.get(key_id)
        if key is None or not await self._fits(text, key_id, key.hash):
            return None
        return key.tenant

    async def _fits(self, text: str, key_id: str, hashed: str) -> bool:
        digest = hashlib.sha256(text.encode()).digest()
        if digest in self._right:
            return True
        if digest in self._wrong:
            return False
        task = self._comparing.get(digest)
        if task is None:
            if self._per_id[key_id] >= _AT_ONCE:
                raise RateLimitError("Too many different keys with this id are being checked", 1.0, code="rate_limited")
            self._per_id[key_id] += 1
            task = asyncio.create_task(self._compare(digest, text, key_id, hashed))
            self._comparing[digest] = task
        return await asyncio.shield(task)

    async def _compare(self, digest: bytes, text: str, key_id: str, hashed: str) -> bool:
        try:
            fits = await asyncio.get_running_loop().run_in_executor(self._thread, _argon2_fits, hashed, text)
            self.compared += 1
        finally:
            self._per_id -= Counter((key_id,))
            del self._comparing[digest]
        (self._right if fits else self._wrong).add(digest)
        return fits


class _Digests:
    """Those seen last."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        if digest not in self._seen:
            return False
        self._seen.move_to_end(digest)
        return True

    def add(self, digest: bytes) -> None:
        self._seen[digest] = None
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)


def _argon2_fits(hashed: str, text: str) -> bool:
    try:
        return _HASHER.verify(hashed, text)
    except VerificationError:
        return False


def _key(row: Row[tuple[object, ...]]) -> Key:
    return Key(row.id, row.tenant, row.label, row.created_at, row.revoked_at)
