"""T2I's recipe of the next default model, narrow: it hears pooled text and size, and its text encoder learns slowly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from stages.base import InputError
from stages.training.default.pictures import TEXT_GAIN, build_optimizer, build_unet, loss_function, sample
from stages.training.loop.loop import Options, Schedule, load_average, train
from stages.training.scenes.sentences import Scene
from tests.stages import random_parts as parts
from tests.stages.mechanisms.beside_parts import CHANNELS, make_spatial

SCENES = [Scene(("fox",), "beach"), Scene(("owl", "owl"), "forest", motion="walking", style="oil")]


@pytest.fixture
def modules() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict({"text": parts.make_text(), "unet": make_spatial()})


def test_it_learns_from_pooled_text_and_size_and_another_model_is_refused(
    modules: nn.ModuleDict, tmp_path: Path
) -> None:
    latents = np.random.default_rng(0).standard_normal((2, CHANNELS, 4, 4)).astype(np.float16)
    loss_of, heard = loss_function(modules, parts.make_tokenizer(), latents, SCENES), list[torch.Tensor]()
    unet: Any = modules["unet"]
    unet.add_time_proj.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    before = {name: tensor.clone() for name, tensor in modules.state_dict().items()}
    options = Options(optimizer=lambda parameters, rate: build_optimizer(modules, parameters, rate))
    train("pictures", modules, loss_of, Schedule(2, 1e-3, warmup=1, every=1), tmp_path, options=options)
    assert set(torch.cat(heard).tolist()) == {256.0}
    after = modules.state_dict()
    for name in ("unet.add_embedding.linear_1.weight", "text.final_layer_norm.weight"):
        assert not torch.equal(before[name], after[name])
    assert load_average("pictures", modules, tmp_path) == 2
    with pytest.raises(InputError, match=r"pictures\.pt holds .* tensors .* this model trains"):
        load_average("pictures", nn.ModuleDict({"unet": modules["unet"]}), tmp_path)


def test_the_text_encoder_learns_at_a_fifth_of_the_rate(modules: nn.ModuleDict) -> None:
    optimizer = build_optimizer(modules, list(modules.parameters()), 1.0)
    gains = {id(p): group["gain"] for group in optimizer.param_groups for p in group["params"]}
    assert len(gains) == len(list(modules.parameters()))
    assert {gains[id(p)] for p in modules["unet"].parameters()} == {1.0}
    tables = {gains[id(p)] for name, p in modules["text"].named_parameters() if "embedding" in name}
    assert tables == {TEXT_GAIN / 2}
    assert {gains[id(p)] for name, p in modules["text"].named_parameters() if "embedding" not in name} == {TEXT_GAIN}


def test_the_prompts_pooled_text_reaches_what_is_drawn(modules: nn.ModuleDict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.training.default.pictures.SIDE", 4)
    for name, parameter in modules["unet"].named_parameters():
        if "attn2" in name:
            torch.nn.init.zeros_(parameter)
    fox, owl = sample(modules.eval(), parts.make_tokenizer(), ["a fox", "an owl"], 7)
    again, other = sample(modules, parts.make_tokenizer(), ["a fox", "a fox"], 7)
    torch.testing.assert_close(fox, again)
    assert not torch.allclose(owl, other, atol=1e-3), "through the time alone"


def test_the_unet_hears_text_and_size_in_every_resnet() -> None:
    with torch.device("meta"):
        unet = build_unet()
    assert unet.config.addition_embed_type == "text_time"
    assert unet.add_embedding.linear_1.in_features == 192 + 2 * 32
