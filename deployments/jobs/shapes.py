"""Sizes and lengths as others name them, found among those that a preset makes: sides, "720p", "16:9", frames, rates.

Every finding is one sentence with what was asked for, what there is and the nearest of it. Pure.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from stages.presets import MAX_FACTOR, Preset, RequestError

_SIZE = re.compile(r"([1-9]\d{0,4})[xX*×]([1-9]\d{0,4})")
_P = re.compile(r"(\d{1,9})p", re.IGNORECASE)
_NAMED_P = {"2k": 1440, "4k": 2160}
_RATIO = re.compile(r"(\d{1,4}):(\d{1,4})")
_SAME_RATIO = 0.04  # models make multiples of 8 or 16 pixels, so 16:9 may be 1248x720
_EXACT_RATIO = 0.002
_SAME_RATE = 0.01  # frames a second


@dataclass(frozen=True)
class Length:
    """A video that a preset makes; with factor 1 it ends at V2V, whose frames are the keyframes."""

    seconds: str
    keyframes: int
    factor: int
    fps: float

    @property
    def frames(self) -> int:
        return self.factor * (self.keyframes - 1) + 1

    @property
    def counted(self) -> int:
        """Seconds times rate, as others count: it has frames behind the last keyframe, of which there are none here."""
        return self.factor * self.keyframes

    def __str__(self) -> str:
        return f"{self.frames} frames at {self.fps:g} a second (seconds {self.seconds}, factor {self.factor})"


def sides_of(size: str) -> tuple[int, int] | None:
    """(width, height) of "WxH"; None of anything else."""
    found = _SIZE.fullmatch(size)
    return (int(found[1]), int(found[2])) if found else None


def size_of(preset: Preset, asked: str, said: str) -> str:
    """A size as the preset writes it; `said` is how the request says it.

    Raises:
        RequestError: the preset has no such size.
    """
    sides = sides_of(asked)
    if sides is None:
        raise RequestError("size", f"{said}; it must be like {preset.default_size!r}.")
    size = f"{sides[0]}x{sides[1]}"
    if size not in preset.sizes:

        def apart(other: str) -> float:
            return sum(_apart(mine, theirs) for mine, theirs in zip(sides, _sides(other), strict=True))

        raise _none(preset, "size", said, min(preset.sizes, key=apart))
    return size


def size_for(
    preset: Preset, resolution: str | None, aspect_ratio: str | None, *, called: str, asked: str | None
) -> tuple[str, str]:
    """The first size of the preset that has such a short side and such a shape, and what is to be said of it.

    Args:
        called: what the request calls the resolution.
        asked: the size that was asked for too, which is taken where it fits.

    Raises:
        RequestError: there is none.
    """
    fitting = sorted(preset.sizes, key=lambda size: size != asked)
    if resolution is not None:
        wanted_px = _short_side(resolution, called)
        fitting = [size for size in fitting if min(_sides(size)) == wanted_px]
        if not fitting:
            near = min(preset.sizes, key=lambda size: abs(min(_sides(size)) - wanted_px))
            raise _none(preset, called, f"{called} is {resolution!r}", near)
    if aspect_ratio is None:
        return fitting[0], ""
    wanted = _ratio(aspect_ratio)
    shaped = min(fitting, key=lambda size: _off(size, wanted))
    if _off(shaped, wanted) > _SAME_RATIO:
        raise _none(preset, "aspect_ratio", f"aspect_ratio is {aspect_ratio!r}", shaped)
    exact = _off(shaped, wanted) <= _EXACT_RATIO
    return shaped, "" if exact else f"Of shape {aspect_ratio} the nearest is {shaped}."


def length_for(
    preset: Preset,
    *,
    frames: int | None,
    fps: float | None,
    seconds: str | None,
    factor: int | None,
    until: str | None,
) -> tuple[Length, str]:
    """The preset's video with so many frames and such a rate, and what is to be said of it.

    Args:
        seconds: as the preset names it, if it was asked for.
        factor: the same.
        until: the last stage, if it was asked for; where it was not, factor 1 is found too, which ends at V2V.

    Raises:
        RequestError: the preset makes no such video.
    """
    there = [
        Length(name, keyframes, factor, preset.keyframe_fps * factor)
        for factor in sorted(_factors(factor, until), key=lambda factor: (factor != preset.vfi_factor, -factor))
        for name, keyframes in preset.keyframes.items()
        if seconds in (None, name)
    ]
    fitting = [
        one
        for one in there
        if (fps is None or abs(one.fps - fps) < _SAME_RATE) and (frames is None or frames in (one.frames, one.counted))
    ]
    if fitting:
        found = min(fitting, key=lambda one: frames not in (None, one.frames))
        return found, "" if frames in (None, found.frames) else f"num_frames {frames} is {found.frames} here."
    said = {"num_frames": frames, "fps": fps, "seconds": seconds, "factor": factor}
    asked = " and ".join(f"{name} is {value}" for name, value in said.items() if value is not None)
    if not there:
        raise RequestError("seconds", f"{asked}; preset {preset.name!r} has seconds {', '.join(preset.keyframes)}.")
    near = min(there, key=lambda one: _apart(frames, one.frames) + _apart(fps, one.fps))
    param = "fps" if frames is None else "num_frames"
    raise RequestError(param, f"{asked}; the nearest that preset {preset.name!r} makes is {near}.")


def _factors(factor: int | None, until: str | None) -> Sequence[int]:
    """Those that a request leaves to choose from."""
    if until in ("i2v", "v2v"):
        return (1,)
    allowed = range(2, MAX_FACTOR + 1)
    if factor is not None and factor in allowed:
        return (factor,)
    return (1, *allowed) if until is None else allowed


def _apart(wanted: float | None, there: float) -> float:
    return 0.0 if wanted is None else abs(math.log(max(wanted, 1e-9) / there))


def _short_side(resolution: str, called: str) -> int:
    found = _P.fullmatch(resolution)
    side = int(found[1]) if found else _NAMED_P.get(resolution.lower())
    if side is None:
        raise RequestError(called, f"{called} is {resolution!r}; it must be like '720p' or '1280x720'.")
    return side


def _ratio(text: str) -> float:
    found = _RATIO.fullmatch(text)
    if found is None or 0 in (int(found[1]), int(found[2])):
        raise RequestError("aspect_ratio", f"aspect_ratio is {text!r}; it must be like '16:9'.")
    return int(found[1]) / int(found[2])


def _off(size: str, ratio: float) -> float:
    width, height = _sides(size)
    return abs(math.log(width / height / ratio))


def _sides(size: str) -> tuple[int, int]:
    """Of a preset's size."""
    sides = sides_of(size)
    assert sides is not None
    return sides


def _none(preset: Preset, param: str, said: str, near: str) -> RequestError:
    there = ", ".join(preset.sizes)
    nearest = f", of which {near} is the nearest" if len(preset.sizes) > 1 else ""
    return RequestError(param, f"{said}, which preset {preset.name!r} does not make; it makes {there}{nearest}.")
