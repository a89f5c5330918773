"""Which frame is shown at a moment, and the constant rate that a file's times come nearest to."""

import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence

from stages.media.types import MediaError, Shown
from stages.types import UInt8

_TICK_S = 0.001  # WebM counts milliseconds: times are that exact


def shown_at(frames: Iterable[Shown], moments: Sequence[float], late_s: float = 0.1) -> Iterator[UInt8]:
    """The frame (H, W, 3) seen at each of the rising `moments`, converted only where it is asked for; the last one
    stays for `late_s`.

    Raises:
        MediaError: there is no frame, or the last one ends before.
    """
    asked, last, pixels = 0, None, None
    for frame in frames:
        while last is not None and asked < len(moments) and moments[asked] < frame.start_s - _TICK_S:
            pixels = last.pixels() if pixels is None else pixels
            yield pixels
            asked += 1
        if asked == len(moments):
            return
        last, pixels = frame, None
    if last is None:
        raise MediaError("holds no frame that can be decoded")
    if asked < len(moments):
        if moments[-1] > last.end_s + late_s:
            raise MediaError(f"ends at {last.end_s:.2f} s, before {moments[-1]:.2f} s")
        pixels = last.pixels()
    while asked < len(moments):
        assert pixels is not None
        yield pixels
        asked += 1


def rate_of(starts: Sequence[float], said: float | None) -> tuple[float, bool]:
    """(frames a second, whether every frame is at its place at that rate) of at least two frames.

    Args:
        starts: in seconds.
        said: by the file, which is taken where the times agree.
    """
    span_s, gaps = starts[-1] - starts[0], len(starts) - 1
    if span_s <= 0:
        return 0.0, False
    mean = gaps / span_s
    steady = all(abs(start - starts[0] - index / mean) * mean < 0.5 for index, start in enumerate(starts))
    if not steady:
        return 1 / statistics.median(b - a for a, b in itertools.pairwise(starts) if b > a), False
    whole = round(mean)
    for named in (said, whole, round(mean * 1.001) / 1.001, mean):
        if named and abs(gaps / named - span_s) <= 2 * _TICK_S:
            return float(named), True
    return mean, True
