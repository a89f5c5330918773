"""Videos through FFmpeg: MP4 (and MOV) or WebM (and Matroska), told by their first bytes.

`examine_video` decodes a file from its first frame to its last, because nothing else tells whether it can be;
`look_at_video` reads headers where they say enough. Of several streams that with the most pixels is taken, never a
cover picture or a poster.
"""

import io
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from stages.media.filters import HDR, Upright, progressive, transparent
from stages.media.pictures import WHITE
from stages.media.times import rate_of
from stages.media.types import Facts, File, Limits, MediaError, Shown
from stages.types import UInt8

_EBML = b"\x1a\x45\xdf\xa3"
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders leave it out
_MISSING_S = 0.2  # between the end that a header promises and the real one
_RATES = (1.0, 240.0)
_BOUNDED = {"max_pixels": str(2**26)}  # of a frame: more is not even allocated
_BROKEN = "is no MP4 or WebM video that can be read to its end: broken or cut off; send it again, or encode it anew"

Look = Callable[[av.VideoFrame], None]
"""Called with each frame as it is in the file."""


@dataclass(frozen=True)
class _Timed:
    frame: av.VideoFrame
    start_s: float
    end_s: float


def examine_video(file: File, limits: Limits | None = None) -> Facts:
    """What the video is, every frame decoded and judged. A varying rate becomes the constant one of most frames.

    Raises:
        MediaError: it is none, is broken, or beyond the limits.
    """
    limits = limits or Limits()
    with opened(file) as (container, stream):
        upright = Upright(stream.sample_aspect_ratio)
        limits.judge(_header_size(stream))
        starts: list[float] = []
        largest, end_s, traits = (0, 0), 0.0, set[str]()
        for timed in _decoded(container, stream, look=lambda frame: traits.update(_traits(frame))):
            size = upright.size(timed.frame)
            largest = max(largest, size, key=lambda each: each[0] * each[1])
            limits.judge(size)
            limits.judge(largest, len(starts) + 1)
            starts.append(timed.start_s)
            end_s = timed.end_s
        frames = len(starts)
        if frames < 2:
            raise MediaError(f"has {frames} frames; a video needs at least 2" if frames else _BROKEN)
        said = float(stream.average_rate) if stream.average_rate else None
        suffix, sound = ("mp4" if _is_mp4(file) else "webm"), container.streams.best("audio") is not None
    if sound and not _heard(file, end_s):
        sound = False
        traits.add("Its sound is broken, or of a kind that cannot be read, and is left out.")
    _check_whole(file)
    fps, steady = rate_of(starts, said)
    if not steady:
        traits.add("Its frame rate varies; its frames are taken by their times.")
        fps = min(fps, limits.frames / end_s)
        frames = max(2, round(end_s * fps))
        limits.judge(largest, frames)
    _check_rate(fps)
    return Facts("video", suffix, largest, frames, fps, frames / fps, sound, tuple(sorted(traits)))


def look_at_video(file: File) -> Facts:
    """As `examine_video`, of the header and the first frame where that says enough.

    Raises:
        MediaError: it is none, is broken, or its first frame is beyond the limits.
    """
    with opened(file) as (container, stream):
        first = next(_decoded(container, stream), None)
        if first is None:
            raise MediaError(_BROKEN)
        size = Upright(stream.sample_aspect_ratio).size(first.frame)
        Limits(side_px=2**14, pixels=2**40).judge(size)
        rate, duration = stream.average_rate, _duration(container, stream)
        if rate and duration and _RATES[0] <= rate <= _RATES[1]:
            return Facts("video", "mp4", size, max(1, round(duration * rate)), float(rate), duration)
    with opened(file) as (container, stream):
        packets = (packet for packet in container.demux(stream) if packet.size and packet.pts is not None)
        starts = sorted(float((packet.pts or 0) * _base(stream)) for packet in packets)
    if len(starts) < 2:
        raise MediaError(f"has {len(starts)} frames; a video needs at least 2")
    mean = (starts[-1] - starts[0]) / (len(starts) - 1)
    fps, _ = rate_of(starts, None)
    _check_rate(fps)
    duration = starts[-1] - starts[0] + mean
    return Facts("video", "webm", size, round(duration * fps), fps, duration)


def video_frames(file: File, start_s: float = 0.0) -> Iterator[Shown]:
    """The frames from the one that is seen at `start_s` on, or from a few before it.

    Raises:
        MediaError: it is no video, or is broken.
    """
    with opened(file) as (container, stream):
        upright = Upright(stream.sample_aspect_ratio)
        for timed in _decoded(container, stream, start_s):
            yield Shown(timed.start_s, timed.end_s, _Pixels(upright, timed.frame))


def last_frame(file: File) -> UInt8:
    """(H, W, 3).

    Raises:
        MediaError: as `video_frames` does.
    """
    if not (last := deque(video_frames(file), maxlen=1)):
        raise MediaError(_BROKEN)
    return last[0].pixels()


@dataclass(frozen=True)
class _Pixels:
    upright: Upright
    frame: av.VideoFrame

    def __call__(self) -> UInt8:
        try:
            return self.upright.rgb(self.frame)
        except (av.FFmpegError, ValueError) as error:
            raise MediaError("has colours that cannot be shown; encode it again as H.264, 8 bit") from error


