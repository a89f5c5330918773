"""A file in the place of the stages before the one that it enters: what they would have made.

    picture              enters i2v      T2I's picture
    video                enters v2v      T2I's picture, I2V's keyframes: the frames seen at their times
    video                enters vfi      V2V's pieces: every frame, in windows that bound the memory
    video, its last one  enters i2v      T2I's picture, of a video that is to go on

Frames are decoded as they are asked for. Knows nothing of where files lie.
"""

import math
from collections.abc import Iterator

import numpy as np

from stages.media.pictures import cover, read_picture
from stages.media.times import shown_at
from stages.media.types import File
from stages.media.videos import last_frame, video_frames
from stages.model.network.pictures import resize_frames
from stages.model.sampling.windows import cut_piece, plan_windows
from stages.settings import Given, Plan
from stages.types import Clip, Image, Keyframes, Piece, StageName, UInt8


def outputs_before(file: File, given: Given, plan: Plan) -> Iterator[tuple[StageName, Image | Keyframes | Piece]]:
    """What each stage before would have made, one after the other; `plan` is a fitted one.

    Raises:
        MediaError: the file cannot be read.
    """
    if given.kind == "picture":
        yield "t2i", Image(cover(read_picture(file), plan.t2i.size))
    elif given.enters == "i2v":
        yield "t2i", Image(cover(last_frame(file), plan.t2i.size))
    elif given.enters == "v2v":
        fps = plan.i2v.fps
        moments = [index / fps for index in range(plan.i2v.frames)]
        seen = shown_at(video_frames(file), moments, math.inf)
        frames = np.stack([cover(frame, plan.i2v.size) for frame in seen])
        yield "t2i", Image(resize_frames(frames[:1], plan.t2i.size)[0])
        yield "i2v", Keyframes(None, Clip(frames, fps))
    else:
        yield from (("v2v", piece) for piece in _pieces(file, plan))


def _pieces(file: File, plan: Plan) -> Iterator[Piece]:
    count, fps = plan.i2v.frames, plan.i2v.fps
    seen = shown_at(video_frames(file), [(index + 0.5) / fps for index in range(count)], math.inf)
    spans = plan_windows(count, plan.v2v.windows)
    for index, span in enumerate(spans):
        yield cut_piece(_taken(seen, len(span), plan.v2v.size), fps, spans, index)


def _taken(seen: Iterator[UInt8], count: int, size: tuple[int, int]) -> UInt8:
    frames = np.empty((count, size[1], size[0], 3), np.uint8)
    for frame in frames:
        frame[:] = _evened(next(seen), size)
    return frames


def _evened(frame: UInt8, size: tuple[int, int]) -> UInt8:
    """At that size: without its last row or column, or scaled where a video changes its size."""
    width, height = size
    if (frame.shape[1] // 2 * 2, frame.shape[0] // 2 * 2) == size:
        return frame[:height, :width]
    return cover(frame, size)
