"""The videos of a study made alike: nothing but the picture may tell two sides apart.

Each becomes a file of the study's own, without sound and without what a file says of its origin. Where all have one
size, rate, length, coding and about one bitrate, their packets are copied; else every one of the study is encoded anew
to the largest size, with black beside another shape, the highest rate and bitrate among the systems and the shortest
length, so that no side loses what it has, and the study says so. Goes on where it stopped: a video that is ready stays.
"""

import hashlib
import io
import logging
import secrets
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Semaphore

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

from client.schema_studies import Media
from deployments.errors import StoreAwayError
from deployments.files.mp4 import encode_chunk
from deployments.files.store import ArtifactError, ArtifactStore
from deployments.studies.book import Record, StudyBook
from deployments.studies.plan import Kept
from deployments.studies.spoiling import spoiled
from stages.measures.pixels import of_pixels
from stages.measures.plugs import Measure, MeasureError, measure, plugged
from stages.media.types import MediaError
from stages.media.videos import video_frames
from stages.types import Clip, UInt8

logger = logging.getLogger(__name__)

RATE_TOLERANCE = 1.1  # of two systems' mean bitrates
LEAST_KBIT_S = 64
_PLACES = Semaphore(2)  # studies at once in one process; each holds a video's frames
_QUIET = {"fflags": "+bitexact"}
_SHOWN_AS_IT_IS = "h264 yuv420p mov,mp4,m4a,3gp,3g2,mj2 "


@dataclass(frozen=True)
class Facts:
    """What a file is."""

    width: int
    height: int
    fps: float
    frames: int
    coding: str
    kbit_s: float

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


@dataclass(frozen=True)
class Target:
    """What all are made; `why` is empty where they are so already."""

    media: Media
    why: str


def prepare(book: StudyBook, store: ArtifactStore, study: Record, measures: Sequence[str] = ()) -> None:
    """Make a study ready, or failed with a sentence; measure each video, also by the functions that are named."""
    try:
        with book.turn(study.id, _PLACES) as there:
            if there:
                _prepare(book, store, study, [plugged(path) for path in measures])
    except StoreAwayError as error:
        logger.warning("The videos of study %s are prepared later: %s", study.id, error)
    except (MediaError, ArtifactError, av.FFmpegError, ValueError) as error:
        book.settle(study.id, None, None, f"Its videos cannot be prepared: {error}")


def _prepare(book: StudyBook, store: ArtifactStore, study: Record, measures: Sequence[Measure]) -> None:
    by_system = study.plan.sources
    facts = [[probe(_bytes(store, video), _called(study, video)) for video in own] for own in by_system]
    target = choose(facts)
    ready, items = book.shown(study.id), study.plan.items
    for number, video in enumerate(video for own in by_system for video in own):
        if number in ready:
            continue
        data = _bytes(store, video)
        made = recode(data, target.media) if target.why else strip(data)
        kept = store.put_bytes(made, f"studies/{study.id}/{number}-{secrets.token_hex(4)}.mp4", "video/mp4")
        frames = _frames(made, _called(study, video))
        try:
            found = measure(frames, target.media.fps, items[number % len(items)][0], measures)
        except MeasureError as error:
            logger.warning("Video %d of study %s has the numbers of pixels alone: %s", number, study.id, error)
            found = of_pixels(frames)
        record = {"key": kept.key, "bytes": kept.size_bytes, "sha256": kept.sha256, "numbers": found}
        if not book.keep(study.id, number, record):
            return
    if _add_copies(book, store, study, target.media):
        book.settle(study.id, target.media, target.why or None)


def _add_copies(book: StudyBook, store: ArtifactStore, study: Record, media: Media) -> bool:
    """The spoiled copies that the plan shows; False where the study was deleted meanwhile."""
    ready = book.shown(study.id)
    for place in study.plan.spoiled:
        number, sound = study.plan.copy_of(place), study.plan.sound(place)
        if number in ready:
            continue
        key = str(ready[sound]["key"])
        source = [video for own in study.plan.sources for video in own][sound]
        frames = _frames(b"".join(store.read(key, 0, store.size(key))), _called(study, source))
        made = strip(encode_chunk(Clip(spoiled(frames, media.fps), media.fps), kbit_s=media.kbit_s).data)
        kept = store.put_bytes(made, f"studies/{study.id}/{number}-{secrets.token_hex(4)}.mp4", "video/mp4")
        record = {"key": kept.key, "bytes": kept.size_bytes, "sha256": kept.sha256}
        if not book.keep(study.id, number, record):
            return False
    return True


def _frames(data: bytes, called: str) -> UInt8:
    """(T, H, W, 3), all of them.

    Raises:
        MediaError: one cannot be decoded; the sentence names the video.
    """
    try:
        return np.stack([shown.pixels() for shown in video_frames(data)])
    except MediaError as error:
        raise MediaError(f"{called} {error}") from error


