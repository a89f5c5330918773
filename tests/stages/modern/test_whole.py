"""What `tests/gpu/test_presets.py` does on a GPU, here on the CPU with tiny widths: the same code, end to end."""

from dataclasses import replace
from pathlib import Path

import pytest

from stages.presets import Preset, Windows
from stages.types import STAGE_NAMES
from tests.gpu.whole import Trial
from tests.stages.modern.rig import Shelf, modern_preset
from tests.stages.random_parts import paper_like

pytestmark = pytest.mark.slow


def modern(shelf: Shelf) -> Preset:
    parts = {"t2i": shelf["z_image"], "i2v_pipeline": shelf["wan_a14b"], "v2v_pipeline": shelf["wan_text"]}
    return modern_preset(parts, size=(48, 32), frames=13, windows=Windows(9, 1))


@pytest.mark.parametrize("name", ["modern", "paper"])
def test_a_video_is_made_with_weights_that_nobody_fetched(name: str, shelf: Shelf, tmp_path: Path) -> None:
    preset = modern(shelf) if name == "modern" else paper_like(tmp_path / "parts")
    preset = replace(preset, t2i=replace(preset.t2i, steps=2), i2v=replace(preset.i2v, steps=2))
    trial = Trial(preset, "cpu", tmp_path / "drawn", 2.0**40)
    trial.run()
    assert tuple(trial.taken) == STAGE_NAMES
    assert all(own.seconds > 0 and own.peak_gib > 0 and own.offload == "none" for own in trial.taken.values())
