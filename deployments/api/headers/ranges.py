"""One `Range` header against the size of a file, after RFC 9110 section 14.

Gives the span to send, or None where the header asks for nothing that this server does (another unit, several ranges,
malformed): RFC 9110 lets such a header be ignored, and the whole file is sent. Pure; knows nothing of HTTP frameworks.
"""

import re
from dataclasses import dataclass

from deployments.errors import RangeError

_ONE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `end` (exclusive) of `size`."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def parse_range(header: str, size: int) -> Span | None:
    """The span that `header` asks of a file of `size` bytes.

    Raises:
        RangeError: a well-formed range that the file does not have.
    """
    found = _ONE.fullmatch(header.replace(" ", ""))
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None  # malformed, says RFC 9110 section 14.1.1
    if start >= size or end <= start:
        raise RangeError(header, size)
    return Span(start, end, size)
