"""Weights files that are missing, broken or of another model: one clear sentence each, before anything is computed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.base import InputError, WeightsError, ignore_progress
from stages.presets import PRESETS, WEIGHTS, Part, VFIParams
from stages.vfi import VFI
from stages.vfi.gan import Design, Gan
from stages.vfi.weights import FILE_NAME, GAN_FILE_NAME, write_weights
from tests.stages.vfi.pictures import first_window, scene

COMMITTED = WEIGHTS / "rife" / FILE_NAME


def load_from(source: str, subfolder: str = "", weight_name: str = "") -> VFI:
    preset = PRESETS["tiny"]
    return VFI.load(
        replace(preset, parts={**preset.parts, "flow": Part(source, "MIT", subfolder, weight_name)}), device="cpu"
    )


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


def midpoint_only(folder: Path, *, by: str) -> Path:
    """Flow weights that were made for t = 1/2: told by their shape, or by what the file says."""
    tensors, metadata = load_file(COMMITTED), {}
    if by == "shape":
        for name in [name for name in tensors if name.endswith("down.0.0.weight") and name.startswith("blocks.")]:
            tensors[name] = torch.cat((tensors[name][:, :6], tensors[name][:, 7:]), 1).contiguous()
    else:
        metadata["times"] = "0.5"
    save_file(tensors, folder / FILE_NAME, metadata=metadata)
    return folder


@pytest.mark.parametrize("by", ["shape", "metadata"])
def test_weights_for_the_middle_alone_are_refused_where_the_preset_needs_thirds(tmp_path: Path, by: str) -> None:
    source = str(midpoint_only(tmp_path, by=by))
    with pytest.raises(
        WeightsError,
        match=rf"The flow weights '{source}' make the frame at t = 0\.5 alone, .* but factor 3 needs 1/3, 2/3 in "
        r"preset 'tiny'; set vfi_factor=2, or use weights that are told the time\.",
    ):
        load_from(source)


@pytest.mark.parametrize("by", ["shape", "metadata"])
def test_weights_for_the_middle_alone_double_and_nothing_else(tmp_path: Path, by: str) -> None:
    source = str(midpoint_only(tmp_path, by=by))
    preset = replace(PRESETS["tiny"], vfi_factor=2, parts={"flow": Part(source, "MIT")})
    stage = VFI.load(preset, device="cpu")
    window = first_window(scene(8, (40, 56), side=16), scene(12, (40, 56), side=16))
    assert len(stage(window, params=VFIParams(factor=2), seed=0, report=ignore_progress).frames) == 3
    with pytest.raises(
        InputError, match=rf"'{source}' make the frame at t = 0\.5 alone, .* factor 4 needs 1/4, 2/4, 3/4; ask for"
    ):
        stage(window, params=VFIParams(factor=4), seed=0, report=ignore_progress)


def test_a_file_that_says_other_times_is_refused(tmp_path: Path) -> None:
    save_file(load_file(COMMITTED), tmp_path / FILE_NAME, metadata={"times": "sometimes"})
    with pytest.raises(WeightsError, match=r"makes the times 'sometimes'; write 'any' or '0\.5'"):
        load_from(str(tmp_path))


def small_gan(folder: Path, metadata: dict[str, str] | None = None, without: str = "") -> Part:
    """GAN weights of a tiny design, perhaps damaged."""
    torch.manual_seed(0)
    net = Gan(Design(widths=(24, 24, 24), codes=8, code_width=3, head=8))
    described = {"widths": "24 24 24", "codes": "8", "code_width": "3", "head": "8", "times": "any"}
    tensors = {name: tensor for name, tensor in net.state_dict().items() if name != without}
    save_file(tensors, folder / GAN_FILE_NAME, metadata=described if metadata is None else metadata)
    return Part(str(folder), "Apache-2.0")


def load_with(part: Part, **changes: int) -> VFI:
    preset = PRESETS["tiny"]
    return VFI.load(replace(preset, gan=True, parts={**preset.parts, "gan": part}, **changes), device="cpu")  # type: ignore[arg-type]


def test_a_gan_of_another_design_loads_by_what_its_file_says(tmp_path: Path) -> None:
    assert load_with(small_gan(tmp_path)).name == "vfi"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"metadata": {"codes": "8"}}, r"does not say how its network is built \('widths' in its metadata\)"),
        ({"without": "squeeze.bias"}, "is not a GAN of VFI: it lacks squeeze.bias; train it again"),
        (
            {"metadata": {"widths": "48 24 24", "codes": "8", "code_width": "3", "head": "8"}},
            "tensors of another shape",
        ),
        ({"metadata": {"times": "0.5"}}, r"The gan weights '.*' make the frame at t = 0\.5 alone, .* factor 3"),
    ],
)
def test_a_gan_that_does_not_fit_is_told_apart(tmp_path: Path, damage: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load_with(small_gan(tmp_path, **damage))


def test_missing_gan_weights_are_named_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"The gan weights '.*' are missing: there is no file .*{GAN_FILE_NAME}"):
        load_with(Part(str(tmp_path), "Apache-2.0"))


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    tensors, metadata = {"b": torch.ones(3), "a": torch.zeros(2, 2)}, {"z": "1", "a": "2", "m": "3"}
    digests = {write_weights(tensors, tmp_path / f"{copy}.safetensors", metadata) for copy in range(8)}
    assert len(digests) == 1
    assert torch.equal(load_file(tmp_path / "0.safetensors")["b"], tensors["b"])
