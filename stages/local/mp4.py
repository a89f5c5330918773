"""Clips to a playable mp4, for the pipeline without Ray: H.264, yuv420p, index in front.

Takes clips in order as they come, and a file whose sound goes beside them; keeps none of them. The served pipeline
encodes in chunks instead, see `deployments.files.mp4`. Knows nothing of stages.
"""

from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av

from stages.base import InputError
from stages.media.sound import sound_beside
from stages.types import Clip


def write_mp4(path: Path, clips: Iterable[Clip], sound: Path | None = None) -> int:
    """Write `clips` one after the other to `path`, with what is heard in the file `sound`; the number of frames.

    Raises:
        InputError: the sides are odd, which yuv420p cannot hold.
    """
    count = 0
    with (
        av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container,
        ExitStack() as ending,
    ):
        stream, heard = None, None
        for clip in clips:
            rate = Fraction(clip.fps).limit_denominator(1001)
            if stream is None:
                width, height = clip.size
                if width % 2 or height % 2:
                    raise InputError(f"H.264 needs even sides, the frames are {width}x{height}; choose another size.")
                stream = container.add_stream("libx264", rate=rate)
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.options = {"crf": "17", "preset": "medium"}
                if sound is not None:
                    heard = ending.enter_context(sound_beside(sound, container))
            for pixels in clip.frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
                count += 1
            if heard is not None:
                heard.mux_until(count / rate)
        if stream is not None:
            container.mux(stream.encode())
    return count
