"""Weights in a byte each: a packed part loads as any other, and is as near to it as 255 levels a row allow."""

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from diffusers import MotionAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.base import WeightsError
from stages.model.weights.loading import load_module
from stages.model.weights.packed import is_packed, pack
from stages.presets import TINY, Part
from tests.stages.random_parts import make_motion


def load(folder: Path) -> dict[str, Tensor]:
    preset = replace(TINY, parts=MappingProxyType({"motion": Part(str(folder), "test")}))
    return dict(load_module(preset, "motion", MotionAdapter, "cpu", torch.float32).state_dict())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Of a motion module in float16."""
    torch.manual_seed(0)
    make_motion().half().save_pretrained(tmp_path)
    return tmp_path / "diffusion_pytorch_model.safetensors"


def test_a_packed_part_loads_and_what_is_not_packed_stays(file: Path) -> None:
    plain, size = load(file.parent), file.stat().st_size
    assert not is_packed(file)
    draft = file.with_suffix(".tmp")
    pack(file, draft, lambda name, tensor: ".ff.net." in name and tensor.ndim > 1)
    draft.replace(file)
    assert is_packed(file)
    assert file.stat().st_size < size
    near = load(file.parent)
    assert near.keys() == plain.keys()
    for name, tensor in plain.items():
        if ".ff.net." in name and tensor.ndim > 1:
            most = tensor.abs().amax(1, keepdim=True)
            assert ((near[name] - tensor).abs() <= most * (0.5 / 127 + 1e-3)).all(), name
            assert not torch.equal(near[name], tensor)
        else:
            assert torch.equal(near[name], tensor), name


def test_a_packed_part_of_another_model_is_refused_in_a_sentence(file: Path) -> None:
    pack(file, file.with_suffix(".tmp"), lambda name, tensor: tensor.ndim > 1)
    tensors = load_file(file.with_suffix(".tmp"))
    del tensors[next(name for name in tensors if name.endswith("norm.bias"))]
    save_file(tensors, file, metadata={"format": "pt", "packed": "int8"})
    with pytest.raises(WeightsError, match=r"Part 'motion' cannot be loaded from .*Missing key"):
        load(file.parent)
