"""A file in the place of the first stages, without a server: what the plan becomes, and what to give it.

Takes the arguments of the command. Knows nothing of stages.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from stages.media.entering import outputs_before
from stages.media.fitting import fitted
from stages.media.pictures import examine_picture
from stages.media.types import Facts, Limits, MediaError
from stages.media.videos import examine_video
from stages.settings import Given, Plan, Preset, RequestError
from stages.types import Image, Keyframes, Piece, StageName

_ANY = Limits(side_px=2**13, frames=2**16, pixels=2**40)  # on one's own machine


@dataclass(frozen=True)
class Beginning:
    """A judged file."""

    file: Path
    given: Given
    plan: Plan
    sound: Path | None

    def outputs(self) -> Iterator[tuple[StageName, Image | Keyframes | Piece]]:
        """What the stages before would have made."""
        return outputs_before(self.file, self.given, self.plan)


def begin(plan: Plan, preset: Preset, image: Path | None, video: Path | None, enter: str | None) -> Beginning | None:
    """None where nothing is begun with.

    Raises:
        RequestError: arguments that do not belong together, or a file that cannot be used.
    """
    if image is None and video is None:
        if enter is not None:
            raise RequestError("enter", f"--enter is {enter}, but there is no --video; give one, or leave --enter out.")
        return None
    if image is not None and video is not None:
        raise RequestError("video", "--image and --video exclude each other; give one of them.")
    if video is not None and enter is None:
        raise RequestError("enter", "--video needs --enter: v2v redraws it in high resolution, vfi interpolates it.")
    file = image or video
    assert file is not None
    facts = _judged(file, video is not None)
    enters: StageName = "i2v" if video is None else "v2v" if enter == "v2v" else "vfi"
    given = Given(facts.kind, enters, facts.size, facts.frames, facts.fps)
    noted = replace(plan, note=" ".join(filter(None, (plan.note, *facts.notes))))
    return Beginning(file, given, fitted(noted, preset, given), file if facts.sound else None)


def _judged(file: Path, moves: bool) -> Facts:
    name = "video" if moves else "image"
    try:
        if file.is_fifo() or file.is_char_device():
            raise MediaError("is a pipe or a device, and it is read more than once; give a file")
        return examine_video(file, _ANY) if moves else examine_picture(file)
    except MediaError as error:
        raise RequestError(name, f"The file {file} {error}.") from error
    except OSError as error:
        raise RequestError(name, f"The file {file} cannot be read ({error.strerror}).") from error