@contextmanager
def opened(file: File) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and the stream that is the video. Never a format that names other files, such as a playlist."""
    try:
        kind = "mp4" if _is_mp4(file) else "matroska" if _head(file)[:4] == _EBML else None
        if kind is None:
            raise MediaError("is no MP4 or WebM video that can be read; encode it as one of these")
        # a name like "12:30.mp4" would be taken for an address of the protocol "12"
        source = io.BytesIO(file) if isinstance(file, bytes) else str(file.absolute())
        options = {"protocol_whitelist": "" if isinstance(file, bytes) else "file"}
        with av.open(source, format=kind, options=options) as c:
            films = [each for each in c.streams.video if not each.disposition & Disposition.attached_pic]
            stream = max(films, key=lambda each: (each.frames != 1, _pixels(each)), default=None)  # a poster is no film
            if stream is None:
                raise MediaError("is no MP4 or WebM video that can be read: it holds no moving pictures")
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = 2  # each holds frames
            stream.codec_context.options = _BOUNDED
            yield c, stream
    except MediaError:
        raise
    except OSError as error:
        if not isinstance(error, av.FFmpegError):
            raise MediaError(f"cannot be read ({error.strerror})") from error
        raise MediaError(_BROKEN) from error
    except (av.FFmpegError, ValueError) as error:
        raise MediaError(_BROKEN) from error


def _decoded(
    container: InputContainer, stream: VideoStream, start_s: float = 0.0, look: Look = lambda frame: None
) -> Iterator[_Timed]:
    """The frames with their times; the first one's is 0. From `start_s` on, or from the keyframe before."""
    origin_s = None if stream.start_time is None else float(stream.start_time * _base(stream))
    if start_s > 0:
        container.seek(int((start_s + (origin_s or 0)) / _base(stream)), stream=stream)
    usual_s = float(1 / stream.average_rate) if stream.average_rate else 1 / 24
    last = None
    for frame in progressive(_raw(container, stream, look)):
        base = frame.time_base or _base(stream)
        at_s = None if frame.pts is None else float(frame.pts * base)
        if origin_s is None:
            origin_s = at_s or 0.0
        begun_s, ended_s = (last.start_s, last.end_s) if last else (-float("inf"), 0.0)
        at_s = ended_s if at_s is None else max(at_s - origin_s, begun_s)
        if last is not None and at_s > begun_s:
            usual_s = at_s - begun_s
        last = _Timed(frame, at_s, at_s + (float(frame.duration * base) if frame.duration else usual_s))
        yield last


def _raw(container: InputContainer, stream: VideoStream, look: Look) -> Iterator[av.VideoFrame]:
    own = _WITH_ALPHA.get(stream.codec_context.name) if stream.metadata.get("alpha_mode") == "1" else None
    decoder = stream.codec_context
    if own:
        decoder = av.CodecContext.create(own, "r")
        decoder.options = _BOUNDED
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise MediaError(_BROKEN)
        for frame in decoder.decode(packet if packet.size else None):
            if not isinstance(frame, av.VideoFrame):
                continue
            if frame.is_corrupt:
                raise MediaError(_BROKEN)
            if own:
                frame.time_base = _base(stream)
            look(frame)
            yield frame


def _traits(frame: av.VideoFrame) -> Iterator[str]:
    """What is shown otherwise than it is in the file."""
    if frame.color_trc in HDR:
        yield f"Its HDR colours ({HDR[frame.color_trc]}) are tone-mapped to BT.709."
    if frame.interlaced_frame:
        yield "It is interlaced; both fields become one frame."
    if transparent(frame):
        yield WHITE


def _heard(file: File, until_s: float) -> bool:
    """Whether the best track can be decoded as far as the film goes: silence of days may follow in a small file."""
    heard_s = 0.0
    try:
        with opened(file) as (container, _):
            for frame in container.decode(container.streams.best("audio")):
                if isinstance(frame, av.AudioFrame):
                    heard_s += frame.samples / (frame.sample_rate or 1)
                if heard_s > until_s:
                    break
    except MediaError:
        return False
    return heard_s > 0


def _check_whole(file: File) -> None:
    """Whether a WebM is as long as its header promises; of an MP4 a lost packet shows."""
    with opened(file) as (container, stream):
        promised_s = (container.duration or 0) / av.time_base
        if stream.duration is not None or not promised_s:
            return
        end_s = 0.0
        for packet in container.demux():
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
    if promised_s - end_s > max(_MISSING_S, promised_s / 20):
        raise MediaError(
            f"ends after {end_s:.1f} s, where its header promises {promised_s:.1f} s; it is cut off: send it again"
        )


def _check_rate(fps: float) -> None:
    if not _RATES[0] <= fps <= _RATES[1]:
        raise MediaError(f"has {fps:.3g} frames a second; it must be between {_RATES[0]:g} and {_RATES[1]:g}")


def _duration(container: InputContainer, stream: VideoStream) -> float:
    """In seconds; 0 where no header says it."""
    if stream.duration is not None:
        return float(stream.duration * _base(stream))
    if container.duration is None:
        return 0.0
    began = container.start_time or 0  # a WebM's length counts from 0, whenever its first frame is seen
    return float(container.duration - began) / float(av.time_base)


def _header_size(stream: VideoStream) -> tuple[int, int]:
    return int(stream.codec_context.width), int(stream.codec_context.height)


def _pixels(stream: VideoStream) -> int:
    width, height = _header_size(stream)
    return width * height


def _base(stream: VideoStream) -> Fraction:
    return stream.time_base or Fraction(1, 1000)


def _is_mp4(file: File) -> bool:
    return _head(file)[4:8] == b"ftyp"


def _head(file: File) -> bytes:
    if isinstance(file, bytes):
        return file[:12]
    with file.open("rb") as begun:
        return begun.read(12)
