"""Files that a request names by address, fetched from hosts that the operator allows and from nowhere else.

Off until `fetching.hosts` names a host. Every address, also each that a redirect leads to, is judged anew: its host and
port, and where its name leads (`deployments.tenants.addresses`). Bytes, time, redirects and files at once are bounded,
and nothing is unpacked on the way. An address may hold a signature, so messages name its host alone.
"""

import asyncio
import ipaddress
import ssl
from functools import cached_property
from tempfile import SpooledTemporaryFile
from typing import IO
from urllib.parse import urljoin

import httpx

from deployments.bulkheads import Bulkhead
from deployments.errors import BodyTooLargeError, InvalidRequestError, StorageFullError
from deployments.files.store import is_full
from deployments.intake.room import UploadRoom
from deployments.settings.inputs import FetchArgs
from deployments.tenants.addresses import Address, parse_address, public_address

MAX_REDIRECTS = 3
_IN_MEMORY = 2**20  # bytes; more goes to a disk
_OFF = (
    "This server fetches nothing from other addresses: send the bytes, or have its operator allow the host in "
    "fetching.hosts."
)


def is_address(text: str) -> bool:
    return text[:8].lower().startswith(("http://", "https://"))


class Fetcher:
    """One for each ingress replica."""

    def __init__(self, args: FetchArgs, max_bytes: int) -> None:
        self._args, self._max_bytes = args, max_bytes
        self._networks = [ipaddress.ip_network(network) for network in args.networks]
        self._at_names = Bulkhead("The name server", threads=args.at_once, wait_s=args.limit_s)
        self._room = UploadRoom(args.at_once)

    async def fetch(self, url: str, field: str, tenant: str) -> IO[bytes]:
        """The file at an address.

        Args:
            field: of the request, for messages.

        Raises:
            InvalidRequestError: it may not be fetched, or is not there.
            BodyTooLargeError: it has more bytes than an upload may have.
            UploadsFullError: as many are under way as may be.
        """
        if not self._args.hosts:
            raise _wrong(field, f"Field {field} is an address. {_OFF}")
        file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - it is the caller's to close
        try:
            with self._room.place(tenant):
                async with asyncio.timeout(self._args.limit_s):
                    await self._follow(url, field, file)
        except TimeoutError:
            file.close()
            said = f"The file of {field} has not come within {self._args.limit_s:g} s, the limit; send its bytes."
            raise _wrong(field, said) from None
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    async def _follow(self, url: str, field: str, file: IO[bytes]) -> None:
        # No connection is kept: it was made to an address for one name, and another name may have the same address.
        limits, timeout = httpx.Limits(max_keepalive_connections=0), self._args.limit_s
        async with httpx.AsyncClient(
            timeout=timeout, limits=limits, verify=self._trust, follow_redirects=False, trust_env=False
        ) as http:
            for _ in range(MAX_REDIRECTS + 1):
                target = self._judged(url, field)
                try:
                    address = await self._at_names.run(public_address, target.host, target.port, self._networks)
                    leads = await self._take(http, target, address, field, file)
                except (OSError, UnicodeError, httpx.HTTPError, httpx.InvalidURL) as error:
                    if is_full(error):
                        raise StorageFullError("uploads under way") from error
                    said = str(error) or type(error).__name__
                    raise _wrong(
                        field, f"The file of {field} cannot be fetched from {target.place}: {said}."
                    ) from error
                if leads is None:
                    return
                url = urljoin(url, leads)
        raise _wrong(field, f"The address of {field} leads to another more than {MAX_REDIRECTS} times; send the last.")

    async def _take(
        self, http: httpx.AsyncClient, target: Address, address: str, field: str, file: IO[bytes]
    ) -> str | None:
        """Write the bytes into `file`; or give where they are instead."""
        headers = {"host": target.netloc, "accept": "image/*, video/*", "accept-encoding": "identity"}
        extensions = {"sni_hostname": target.host}  # the certificate is that of the name
        async with http.stream("GET", target.at(address), headers=headers, extensions=extensions) as answer:
            if answer.has_redirect_location:
                return answer.headers["location"]
            if answer.status_code != 200:
                raise _wrong(field, f"{target.place} answers {answer.status_code} for the file of {field}, not 200.")
            if (packed := answer.headers.get("content-encoding", "identity").lower()) != "identity":
                raise _wrong(field, f"{target.place} sends the file of {field} as {packed}; it must be sent as it is.")
            announced, taken = answer.headers.get("content-length", ""), 0
            if announced.isdecimal() and int(announced) > self._max_bytes:
                raise self._too_large(field, announced)
            async for piece in answer.aiter_raw():
                taken += len(piece)
                if taken > self._max_bytes:
                    raise self._too_large(field, "more")
                file.write(piece)
        return None

    def _judged(self, url: str, field: str) -> Address:
        address = parse_address(url)
        if address is None or address.has_user:
            raise _wrong(
                field, f"The address of {field} must be like https://example.com/fox.png, without a user in it."
            )
        if not any(_allows(entry, address) for entry in self._args.hosts):
            raise _wrong(
                field,
                f"{address.host}:{address.port} is none of the hosts that this server fetches files from "
                f"({', '.join(self._args.hosts)}); send the bytes, or have its operator add it to fetching.hosts.",
            )
        return address

    def _too_large(self, field: str, size: str) -> BodyTooLargeError:
        said = f"The file of {field} has {size} bytes and the limit is {self._max_bytes}."
        return BodyTooLargeError(said, param=field, code="body_too_large")

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        return httpx.create_ssl_context(trust_env=False)


def _allows(entry: str, address: Address) -> bool:
    name, _, port = entry.partition(":")
    if str(address.port) != port and (port or address.port not in (80, 443)):
        return False
    return name == "*" or (address.host.endswith(name[1:]) if name.startswith("*.") else address.host == name)


def _wrong(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=field, code="invalid_field")