def probe(data: bytes, called: str) -> Facts:
    """What a file is, by its header and packets.

    Raises:
        MediaError: it cannot be read; the sentence names it.
    """
    try:
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            packets = [packet for packet in container.demux(stream) if packet.size and packet.pts is not None]
            rate = stream.average_rate
            if rate is None or len(packets) < 2:
                raise MediaError(f"{called} is no video that can be read")
            size = sum(packet.size for packet in packets)
            how = hashlib.sha256(context.extradata or b"").hexdigest()[:12]  # two encoders' files are told by it
            coding = f"{context.name} {context.pix_fmt} {container.format.name} {stream.time_base} {how}"
            kbit_s = size * 8 / 1000 / len(packets) * float(rate)
            return Facts(context.width, context.height, float(rate), len(packets), coding, kbit_s)
    except (av.FFmpegError, IndexError) as error:
        raise MediaError(f"{called} cannot be decoded ({error}); make it again or send another") from error


def choose(facts: Sequence[Sequence[Facts]]) -> Target:
    """What all videos of a study are to be, from what each system's are."""
    every = [one for own in facts for one in own]
    largest = max(every, key=lambda one: one.width * one.height)
    fps = max(one.fps for one in every)
    seconds = min(one.seconds for one in every)
    rates = [statistics.fmean(one.kbit_s for one in own) for own in facts]
    kbit_s = max(LEAST_KBIT_S, round(max(rates)))
    width, height = largest.width // 2 * 2, largest.height // 2 * 2
    frames = max(2, int(seconds * fps + 1e-6))
    media = Media(width=width, height=height, fps=fps, frames=frames, seconds=frames / fps, kbit_s=kbit_s)
    differ = [
        name
        for name, values in (
            ("size", {(one.width, one.height) for one in every}),
            ("frame rate", {round(one.fps, 3) for one in every}),
            ("length", {one.frames for one in every}),
            ("coding", {one.coding for one in every}),
        )
        if len(values) > 1
    ]
    if "coding" not in differ and not every[0].coding.startswith(_SHOWN_AS_IT_IS):
        differ.append("coding")
    if max(rates) > min(rates) * RATE_TOLERANCE:
        differ.append("bitrate")
    if not differ:
        return Target(media, "")
    why = (
        f"All videos were encoded anew, to {width}x{height}, {fps:g} fps, {frames} frames and {kbit_s} kbit/s, because "
        f"the sets differ in {' and '.join((', '.join(differ[:-1]), differ[-1]) if differ[1:] else differ)}."
    )
    return Target(media, why)


def strip(data: bytes) -> bytes:
    """The same pictures in a file that says nothing of where they come from, nor how they were encoded."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format="mp4", options=_QUIET) as target:
        stream = source.streams.video[0]
        copied = target.add_stream_from_template(stream)
        copied.metadata.clear()
        silent = BitStreamFilterContext("filter_units=remove_types=6", stream, copied)  # x264 writes its settings there
        for packet in source.demux(stream):
            if packet.dts is None:
                continue
            for kept in silent.filter(packet):
                kept.stream = copied
                target.mux(kept)
    return out.getvalue()


def recode(data: bytes, media: Media) -> bytes:
    """The video as `media` says, H.264 at one bitrate."""
    frames = np.stack(list(_at_rate(data, media)))
    return strip(encode_chunk(Clip(frames, media.fps), kbit_s=media.kbit_s).data)


def _at_rate(data: bytes, media: Media) -> Iterator[UInt8]:
    """What is seen at each of the wanted times."""
    shown = video_frames(data)
    now = next(shown)
    pixels: UInt8 | None = None
    for number in range(media.frames):
        at_s = (number + 0.5) / media.fps
        while now.end_s <= at_s and (after := next(shown, None)) is not None:
            now, pixels = after, None
        if pixels is None:
            pixels = resized(now.pixels(), (media.width, media.height))
        yield pixels


def resized(pixels: UInt8, size: tuple[int, int]) -> UInt8:
    """All of it, as large as fits, in the middle of a black ground."""
    height, width = pixels.shape[:2]
    if (width, height) == size:
        return pixels
    scale = min(size[0] / width, size[1] / height)
    inner = [max(1, min(round(side * scale), most)) for side, most in zip((width, height), size, strict=True)]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    how = "BICUBIC" if scale > 1 else "AREA"
    made = frame.reformat(width=inner[0], height=inner[1], interpolation=how).to_ndarray()
    ground = np.zeros((size[1], size[0], 3), np.uint8)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    ground[top : top + inner[1], left : left + inner[0]] = made
    return ground


def _bytes(store: ArtifactStore, video: Kept) -> bytes:
    return b"".join(store.read(video.key, 0, store.size(video.key)))


def _called(study: Record, video: Kept) -> str:
    for name, own in zip(study.plan.systems, study.plan.sources, strict=True):
        for (prompt, take), one in zip(study.plan.items, own, strict=True):
            if one == video:
                return f"The video of {prompt[:60]!r}, take {take}, of {name!r} ({video.id})"
    return video.id
