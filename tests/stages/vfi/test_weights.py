"""Weights files that are missing, broken or of another model: one clear sentence each, before anything is computed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.base import WeightsError
from stages.presets import PRESETS, Part
from stages.vfi import VFI
from stages.vfi.weights import FILE_NAME, WEIGHTS

COMMITTED = WEIGHTS / "rife" / FILE_NAME


def load_from(source: str, **part: str) -> VFI:
    preset = PRESETS["tiny"]
    return VFI.load(replace(preset, parts={**preset.parts, "flow": Part(source, "MIT", **part)}), device="cpu")


def test_a_local_folder_and_another_name_work(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "mine.safetensors").symlink_to(COMMITTED)
    assert load_from(str(tmp_path), subfolder="inner", weight_name="mine.safetensors").name == "vfi"


@pytest.mark.parametrize(
    ("source", "step"),
    [
        ("embedded:absent", r"run `python -m stages\.vfi\.convert`"),
        ("/absent/folder", "give a folder that holds it"),
        ("someone/rife", "not a hub id"),
    ],
)
def test_a_missing_file_is_named_with_the_next_step(source: str, step: str) -> None:
    with pytest.raises(WeightsError, match=rf"'{source}' are missing: there is no file .*{FILE_NAME}; .*{step}"):
        load_from(source)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: b"\x00" * 64 + content[64:],
        lambda content: b"PK\x03\x04 a torch pickle, say",
    ],
    ids=["empty", "cut", "overwritten", "another format"],
)
def test_a_broken_file_is_one_clear_sentence(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(damage(COMMITTED.read_bytes()))
    with pytest.raises(
        WeightsError, match=r"is not a readable safetensors file .*; restore or convert it again"
    ) as caught:
        load_from(str(tmp_path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_the_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(WeightsError, match="there is no file"):
        load_from(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("refine.head.bias"), "it lacks refine.head.bias; convert it again"),
        (lambda t: t.update(extra=torch.zeros(1)), "it has the unknown extra; convert it again"),
        (
            lambda t: t.update({"refine.head.bias": torch.zeros(4)}),
            r"refine\.head\.bias is \(4,\) instead of \(3,\); convert it again",
        ),
    ],
)
def test_another_model_is_told_apart(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    tensors = load_file(COMMITTED)
    change(tensors)
    save_file(tensors, tmp_path / FILE_NAME)
    with pytest.raises(WeightsError, match=message):
        load_from(str(tmp_path))
