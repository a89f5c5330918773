"""What `tests/gpu/test_presets.py` does on a GPU, here on the CPU with tiny widths: the same code, end to end."""

from dataclasses import replace
from pathlib import Path

import pytest

from stages.presets import PRESETS, Preset, Sizes, Windows
from stages.types import STAGE_NAMES
from tests.gpu.whole import Trial
from tests.stages.modern.rig import OWN, Shelf, modern_preset
from tests.stages.random_parts import paper_like

pytestmark = pytest.mark.slow


# Of each preset of today: a tiny build of the class in each place, the sizes of motion and detail, frames.
TODAY: dict[str, tuple[tuple[str, str], tuple[int, int], tuple[int, int], int]] = {
    "modern": (("wan_a14b", "wan_text"), (48, 32), (48, 32), 13),
    "kandinsky-6": (("kandinsky6_distilled", "kandinsky6_upscaler_distilled"), (48, 32), (96, 64), 5),
    "ltx-2": (("ltx2_image", "kandinsky6_upscaler_distilled"), (64, 32), (128, 64), 9),
}


def today(shelf: Shelf, name: str) -> Preset:
    (i2v, v2v), small, large, frames = TODAY[name]
    parts = {"t2i": shelf["z_image"], "i2v_pipeline": shelf[i2v], "v2v_pipeline": shelf[v2v]}
    preset = modern_preset(parts, frames=frames, windows=Windows(9, 1))
    sizes, free = Sizes(t2i=small, i2v=small, v2v=large), replace(OWN, guidance=1.0)  # all of them are distilled
    return replace(preset, sizes={preset.default_size: sizes}, i2v=free, v2v=free)


def test_every_preset_of_today_is_tried() -> None:
    assert {name for name, preset in PRESETS.items() if not preset.built_in} == set(TODAY)


@pytest.mark.parametrize("name", [*TODAY, "paper"])
def test_a_video_is_made_with_weights_that_nobody_fetched(name: str, shelf: Shelf, tmp_path: Path) -> None:
    preset = today(shelf, name) if name in TODAY else paper_like(tmp_path / "parts")
    preset = replace(preset, t2i=replace(preset.t2i, steps=2), i2v=replace(preset.i2v, steps=2))
    trial = Trial(preset, "cpu", tmp_path / "drawn", 2.0**40)
    trial.run()
    assert tuple(trial.taken) == STAGE_NAMES
    assert all(own.seconds > 0 and own.peak_gib > 0 and own.offload == "none" for own in trial.taken.values())
