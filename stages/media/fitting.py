"""How a plan fits the file that is begun with: as many frames as it has, at most what the preset makes.

Pure numbers; knows nothing of pixels. What the plan leaves out of the file stands in its note.
"""

import math
from dataclasses import replace

from stages.settings import Given, Plan, Preset, Windows

_WINDOW_BYTES = 64 * 2**20  # of a piece in memory
_FAR = 0.01  # of the longer side, from where a cut is worth a word


def fitted(plan: Plan, preset: Preset, given: Given) -> Plan:
    """The plan with as many frames as the file has, at most what the preset makes; `note` says what is left out."""
    if given.enters == "vfi":
        return _fitted_vfi(plan, given)
    if given.enters == "i2v":
        if given.kind == "video":
            return plan
        return replace(plan, note=_joined(plan.note, _cut_note("The picture", given.size, plan.t2i.size)))
    lasts_s, usual, most = given.frames / given.fps, preset.vfi_factor, max(preset.keyframes.values())
    # by the preset's factor, not this request's: a remix with another one begins from the same keyframes
    keyframes = math.ceil((round(lasts_s * preset.keyframe_fps * usual) - 1) / usual) + 1
    keyframes = min(max(2, keyframes), most)
    made = plan.vfi.factor * (keyframes - 1) + 1
    wanted = min(made, max(2, round(lasts_s * plan.fps)))
    note = ""
    if lasts_s - wanted / plan.fps > 1 / preset.keyframe_fps:
        note = (
            f"The video lasts {lasts_s:.2f} s; its first {wanted / plan.fps:.2f} s are taken, the most that preset "
            f"{preset.name!r} makes."
        )
    return replace(
        plan,
        i2v=replace(plan.i2v, frames=keyframes),
        vfi=replace(plan.vfi, drop=made - wanted),
        note=_joined(plan.note, note, _cut_note("The video", given.size, plan.i2v.size)),
    )


def _fitted_vfi(plan: Plan, given: Given) -> Plan:
    width, height = (side // 2 * 2 for side in given.size)
    length = max(2, min(plan.v2v.windows.length, _WINDOW_BYTES // (width * height * 3)))
    odd = [name for name, side in zip(("column", "row"), given.size, strict=True) if side % 2]
    note = f"Its last {' and '.join(odd)} of pixels is left out: H.264 needs even sides." if odd else ""
    return replace(
        plan,
        i2v=replace(plan.i2v, frames=given.frames, fps=given.fps),
        v2v=replace(plan.v2v, size=(width, height), windows=Windows(length, 0)),
        note=_joined(plan.note, note),
    )


def _cut_note(what: str, size: tuple[int, int], wanted: tuple[int, int]) -> str:
    scale = min(size[0] / wanted[0], size[1] / wanted[1])
    width, height = round(wanted[0] * scale), round(wanted[1] * scale)
    if max(size[0] - width, size[1] - height) <= _FAR * max(size):
        return ""
    return f"{what} is cut to its middle, {width}x{height} of {size[0]}x{size[1]} pixels."


def _joined(*notes: str) -> str:
    return " ".join(note for note in notes if note)
