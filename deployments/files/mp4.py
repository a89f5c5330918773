"""Frames to mp4, where the frames are: each chunk becomes a closed group of pictures, assembly only remuxes packets.

`encode` takes a `Clip` (T, H, W, 3) uint8 and gives an `EncodedChunk`: a small mp4 of its own that starts with a
keyframe and refers to nothing outside (no B-frames, closed GOP, one set of x264 settings). So chunks may be encoded on
different machines at different times, and `assemble` joins them without decoding a frame, into one file with the index
in front (faststart) and the provenance in its comment.

Full-range RGB becomes limited-range BT.709 yuv420p, tagged as such. Knows nothing of Ray, jobs or HTTP.
"""

import io
import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.reformatter import ColorRange, Colorspace

from deployments.files.store import Artifact, ArtifactStore, reaching
from stages.media.sound import sound_beside
from stages.media.types import MediaError
from stages.types import Clip

logger = logging.getLogger(__name__)

_BT709 = 1  # the number of BT.709 in FFmpeg's tables of primaries, transfers and matrices
_BITEXACT = {"fflags": "+bitexact"}  # no date and no library version in the file: same frames, same bytes


class EncodeError(ValueError):
    """Frames that cannot be encoded, or chunks that do not belong together."""


@dataclass(frozen=True, slots=True)
class EncodedChunk:
    """Part of a video as an mp4 of its own."""

    data: bytes
    frames: int
    size: tuple[int, int]  # (width, height) px
    fps: Fraction

    @property
    def nbytes(self) -> int:
        return len(self.data)


class Mp4Finisher:
    """What the last stage's replica does with its frames."""

    def __init__(self, artifacts_url: str, crf: int = 16, x264_preset: str = "medium") -> None:
        self._store = ArtifactStore(artifacts_url)
        self._crf = crf
        self._x264_preset = x264_preset

    def encode(self, value: Any) -> EncodedChunk:
        """One chunk.

        Raises:
            EncodeError: not a `Clip`, or sides that yuv420p cannot halve.
        """
        if not isinstance(value, Clip):
            raise EncodeError(f"Only a Clip can be encoded, got {type(value).__name__}.")
        return encode_chunk(value, crf=self._crf, x264_preset=self._x264_preset)

    def assemble(
        self,
        chunks: Sequence[EncodedChunk],
        key: str,
        provenance: Mapping[str, Any],
        before: str | None = None,
        sound: str | None = None,
    ) -> Artifact:
        """Join the chunks, behind the video kept under `before`, and keep the file under `key`, with the sound of the
        file that is kept under `sound`.
        """
        if before is not None:
            chunks = [read_chunk(self._kept(before)), *chunks]
        heard = None if sound is None else self._kept(sound)
        disk = reaching(f"The disk of {tempfile.gettempdir()}")
        with disk, tempfile.TemporaryDirectory(prefix="magicvideo-") as folder:
            path = Path(folder) / "video.mp4"
            try:
                join_chunks(chunks, path, provenance, heard)
            except (MediaError, av.FFmpegError) as error:
                if heard is None:
                    raise
                logger.warning("The sound of %s does not go into %s and is left out: %s", sound, key, error)
                join_chunks(chunks, path, provenance)
            return self._store.put_file(path, key)

    def _kept(self, key: str) -> bytes:
        return b"".join(self._store.read(key, 0, self._store.size(key)))


def read_chunk(data: bytes) -> EncodedChunk:
    """A whole mp4 of ours as one chunk.

    Raises:
        EncodeError: it is none.
    """
    try:
        with av.open(io.BytesIO(data), format="mp4") as container:
            stream = container.streams.video[0]
            rate = stream.average_rate
            size = (int(stream.codec_context.width), int(stream.codec_context.height))
            if rate is None:
                raise EncodeError("The video before has no frame rate.")
            return EncodedChunk(data, int(stream.frames), size, Fraction(rate).limit_denominator(1001))
    except (av.FFmpegError, IndexError) as error:
        raise EncodeError(f"The video before cannot be read: {error}.") from error


def encode_chunk(clip: Clip, *, crf: int = 16, x264_preset: str = "medium", kbit_s: int | None = None) -> EncodedChunk:
    """A closed GOP of H.264 in an mp4; `kbit_s`: at this rate, whatever the quality."""
    width, height = clip.size
    if width % 2 or height % 2:
        raise EncodeError(f"yuv420p needs even sides, got {width}x{height}; choose another size in the preset.")
    fps = Fraction(clip.fps).limit_denominator(1001)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options=_BITEXACT) as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.gop_size = max(2, len(clip.frames))
        context.thread_count = 1  # the replica's cores belong to the model
        if kbit_s is not None:
            context.bit_rate = kbit_s * 1000
        context.options = {
            **({"crf": str(crf)} if kbit_s is None else dict.fromkeys(("maxrate", "bufsize"), f"{kbit_s}k")),
            "preset": x264_preset,
            "bf": "0",
            "x264-params": "scenecut=0:open-gop=0:threads=1",
        }
        context.color_range = ColorRange.MPEG
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        for picture in clip.frames:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return EncodedChunk(buffer.getvalue(), len(clip.frames), (width, height), fps)


def join_chunks(
    chunks: Sequence[EncodedChunk], path: Path, provenance: Mapping[str, Any], sound: bytes | None = None
) -> None:
    """Remux the chunks, in order, into one faststart mp4 at `path`, whose comment is `provenance` as JSON; beside them
    what is heard in the file `sound`.

    Raises:
        EncodeError: no chunk, or chunks of different size, rate or codec settings.
    """
    if not chunks:
        raise EncodeError("A video needs at least one chunk, got none.")
    first = chunks[0]
    for chunk in chunks:
        if (chunk.size, chunk.fps) != (first.size, first.fps):
            raise EncodeError(
                f"Chunks of one video need one size and rate, got {first.size} at {first.fps} fps "
                f"and {chunk.size} at {chunk.fps} fps."
            )
    with ExitStack() as stack:
        out = stack.enter_context(av.open(path, "w", format="mp4", options={**_BITEXACT, "movflags": "+faststart"}))
        out.metadata["comment"] = json.dumps(dict(provenance), ensure_ascii=False, sort_keys=True)
        target, heard = None, None
        header: bytes | None = None
        ticks = Fraction(1) / first.fps
        position = 0
        for chunk in chunks:
            with av.open(io.BytesIO(chunk.data)) as part:
                source = part.streams.video[0]
                if target is None:
                    target = out.add_stream_from_template(source)
                    target.time_base = source.time_base
                    if sound is not None:
                        heard = stack.enter_context(sound_beside(sound, out))
                    header = source.codec_context.extradata
                elif source.codec_context.extradata != header:
                    raise EncodeError("Chunks of one video need one set of H.264 headers; encode them with one build.")
                base = source.time_base
                assert base is not None
                offset = round(position * ticks / base)
                for packet in part.demux(source):
                    if packet.dts is None or packet.pts is None:
                        continue  # the flush packet at the end
                    packet.pts += offset
                    packet.dts += offset
                    packet.stream = target
                    if heard is not None:
                        heard.mux_until(packet.pts * base)
                    out.mux(packet)
            position += chunk.frames
        if heard is not None:
            heard.mux_until(position * ticks)
