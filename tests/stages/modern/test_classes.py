"""Every video pipeline of the pinned diffusers: it runs behind its stage, exactly as asked, or is refused by name."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from stages.base import Cancelled, WeightsError, ignore_progress
from stages.i2v import I2V
from stages.model.hub.classes import ANIMATES, REDRAWS, REFUSED, video_classes, why_not
from stages.model.hub.noise import Share, shared_noise
from stages.model.hub.upscaling import small_size
from stages.model.hub.video import HubRedrawer
from stages.presets import Sizes, plan
from stages.v2v import V2V
from tests.stages.modern.rig import Log, Shelf, keyframes, picture
from tests.stages.modern.trials import I2V_BUILDS, V2V_BUILDS, preset_of, try_i2v, try_refusal, try_v2v

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("classes"))


def test_every_class_is_in_the_table_once() -> None:
    known = set(video_classes())
    assert known == ANIMATES | REDRAWS | set(REFUSED)
    assert not (ANIMATES | REDRAWS) & set(REFUSED)
    assert set(I2V_BUILDS) == ANIMATES
    assert set(V2V_BUILDS) == REDRAWS


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ANIMATES))
def test_it_animates_a_picture_exactly_as_asked(shelf: Shelf, name: str) -> None:
    stage, preset, made = try_i2v(shelf, name)
    wanted = plan(preset, "a fox", negative_prompt="a dog").i2v
    assert np.array_equal(made, stage(picture(), params=wanted, seed=3, report=ignore_progress).clip.frames)
    assert not np.array_equal(made, stage(picture(), params=wanted, seed=4, report=ignore_progress).clip.frames)
    with pytest.raises(Cancelled):
        stage(picture(), params=wanted, seed=3, report=Log(stop_at=1, stop=Cancelled))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(REDRAWS))
def test_it_redraws_a_video_exactly_as_asked(shelf: Shelf, name: str) -> None:
    stage, preset, made = try_v2v(shelf, name)
    wanted, given = plan(preset, "a fox", negative_prompt="a dog").v2v, keyframes(len(made))
    assert np.array_equal(made, stage(picture(), given, params=wanted, seed=3, report=ignore_progress).clip.frames)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_it_is_refused_by_name_before_a_file_is_looked_at(tmp_path: Path, name: str) -> None:
    try_refusal(tmp_path, name)


def test_a_class_in_the_wrong_part_says_where_it_belongs() -> None:
    assert why_not("Kandinsky6SRPipeline", "i2v") == "redraws: it belongs into part 'v2v_pipeline'"
    assert why_not("LTX2ImageToVideoPipeline", "v2v") == "animates: it belongs into part 'i2v_pipeline'"
    assert why_not("SomethingNewPipeline", "i2v") is None


@pytest.mark.slow
def test_the_sizes_that_hunyuan_chooses_are_refused_before_it_runs(shelf: Shelf) -> None:
    preset = preset_of(shelf, "i2v_pipeline", I2V_BUILDS["HunyuanVideo15ImageToVideoPipeline"])
    wide = replace(preset, sizes={"64x32": Sizes((64, 32), (64, 32), (64, 32))})
    with pytest.raises(WeightsError, match=r"asked for 64x32 pixels; it makes \d+ sizes of its own list: take \d+x\d+"):
        I2V.load(wide, "cpu")


@pytest.mark.slow
def test_an_upscaler_takes_the_keyframes_as_they_are_where_a_scale_fits(shelf: Shelf) -> None:
    preset = preset_of(shelf, "v2v_pipeline", V2V_BUILDS["Kandinsky6SRPipeline"])
    stage = V2V.load(preset, "cpu")
    assert isinstance(stage.maker, HubRedrawer)
    pipeline, who = stage.maker.runner.pipeline, stage.maker.who
    assert small_size(pipeline, who, (96, 64), (48, 32)) == (2, (48, 32))
    assert small_size(pipeline, who, (96, 64), (24, 16)) == (4, (24, 16))
    assert small_size(pipeline, who, (72, 72), (32, 32)) == (2.25, (32, 32))
    for size, told in (((76, 68), r"76x68 pixels; it makes multiples of 8 pixels"), ((32, 24), "its tiles are 32x32")):
        with pytest.raises(WeightsError, match=told):
            V2V.load(replace(preset, sizes={"x": Sizes(size, size, size)}), "cpu")


def test_windows_slice_the_noise_of_their_clip() -> None:
    pipeline = object.__new__(diffusers.WanVideoToVideoPipeline)
    module: Any = sys.modules[type(pipeline).__module__]

    def drawn(start: int, length: int, more: int = 0) -> torch.Tensor:
        share = Share(start, length, 6, torch.Generator().manual_seed(7))
        with shared_noise(pipeline, share):
            first: torch.Tensor = module.randn_tensor(
                (1, 2, length + more, 3, 4), generator=None, device=torch.device("cpu")
            )
            other = module.randn_tensor((1, 2, length, 3, 4), generator=torch.Generator().manual_seed(1))
        assert torch.equal(other, module.randn_tensor(other.shape, generator=torch.Generator().manual_seed(1)))
        return first

    whole = torch.randn((1, 2, 6, 3, 4), generator=torch.Generator().manual_seed(7))
    assert torch.equal(drawn(0, 4), whole[:, :, :4])
    assert torch.equal(drawn(2, 4), whole[:, :, 2:])
    assert torch.equal(drawn(0, 4, more=1)[:, :, :1], drawn(2, 4, more=1)[:, :, :1])
    assert torch.equal(drawn(0, 4, more=1)[:, :, 3:], drawn(2, 4, more=1)[:, :, 1:3])


def test_the_readme_says_which_class_works() -> None:
    rows = [f"| {name.removesuffix('Pipeline')} | {'I2V' if name in ANIMATES else ''}"
            f"{', ' if name in ANIMATES & REDRAWS else ''}{'V2V' if name in REDRAWS else ''} |"
            for name in sorted(ANIMATES | REDRAWS)]  # fmt: skip
    reasons: dict[str, list[str]] = {}
    for name, reason in sorted(REFUSED.items()):
        reasons.setdefault(reason, []).append(name.removesuffix("Pipeline"))
    rows += [f"| {', '.join(names)} | refused: {reason} |" for reason, names in reasons.items()]
    table = "\n".join(["| class of diffusers, without `Pipeline` | stage |", "|---|---|", *rows])
    assert table in (ROOT / "stages" / "README.md").read_text(), f"stages/README.md needs:\n{table}"
