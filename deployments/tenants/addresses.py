"""Addresses that clients name and this server connects to: for webhooks, and for files that jobs begin from.

A name is looked up once; every address that it has must be public, or in a network that the operator allows, and the
connection goes to the one that was judged. So neither a name that points into a private network nor one that changes
its mind (DNS rebinding) leads there. Knows nothing of what is sent.
"""

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
EVERYWHERE: Sequence[Network] = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
MAX_URL_CHARS = 2000

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")  # what lies outside stands for IPv4 in ways of its own, or is local
_NEVER = (
    ipaddress.ip_network("192.0.0.0/24"),  # Oracle's metadata; public to `ipaddress`, whose lists go by Python's age
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's, for its own machines alone
)


class PrivateAddressError(OSError):
    """A name that leads into a private network."""


@dataclass(frozen=True)
class Address:
    """An http(s) address, taken apart."""

    url: str
    scheme: str
    host: str  # lower case
    port: int
    netloc: str  # as the header Host has it
    has_user: bool

    @property
    def place(self) -> str:
        """What messages and logs may say of it: the rest may hold a secret."""
        return f"{self.scheme}://{self.netloc}"

    def at(self, address: str) -> httpx.URL:
        """The same at an address that was judged."""
        return httpx.URL(self.url).copy_with(host=address, username=None, password=None, fragment=None)


def parse_address(url: str) -> Address | None:
    """None of what is no http(s) address, or longer than `MAX_URL_CHARS`."""
    try:
        parts = urlsplit(url)
        port = parts.port if parts.port is not None else {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return None
    if not parts.hostname or not port or parts.scheme not in ("http", "https") or " " in url:
        return None
    if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable():
        return None
    user, _, netloc = parts.netloc.rpartition("@")
    return Address(url, parts.scheme, parts.hostname.rstrip("."), port, netloc, bool(user))


def public_address(host: str, port: int, networks: Sequence[Network] = ()) -> str:
    """An address of the host that may be connected to.

    Args:
        networks: that are allowed beside the public ones.

    Raises:
        OSError: it has none, or one of them is private.
    """
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for address in found:
        one = ipaddress.ip_address(address.partition("%")[0])
        if not any(one in network for network in networks) and not _is_public(one):
            raise PrivateAddressError(f"{host} has the address {address}, which is not a public one")
    return found[0]  # the first is what this machine reaches best (RFC 6724)


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it and the IPv4 address that it may stand for are."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return _is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _GLOBAL_UNICAST or not (address.sixtofour is None or _is_public(address.sixtofour)):
            return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _NEVER)
