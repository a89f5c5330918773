"""The published configurations give the published numbers of parameters, on the meta device."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    MotionAdapter,
    SparseControlNetModel,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from stages.cost.sketch import sketch_network
from stages.model.weights import published
from stages.presets import PAPER

MILLIONS: list[tuple[Any, Mapping[str, Any], float]] = [
    (UNet2DConditionModel, published.SD15_UNET, 859.5),
    (MotionAdapter, published.MOTION_V153, 417.1),
    (SparseControlNetModel, published.SPARSE_RGB, 496.7),
    (ControlNetModel, published.CONTROL_SD15, 361.3),
    (UNet2DConditionModel, published.SDXL_UNET, 2567.5),
    (AutoencoderKL, published.SD_VAE, 83.7),
    (lambda **config: CLIPTextModel(CLIPTextConfig(**config)), published.CLIP_L_TEXT, 123.1),
    (lambda **config: CLIPTextModelWithProjection(CLIPTextConfig(**config)), published.CLIP_BIG_G_TEXT, 694.7),
    (lambda **config: CLIPVisionModelWithProjection(CLIPVisionConfig(**config)), published.VIT_H, 632.1),
]


@pytest.mark.parametrize(("cls", "config", "millions"), MILLIONS)
def test_a_network_has_as_many_parameters_as_published(cls: Any, config: Mapping[str, Any], millions: float) -> None:
    with torch.device("meta"):
        network = cls(**config)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_the_projector_of_the_plus_adapter_and_the_inflated_unet() -> None:
    network = sketch_network(PAPER, motion="motion", guide=PAPER.i2v_guide, device="cuda")
    projector = network.unet.encoder_hid_proj.image_projection_layers[0]
    assert sum(p.numel() for p in projector.parameters()) / 1e6 == pytest.approx(29.9, abs=0.06)
    assert all(parameter.is_meta for parameter in network.unet.parameters())
    named = dict(network.unet.named_parameters())
    spatial = sum(p.numel() for n, p in named.items() if "motion_modules" not in n and "_ip" not in n)
    spatial -= sum(p.numel() for p in network.unet.encoder_hid_proj.parameters())
    motion = sum(p.numel() for n, p in named.items() if "motion_modules" in n)
    assert (spatial / 1e6, motion / 1e6) == (pytest.approx(859.5, abs=0.06), pytest.approx(417.1, abs=0.06))
