"""API keys: shown once, kept as hashes, refused once revoked, and cheap to check however many come."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from deployments.bulkheads import Bulkhead
from deployments.errors import ConfigError, RateLimitError
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.tables import api_keys
from deployments.tenants.keys import KeyBook, KeyRing, UnknownKeyError
from tests.journals import sqlite_journal

FRESH_S = 3.0
AT_JOURNAL = Bulkhead("The journal's database", threads=8, wait_s=60.0)


@pytest.fixture
def book(tmp_path: Path) -> KeyBook:
    return KeyBook(Database(sqlite_journal(tmp_path)))


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def wrong(text: str, number: int = 0) -> str:
    """Another key with the same id."""
    return f"{text[:-6]}{number:06d}"


def test_a_key_is_kept_as_an_argon2_hash_and_can_be_listed_but_not_shown(journal: Journal) -> None:
    book = KeyBook(journal.database)
    assert (book.all(), book.in_use()) == ([], False)
    key, text = book.create("studio", "laptop of Ann")
    assert text.startswith(f"mv_{key.id}_")
    assert book.all() == [key]
    assert book.in_use()
    with journal.database.read() as connection:
        row = connection.execute(select(api_keys)).one()
    assert row.hash.startswith("$argon2id$")
    assert text.removeprefix(f"mv_{key.id}_") not in str(row)


def test_a_revoked_key_stays_listed_with_the_time_of_its_end(journal: Journal) -> None:
    book = KeyBook(journal.database)
    key, other = book.create("a")[0], book.create("b")[0]
    revoked = book.revoke(key.id)
    assert revoked.revoked_at is not None
    assert book.revoke(key.id) == revoked
    assert [known.revoked_at is None for known in book.all()] == [False, True]
    assert list(book.known().valid) == [other.id]
    with pytest.raises(ConfigError, match=f"1 are; revoke them first: {other.id}"):
        book.open()
    book.revoke(other.id)
    assert book.in_use()
    assert (book.open(), book.all(), book.in_use()) == (2, [], False)
    with pytest.raises(UnknownKeyError, match="'nobody'"):
        book.revoke("nobody")


async def test_a_key_gives_its_tenant_and_nothing_else_does(book: KeyBook) -> None:
    ring = KeyRing(book, AT_JOURNAL, fresh_s=FRESH_S)
    _, text = book.create("studio")
    key, second = book.create("other")
    assert await ring.tenant_of(text) == "studio"
    assert await ring.tenant_of(second) == "other"
    for bad in ("", "mv_", text[:-1], text + "x", text.upper(), wrong(text), text.replace(text[3:15], key.id)):
        assert await ring.tenant_of(bad) is None, bad


async def test_argon2_runs_once_for_a_key_however_many_requests_carry_it(book: KeyBook) -> None:
    ring = KeyRing(book, AT_JOURNAL, fresh_s=0.0)
    _, text = book.create("studio")
    assert set(await asyncio.gather(*(ring.tenant_of(text) for _ in range(50)))) == {"studio"}
    assert ring.compared == 1
    for _ in range(3):
        assert await ring.tenant_of(wrong(text)) is None
    assert ring.compared == 2


async def test_a_revoked_key_is_refused_once_the_ring_looks_again(book: KeyBook) -> None:
    clock = Clock()
    ring = KeyRing(book, AT_JOURNAL, fresh_s=FRESH_S, clock=clock)
    key, text = book.create("studio")
    assert await ring.tenant_of(text) == "studio"
    book.revoke(key.id)
    clock.now_s += FRESH_S
    assert await ring.tenant_of(text) is None
    assert await ring.in_use()
    assert ring.compared == 1


async def test_a_new_key_works_at_once_or_nearly(book: KeyBook) -> None:
    clock = Clock()
    ring = KeyRing(book, AT_JOURNAL, fresh_s=FRESH_S, clock=clock)
    assert not await ring.in_use()
    _, text = book.create("studio")
    clock.now_s += 0.5
    assert await ring.tenant_of(text) == "studio"


async def test_a_flood_of_wrong_keys_is_refused_without_argon2_or_in_a_short_line(book: KeyBook) -> None:
    ring = KeyRing(book, AT_JOURNAL, fresh_s=FRESH_S)
    _, right = book.create("studio")
    _, fresh = book.create("other")
    assert await ring.tenant_of(right) == "studio"
    unknown = [f"mv_{number:012x}_{'x' * 43}" for number in range(500)]
    assert set(await asyncio.gather(*map(ring.tenant_of, unknown))) == {None}
    assert ring.compared == 1
    flood = asyncio.gather(*(ring.tenant_of(wrong(right, n)) for n in range(200)), return_exceptions=True)
    assert list(await asyncio.gather(ring.tenant_of(right), ring.tenant_of(fresh))) == ["studio", "other"]
    answers = await flood
    assert {type(answer) for answer in answers} == {type(None), RateLimitError}
    assert ring.compared <= 2 + 4
    assert await ring.tenant_of(right) == "studio"


async def test_what_is_remembered_of_keys_is_bounded_and_holds_none(
    book: KeyBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployments.tenants.keys._REMEMBERED", 2)
    ring = KeyRing(book, AT_JOURNAL, fresh_s=FRESH_S)
    texts = [book.create("studio")[1] for _ in range(3)]
    for text in texts:
        assert await ring.tenant_of(text) == "studio"
    assert await ring.tenant_of(texts[2]) == "studio"
    assert ring.compared == 3
    assert await ring.tenant_of(texts[0]) == "studio"
    assert ring.compared == 4
    assert not any(text.encode() in repr(vars(ring)).encode() for text in texts)
