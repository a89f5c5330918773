"""What the trainings left becomes parts that the stages load: narrow, from T2I's checkpoint alone."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from stages.base import InputError, ignore_progress
from stages.i2v import I2V
from stages.presets import Part, plan
from stages.t2i import T2I
from stages.training.default import assemble as recipe
from stages.training.default.autoencoder import build as build_vae
from stages.training.default.clips import build_motion
from stages.training.loop.loop import Schedule, train
from tests.stages import random_parts as parts
from tests.stages.mechanisms.beside_parts import WIDTHS, beside_preset, make_spatial


def test_parts_of_t2i_alone_are_packed_loaded_and_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "build_text", lambda _: parts.make_text())
    monkeypatch.setattr(recipe, "build_unet", make_spatial)
    monkeypatch.setattr(recipe, "build_motion", lambda _: build_motion(WIDTHS, heads=2, groups=8))
    preset, cache, out = beside_preset(tmp_path / "preset"), tmp_path / "cache", tmp_path / "out"
    with pytest.raises(InputError, match="no finished autoencoder"):
        recipe.assemble(cache, out)
    build_vae(widths=(16,)).save_pretrained(cache / "autoencoder" / "finished" / "vae")
    parts.make_tokenizer().save_pretrained(cache / "pictures" / "tokenizer")
    modules = nn.ModuleDict({"text": parts.make_text(), "unet": make_spatial()})
    unet: Any = modules["unet"]

    def loss_of(step: int, rng: object) -> torch.Tensor:
        return sum((parameter.square().mean() for parameter in modules.parameters()), torch.zeros(()))

    train("pictures", modules, loss_of, Schedule(1, 1e-3, warmup=1, every=1), cache / "pictures")
    assert recipe.assemble(cache, out) == "pictures alone, step 1"
    with safe_open(next((out / "unet").glob("*.safetensors")), "pt") as opened:
        packed = {name.removesuffix(".scale") for name in opened.keys() if name.endswith(".scale")}  # noqa: SIM118
    assert any(".time_emb_proj." in name for name in packed)
    assert not any(name.startswith("add_embedding") for name in packed), "every layer hears it: half a megabyte"

    made = {name: Part(str(out / name), "test") for name in ("unet", "motion", "vae", "text_encoder", "tokenizer")}
    mine = replace(preset, parts=MappingProxyType({**preset.parts, **made, "motion_v2v": made["motion"]}))
    network = I2V.load(mine, "cpu").network
    for name, tensor in unet.add_embedding.state_dict().items():
        torch.testing.assert_close(network.unet.add_embedding.state_dict()[name], tensor, rtol=1e-3, atol=1e-3)
    picture = T2I.load(mine, "cpu")(params=plan(mine, "a fox", size="64x64").t2i, seed=1, report=ignore_progress)
    assert picture.pixels.shape == (64, 64, 3)
