"""Parts are found, or one sentence says which is missing and what to do."""

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from diffusers import MotionAdapter, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from stages.base import WeightsError
from stages.i2v import I2V
from stages.local.weights_command import main as weights_command
from stages.model.network.appearance import split_adapter
from stages.model.weights.loading import load_module, load_tensors, load_tokenizer, source_of
from stages.presets import TINY, Part, Preset
from stages.t2i import T2I
from stages.v2v import V2V
from stages.vfi import VFI
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


def test_tensors_of_another_shape_are_named_with_both_shapes(motion: Path) -> None:
    config = json.loads((motion / "config.json").read_text())
    (motion / "config.json").write_text(json.dumps({**config, "block_out_channels": [32, 96]}))
    with pytest.raises(WeightsError, match=r"of another shape .*: \S+ is \(64,.*\) instead of \(96,.* and \d+ more"):
        load_module(preset_with(motion=str(motion)), "motion", MotionAdapter, "cpu", torch.float32)


def test_tensors_of_another_model_are_named(motion: Path) -> None:
    file = motion / "diffusion_pytorch_model.safetensors"
    save_file({**load_file(file), "conv_in.weight": torch.zeros(1)}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"tensors that a MotionAdapter does not know: conv_in\.weight"):
        load_module(preset_with(motion=str(motion)), "motion", MotionAdapter, "cpu", torch.float32)


def test_a_folder_without_a_config_or_without_weights(motion: Path) -> None:
    def load() -> None:
        load_module(preset_with(motion=str(motion)), "motion", MotionAdapter, "cpu", torch.float32)

    file, config = motion / "diffusion_pytorch_model.safetensors", motion / "config.json"
    kept = config.read_bytes()
    config.unlink()
    with pytest.raises(WeightsError, match=r"it has no config\.json; copy the whole folder"):
        load()
    config.write_bytes(kept)
    file.unlink()
    with pytest.raises(WeightsError, match=r"it has no \.safetensors file; fetch it again"):
        load()
    with pytest.raises(WeightsError, match=r"there is no folder .*nowhere; check"):
        load_module(preset_with(motion=str(motion / "nowhere")), "motion", MotionAdapter, "cpu", torch.float32)


def test_a_pickle_is_refused_by_name_and_by_content_and_converted_when_asked(motion: Path) -> None:
    preset = preset_with(motion=str(motion))
    file, pickle = motion / "diffusion_pytorch_model.safetensors", motion / "diffusion_pytorch_model.bin"
    tensors = load_file(file)
    file.unlink()
    torch.save(tensors, pickle)
    with pytest.raises(WeightsError, match=r"has diffusion_pytorch_model\.bin, a pickle, where .*weights --convert"):
        load_module(preset, "motion", MotionAdapter, "cpu", torch.float32)
    file.write_bytes(pickle.read_bytes())
    with pytest.raises(WeightsError, match=r"diffusion_pytorch_model\.safetensors is a pickle, where safetensors"):
        load_module(preset, "motion", MotionAdapter, "cpu", torch.float32)
    file.unlink()
    assert weights_command(["--convert", str(motion)]) == 0
    loaded = load_module(preset, "motion", MotionAdapter, "cpu", torch.float32)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in loaded.state_dict().items())


def test_a_pickle_that_holds_code_is_not_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"weight": torch.zeros(1), "code": Path}, tmp_path / "pytorch_model.bin")
    assert weights_command(["--convert", str(tmp_path)]) == 3
    assert "holds more than tensors and was not read further" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_variant_has_its_own_file(motion: Path) -> None:
    preset = replace(TINY, parts=MappingProxyType({"motion": Part(str(motion), "test", variant="fp16")}))
    with pytest.raises(WeightsError, match="Part 'motion' cannot be loaded"):
        load_module(preset, "motion", MotionAdapter, "cpu", torch.float32)
    make_motion().half().save_pretrained(motion, variant="fp16")
    halves = load_file(motion / "diffusion_pytorch_model.fp16.safetensors")
    loaded = load_module(preset, "motion", MotionAdapter, "cpu", torch.float32)
    assert all(torch.equal(tensor.half(), halves[name]) for name, tensor in loaded.state_dict().items())


def test_a_parts_own_dtype_and_device_come_first(motion: Path) -> None:
    def load(given: torch.dtype, **own: Any) -> torch.dtype:
        preset = replace(TINY, parts=MappingProxyType({"motion": Part(str(motion), "test", **own)}))
        loaded = load_module(preset, "motion", MotionAdapter, "cpu", given)
        found: torch.dtype = next(loaded.parameters()).dtype
        return found

    assert load(torch.float16) == torch.float16  # what a GPU's preset asks for, before the module is moved there
    assert load(torch.float16, dtype="bfloat16") == torch.bfloat16
    assert load(torch.float16, device="cpu") == torch.float32  # a part that stays on the CPU computes as a CPU does
    assert load(torch.float32, dtype="float16") == torch.float32
    assert load(torch.float32, dtype="bfloat16") == torch.bfloat16  # asked for by name, and a CPU can


@pytest.mark.parametrize(
    ("device", "words"),
    [("cuda:99", r"'cuda:99' does not exist; this machine has"), ("tpu", "'tpu' is not one that torch knows")],
)
def test_a_device_that_is_not_there_is_told_before_anything_is_loaded(device: str, words: str) -> None:
    for stage in (T2I, I2V, V2V, VFI):
        with pytest.raises(WeightsError, match=words):
            stage.load(TINY, device)


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
