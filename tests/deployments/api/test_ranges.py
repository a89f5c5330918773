"""Range headers after RFC 9110."""

import pytest

from deployments.api.headers.ranges import parse_range
from deployments.errors import RangeError


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 10)),
        ("bytes=3-5", (3, 6)),
        ("bytes=3-500", (3, 10)),
        ("bytes=9-9", (9, 10)),
        ("bytes=-4", (6, 10)),
        ("bytes=-400", (0, 10)),
        ("bytes= 1 - 2", (1, 3)),
    ],
)
def test_a_range_becomes_a_span(header: str, span: tuple[int, int]) -> None:
    found = parse_range(header, 10)
    assert found is not None
    assert (found.start, found.end) == span
    assert found.content_range == f"bytes {span[0]}-{span[1] - 1}/10"


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_behind_the_end_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(RangeError, match="10 bytes") as refused:
        parse_range(header, 10)
    assert refused.value.headers == {"Content-Range": "bytes */10"}


@pytest.mark.parametrize("header", ["", "bytes=", "bytes=-", "items=0-1", "bytes=5-3", "bytes=0-1,3-4", "bytes=a-b"])
def test_what_is_no_single_range_of_bytes_is_ignored(header: str) -> None:
    assert parse_range(header, 10) is None


def test_an_empty_file_has_no_range() -> None:
    with pytest.raises(RangeError):
        parse_range("bytes=0-", 0)
