"""Decoded frames through FFmpeg's filters: both fields into one frame, then upright BT.709 of square pixels.

Takes frames of PyAV in order, gives frames or (H, W, 3) uint8. HDR (PQ, HLG) is tone-mapped and wide gamuts are mapped
by `scale`, which takes seconds to set up its table.
"""

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph

from stages.media.pictures import on_white
from stages.types import UInt8

_UNSAID, _PQ, _HLG = 2, 16, 18  # numbers of ITU-T H.273
_WIDE = (9, 11, 12)  # primaries: BT.2020, DCI-P3, Display P3
_HD = 720  # lines, from where a file that does not say its matrix has BT.709's, as every player takes it
HDR = {_PQ: "PQ", _HLG: "HLG"}
Filters = tuple[tuple[str, str], ...]
Turns = tuple[bool, bool, bool]
"""Whether to transpose, then mirror, then put upside down."""


class Chain:
    """Filters one after the other, for frames of one kind."""

    def __init__(self, frame: av.VideoFrame, filters: Filters) -> None:
        """`frame` is the first that will come."""
        self._graph = Graph()
        base = frame.time_base or Fraction(1, 1000)
        last = self._graph.add(
            "buffer",
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base={base}"
            f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
        )
        for name, options in (*filters, ("buffersink", "")):
            added = self._graph.add(name, options or None)
            last.link_to(added)
            last = added
        self._graph.configure()

    def push(self, frame: av.VideoFrame | None) -> Iterator[av.VideoFrame]:
        """What comes out when `frame` has gone in; None is the end."""
        self._graph.vpush(frame)
        while True:
            try:
                yield self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return


def progressive(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """The frames, from the first interlaced one on without fields."""
    chain, kind = None, None
    for frame in frames:
        if chain is None and not frame.interlaced_frame:
            yield frame
            continue
        if kind != (kind := (frame.width, frame.height, frame.format.name)):
            if chain is not None:
                yield from chain.push(None)
            chain = Chain(frame, (("bwdif", "mode=send_frame:deint=interlaced"),))
        assert chain is not None
        yield from chain.push(frame)
    if chain is not None:
        yield from chain.push(None)


class Upright:
    """Frames of a video as they are meant to be seen.

    Args:
        aspect: width of a pixel over its height.
    """

    def __init__(self, aspect: Fraction | None) -> None:
        self._aspect = aspect or Fraction(1)
        self._chain: Chain | None = None
        self._kind: object = None
        self._turns: dict[int, Turns] = {}

    def size(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(width, height) of the frame when it is shown."""
        width, height = self._square(frame)
        return (height, width) if self._turned(frame)[0] else (width, height)

    def rgb(self, frame: av.VideoFrame) -> UInt8:
        """(H, W, 3)."""
        turns = self._turned(frame)
        colour = (frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries)
        kind = (frame.width, frame.height, frame.format.name, colour, turns)
        if self._chain is None or self._kind != kind:
            self._chain, self._kind = Chain(frame, (self._scale(frame), _format(frame), *_turning(turns))), kind
        [made] = self._chain.push(frame)
        pixels = made.to_ndarray()
        return on_white(pixels) if pixels.shape[2] == 4 else pixels

    def _turned(self, frame: av.VideoFrame) -> Turns:
        """By the matrix of the first frame of each rotation: to look at a frame's side data holds the frame until the
        next collection of cycles.
        """
        if frame.rotation not in self._turns:
            self._turns[frame.rotation] = _turns(frame)
        return self._turns[frame.rotation]

    def _square(self, frame: av.VideoFrame) -> tuple[int, int]:
        wide = self._aspect >= 1
        width = round(frame.width * self._aspect) if wide else frame.width
        return width, frame.height if wide else round(frame.height / self._aspect)

    def _scale(self, frame: av.VideoFrame) -> tuple[str, str]:
        width, height = self._square(frame)
        options = [f"w={width}:h={height}:flags=bicubic+accurate_rnd+full_chroma_int"]
        if frame.colorspace == _UNSAID and min(frame.width, frame.height) >= _HD:
            options.append("in_color_matrix=bt709")
        if frame.color_trc in HDR:
            options.append("out_transfer=bt709:intent=perceptual")
        if frame.color_trc in HDR or frame.color_primaries in _WIDE:
            options.append("out_primaries=bt709")
        return "scale", ":".join(options)


def transparent(frame: av.VideoFrame) -> bool:
    return any(part.is_alpha for part in frame.format.components)


def _format(frame: av.VideoFrame) -> tuple[str, str]:
    return "format", "rgba" if transparent(frame) else "rgb24"


def _turns(frame: av.VideoFrame) -> Turns:
    """The nearest of the eight to the frame's display matrix."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(data), "<i4")[:5].tolist()
            if abs(b) + abs(c) > abs(a) + abs(d):
                return True, c < 0, b < 0
            return False, a < 0, d < 0
    return False, False, False


def _turning(turns: Turns) -> Filters:
    names = (("transpose", "dir=cclock_flip"), ("hflip", ""), ("vflip", ""))
    return tuple(name for name, wanted in zip(names, turns, strict=True) if wanted)
