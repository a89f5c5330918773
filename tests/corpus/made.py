"""The files that people have, small, made here: turned, anamorphic, interlaced, of varying rate, broken."""

import io
import struct
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image
from av.video.reformatter import Colorspace

from stages.types import UInt8

SIZE = (96, 64)  # (width, height) as it is meant to be seen
QUARTERS = ((200, 60, 60), (60, 180, 80), (60, 80, 200), (128, 128, 128))  # from left to right, from top to bottom


def marked(size: tuple[int, int] = SIZE) -> UInt8:
    """(H, W, 3): four quarters, so that every turn and mirroring shows."""
    width, height = size
    made = np.empty((height, width, 3), np.uint8)
    for index, colour in enumerate(QUARTERS):
        top, left = index // 2 * (height // 2), index % 2 * (width // 2)
        made[top : top + height // 2 + 1, left : left + width // 2 + 1] = colour
    return made


def greys(count: int, size: tuple[int, int] = SIZE, step: int = 10) -> UInt8:
    """(count, H, W, 3): frame n has the value 10 n + 16."""
    values = (np.arange(count) * step + 16).astype(np.uint8)
    return np.broadcast_to(values[:, None, None, None], (count, size[1], size[0], 3))


def still(pixels: UInt8, count: int = 6) -> UInt8:
    return np.broadcast_to(pixels, (count, *pixels.shape))


def picture(pixels: Any, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    (pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)).save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    """`marked`, stored so that this EXIF orientation shows it upright."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    stored = PIL.Image.fromarray(marked())
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpositions that undo the file's
    if orientation > 1:
        stored = stored.transpose(PIL.Image.Transpose(back[orientation]))
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    return picture(stored, kind, exif=exif, **options)


def ramp(first: int = 0) -> UInt8:
    """(H, W, 3): grey from black to white; `first` in the place of black."""
    values = np.linspace(0, 65535, SIZE[0]).astype(int) >> 8
    values[0] = first
    return np.repeat(np.broadcast_to(values, SIZE[::-1])[..., None], 3, 2).astype(np.uint8)


def deep_grey(orientation: int = 1, hidden: int | None = None) -> bytes:
    """`ramp` as a PNG of 16 bits, stored so that this EXIF orientation, 1 or 6, shows it upright; one value may be
    transparent.
    """
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    wide = np.broadcast_to(np.linspace(0, 65535, SIZE[0]).astype(np.uint16), SIZE[::-1])
    stored = PIL.Image.fromarray(np.ascontiguousarray(np.rot90(wide) if orientation == 6 else wide))
    return picture(stored, "PNG", exif=exif, **({} if hidden is None else {"transparency": hidden}))


def chunked(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks."""
    parts = [len(d).to_bytes(4, "big") + n + d + zlib.crc32(n + d).to_bytes(4, "big") for n, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def deep_colour() -> bytes:
    """A PNG of 16 bits a channel, of one colour: 0x12ff, 0x80ff, 0xf0ff."""
    row = b"\0" + struct.pack(">3H", 0x12FF, 0x80FF, 0xF0FF) * SIZE[0]
    head = struct.pack(">2I5B", *SIZE, 16, 2, 0, 0, 0)
    return chunked((b"IHDR", head), (b"IDAT", zlib.compress(row * SIZE[1])), (b"IEND", b""))


def bomb() -> bytes:
    """The header of a PNG of 30000 x 30000 pixels, and nothing behind it."""
    return chunked((b"IHDR", struct.pack(">2I5B", 30000, 30000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"")))


def scanned(count: int = 500) -> bytes:
    """A progressive JPEG whose last scan stands there so many times more."""
    data = picture(marked(), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * (count + 1 - data.count(b"\xff\xda")) + data[-2:]


def see_through(kind: str = "PNG") -> bytes:
    """`marked` on the left, hidden magenta on the right."""
    pixels = np.dstack([marked(), np.full(SIZE[::-1], 255, np.uint8)])
    pixels[:, SIZE[0] // 2 :] = (255, 0, 255, 0)
    return picture(pixels, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))


def whitened() -> UInt8:
    """What `see_through` shows."""
    shown = marked()
    shown[:, SIZE[0] // 2 :] = 255
    return shown


def film(
    frames: Any,
    *,
    kind: str = "mp4",
    codec: str = "libx264",
    fps: Fraction | int = 24,
    pix_fmt: str = "yuv420p",
    times_ms: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    matrix: Sequence[int] | None = None,
    colour: tuple[int, int, int] | None = None,
    interlaced: bool = False,
    sound: str | None = None,
    sound_s: float | None = None,
    cover: bool = False,
    poster: bool = False,
    small_first: bool = False,
    muxer: Mapping[str, str] | None = None,
    **options: str,
) -> bytes:
    """A video of (T, H, W, 3) or (T, H, W, 4) or of ready frames.

    Args:
        matrix: the display matrix, nine numbers of 16.16 and 2.30.
        colour: primaries, transfer, matrix, as H.273 numbers them.
        cover: with a picture as its first stream, which says that it is one; `poster`: larger, and it does not.
        small_first: with a smaller video as its first stream.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind, options=dict(muxer or {})) as container:
        if cover or poster:
            art = container.add_stream("mjpeg", rate=1)
            side = 512 if poster else 32
            art.width, art.height, art.pix_fmt = side, side, "yuvj420p"
            if cover:
                art.disposition = av.stream.Disposition.attached_pic
        if small_first:
            extra = container.add_stream("libx264", rate=fps)
            extra.width, extra.height, extra.pix_fmt = 32, 32, "yuv420p"
        ready = (
            frames if isinstance(frames[0], av.VideoFrame) else [_frame(pixels, pix_fmt, colour) for pixels in frames]
        )
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = ready[0].width, ready[0].height, ready[0].format.name
        context = stream.codec_context
        base = Fraction(1, 1000) if times_ms is not None else Fraction(1) / Fraction(fps)
        context.time_base = stream.time_base = base
        quality = {"libx264": {"crf": "4", "preset": "veryfast"}, "libx265": {"x265-params": "log-level=none:crf=4"}}
        context.options = {**quality.get(codec, {}), **options}
        if codec.startswith("libvpx"):
            context.options = {
                "crf": "4",
                "b": "4M",
                "deadline": "realtime",
                "cpu-used": "8",
                "auto-alt-ref": "0",
                **options,
            }
        if interlaced:
            context.options = {**context.options, "x264-params": "interlaced=1:tff=1"}
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if colour is not None:
            context.color_primaries, context.color_trc, context.colorspace = colour
        if matrix is not None:
            stream.set_display_matrix(list(matrix))
        voice = container.add_stream(sound, rate=48000) if sound else None
        if cover or poster:
            container.mux(art.encode(_frame(np.full((side, side, 3), 250, np.uint8), "yuvj420p")))
            container.mux(art.encode())
        if small_first:
            for index in range(2):
                one = _frame(np.full((32, 32, 3), 250, np.uint8), "yuv420p")
                one.pts = index
                container.mux(extra.encode(one))
            container.mux(extra.encode())
        for index, frame in enumerate(ready):
            frame.pts, frame.time_base = (index if times_ms is None else times_ms[index]), base
            if colour is not None:
                frame.color_primaries, frame.color_trc, frame.colorspace = colour
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if voice is not None:
            for packet in _tone(voice, len(ready) / Fraction(fps) if sound_s is None else Fraction(sound_s)):
                container.mux(packet)
    return buffer.getvalue()


def index_first(data: bytes) -> bytes:
    """The same MP4 with its index in front of the frames."""
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        with av.open(io.BytesIO(data)) as old, av.open(file.name, "w", options={"movflags": "faststart"}) as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for packet in old.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    new.mux(packet)
        return Path(file.name).read_bytes()


def _frame(pixels: Any, pix_fmt: str, colour: tuple[int, int, int] | None = None) -> av.VideoFrame:
    kind = "rgba" if pixels.shape[2] == 4 else "rgb24"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=kind)
    space = Colorspace.ITU709 if colour and colour[2] == 1 else Colorspace.ITU601
    return frame.reformat(format=pix_fmt, dst_colorspace=space)


def _tone(voice: Any, length_s: Fraction) -> Any:
    wave = (np.sin(np.arange(int(48000 * length_s)) * 2 * np.pi * 440 / 48000) * 8000).astype(np.int16)
    resampler = av.AudioResampler(format=voice.codec_context.format, layout="mono", rate=48000)
    for at in range(0, len(wave) - 959, 960):
        frame = av.AudioFrame.from_ndarray(wave[None, at : at + 960], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, at, Fraction(1, 48000)
        for made in resampler.resample(frame):
            yield from voice.encode(made)
    yield from voice.encode(None)


# Display matrices, as phones write them; the frames are stored as `stored_for` gives them.
ONE, W = 1 << 16, 1 << 30
MATRICES = {
    "90": (0, ONE, 0, -ONE, 0, 0, 0, 0, W),
    "180": (-ONE, 0, 0, 0, -ONE, 0, 0, 0, W),
    "270": (0, -ONE, 0, ONE, 0, 0, 0, 0, W),
    "mirrored": (-ONE, 0, 0, 0, ONE, 0, 0, 0, W),
    "upside down": (ONE, 0, 0, 0, -ONE, 0, 0, 0, W),
    "transposed": (0, ONE, 0, ONE, 0, 0, 0, 0, W),
    "transverse": (0, -ONE, 0, -ONE, 0, 0, 0, 0, W),
}
_STORED = {
    "90": lambda a: np.rot90(a, 1),  # shown turned by 90 degrees clockwise
    "180": lambda a: np.rot90(a, 2),
    "270": lambda a: np.rot90(a, -1),
    "mirrored": lambda a: a[:, ::-1],
    "upside down": lambda a: a[::-1],
    "transposed": lambda a: a.transpose(1, 0, 2),
    "transverse": lambda a: np.rot90(a, 2).transpose(1, 0, 2),
}


def matrixed(name: str) -> bytes:
    """`marked`, stored so that this display matrix shows it upright."""
    return film(still(_STORED[name](marked())), matrix=MATRICES[name])


def growing(kind: str = "webm") -> bytes:
    """VP8 whose frames grow from 64x64 to 512x512 while the header says 64x64."""
    parts = []
    for side in (64, 512):
        with av.open(io.BytesIO(film(greys(3, (side, side)), kind="webm", codec="libvpx"))) as container:
            parts += [bytes(packet) for packet in container.demux(video=0) if packet.size]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream("libvpx", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.open()
        for index, data in enumerate(parts):
            packet = av.Packet(data)
            packet.pts = packet.dts = index
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 24), stream, index % 3 == 0
            container.mux(packet)
    return buffer.getvalue()


def recorded(frames: int = 20) -> bytes:
    """A WebM as a browser's recorder writes it: milliseconds, no length, no index; 25 frames/s."""
    return film(
        greys(frames), kind="webm", codec="libvpx", fps=25, times_ms=range(0, 40 * frames, 40), muxer={"live": "1"}
    )


def rotten(data: bytes, seed: int = 0, from_share: float = 0.3) -> bytes:
    """With a damaged byte here and there behind the headers."""
    damaged, rng = bytearray(data), np.random.default_rng(seed)
    for at in rng.integers(int(len(data) * from_share), len(data), 60):
        damaged[at] ^= 0xFF
    return bytes(damaged)
