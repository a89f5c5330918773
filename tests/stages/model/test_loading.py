"""Parts are found, or one sentence says which is missing and what to do."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from stages.base import WeightsError
from stages.model.appearance import split_adapter
from stages.model.loading import load_module, load_tensors, load_tokenizer, source_of
from stages.presets import TINY, Part, Preset
from tests.stages.random_parts import make_motion


def preset_with(**parts: str) -> Preset:
    return replace(TINY, parts=MappingProxyType({name: Part(source, "test") for name, source in parts.items()}))


@pytest.fixture
def motion(tmp_path: Path) -> Path:
    make_motion().save_pretrained(tmp_path / "motion")
    return tmp_path / "motion"


def test_a_part_round_trips_bit_for_bit(motion: Path) -> None:
    loaded = load_module(preset_with(motion=str(motion)), "motion", MotionAdapter, "cpu", torch.float32)
    saved = load_file(motion / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in loaded.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_an_unknown_part_names_the_preset() -> None:
    with pytest.raises(WeightsError, match="Preset 'tiny' has no part 'unet', only motion"):
        load_module(preset_with(motion="x"), "unet", UNet2DConditionModel, "cpu", torch.float32)


def test_a_missing_embedded_folder_is_named() -> None:
    with pytest.raises(WeightsError, match=r"'embedded:tiny/nothing' are missing: there is no folder .*make train"):
        source_of(Part("embedded:tiny/nothing", "test"))


def test_a_truncated_file_is_one_sentence(motion: Path) -> None:
    file = motion / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"Part 'motion' cannot be loaded from .*check the folder"):
        load_module(preset_with(motion=str(motion)), "motion", MotionAdapter, "cpu", torch.float32)


def test_missing_tensors_are_named(motion: Path) -> None:
    file = motion / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    dropped = sorted(tensors)[0]
    save_file({name: tensor for name, tensor in tensors.items() if name != dropped}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=f"lacks the tensors {dropped} of a MotionAdapter"):
        load_module(preset_with(motion=str(motion)), "motion", MotionAdapter, "cpu", torch.float32)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Part 'tokenizer' cannot be loaded from .*it holds no vocabulary"):
        load_tokenizer(preset_with(tokenizer=str(tmp_path)), "tokenizer")


def test_a_folder_without_the_adapter(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="Part 'appearance' cannot be loaded"):
        load_tensors(preset_with(appearance=str(tmp_path)), "appearance")


def test_an_adapter_of_another_layout() -> None:
    with pytest.raises(WeightsError, match=r"holds the tensor 'unet.weight'"):
        split_adapter({"unet.weight": torch.zeros(1)})
    with pytest.raises(WeightsError, match="no tensor of the group 'ip_adapter'"):
        split_adapter({"image_proj.x": torch.zeros(1)})
