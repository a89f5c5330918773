"""From a folder of the hub to a stage: the class that fits, every tensor, no pickles, no code, one sentence each."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.base import StageError, WeightsError
from stages.i2v import I2V
from stages.presets import Control, Guide, Part, Preset, Windows
from stages.settings import with_speeds
from stages.t2i import T2I
from stages.v2v import V2V
from tests.stages.modern.rig import Shelf, modern_preset

STAGES: dict[str, tuple[str, Callable[[Preset, str], Any]]] = {
    "t2i": ("t2i", T2I.load),
    "i2v": ("i2v_pipeline", I2V.load),
    "v2v": ("v2v_pipeline", V2V.load),
}


@pytest.fixture
def copy(shelf: Shelf, tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        return Path(shutil.copytree(shelf[name], tmp_path / name))

    return make


def refusal(stage: str, folder: Path | str, **options: Any) -> str:
    part, load = STAGES[stage]
    with pytest.raises(WeightsError) as caught:
        load(modern_preset({part: str(folder)}, **options), "cpu")
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


@pytest.mark.parametrize("stage", STAGES)
def test_a_folder_that_is_not_there(stage: str, tmp_path: Path) -> None:
    text = refusal(stage, tmp_path / "nowhere")
    assert text.startswith(f"Part '{STAGES[stage][0]}' cannot be loaded from {tmp_path / 'nowhere'} (")


@pytest.mark.parametrize(("stage", "name", "component"), [
    ("t2i", "flux", "transformer"), ("i2v", "wan_a14b", "transformer_2"), ("v2v", "wan_text", "text_encoder"),
])  # fmt: skip
def test_pickles_are_never_read(copy: Callable[[str], Path], stage: str, name: str, component: str) -> None:
    folder = copy(name)
    file = next((folder / component).glob("*.safetensors"))
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    text = refusal(stage, folder)
    assert f"from {folder / component} has {file.stem}.bin, a pickle, where a .safetensors file belongs" in text
    file.with_suffix(".bin").rename(file)
    assert f"{file.name} is a pickle, where safetensors belong" in refusal(stage, folder)


def test_tensors_that_are_missing_are_named(copy: Callable[[str], Path]) -> None:
    folder = copy("wan_text")
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    gone = sorted(tensors)[:4]
    save_file({name: tensor for name, tensor in tensors.items() if name not in gone}, file)
    text = refusal("v2v", folder)
    assert f"lacks the tensors {', '.join(gone[:3])} and 1 more of a WanTransformer3DModel" in text


def test_a_file_that_is_cut_off(copy: Callable[[str], Path]) -> None:
    folder = copy("ltx_text")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    assert f"Part 'i2v_pipeline' cannot be loaded from {file} (it is cut off after " in refusal("i2v", folder)


def test_a_processor_of_texts_and_pictures_is_loaded_as_its_tokenizer(copy: Callable[[str], Path]) -> None:
    """As Kandinsky 6 is published; its pictures would need torchvision, which is not a dependency here."""
    folder = copy("kandinsky6_image")
    edit_index(folder, tokenizer=["transformers", "Qwen2_5_VLProcessor"])
    preset = modern_preset({"i2v_pipeline": str(folder)}, size=(48, 32), frames=5)
    pipeline = I2V.load(preset, "cpu").maker.runner.pipeline  # type: ignore[union-attr]
    assert len(pipeline.tokenizer("a fox").input_ids) > 2


def test_a_component_that_is_missing(copy: Callable[[str], Path]) -> None:
    folder = copy("ltx_text")
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    text = refusal("i2v", folder)
    assert f"Part 'i2v_pipeline' cannot be loaded from {folder} tokenizer (it holds no vocabulary" in text
    (folder / "tokenizer").rmdir()
    text = refusal("i2v", folder)
    assert f"Part 'i2v_pipeline' cannot be loaded from {folder} tokenizer (there is no folder" in text
    shutil.rmtree(folder / "vae")
    assert f"Part 'i2v_pipeline' cannot be loaded: there is no folder {folder / 'vae'}" in refusal("i2v", folder)


def edit_index(folder: Path, **changes: Any) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_code_of_a_repository_is_never_run(copy: Callable[[str], Path], tmp_path: Path) -> None:
    struck = tmp_path / "struck"
    code = f"open({str(struck)!r}, 'w')\nclass Mine: ...\n"
    folder = copy("wan_text")
    (folder / "pipeline.py").write_text(code)
    edit_index(folder, _class_name="Mine")
    assert "is a 'Mine', which diffusers" in refusal("v2v", folder)
    edit_index(folder, _class_name=["pipeline", "Mine"])
    assert "names no pipeline class of diffusers" in refusal("v2v", folder)
    edit_index(folder, _class_name="WanPipeline", transformer=["mine", "Mine"])
    (folder / "transformer" / "mine.py").write_text(code)
    assert "wants 'transformer' from mine.Mine, which is not in diffusers" in refusal("v2v", folder)
    assert not struck.exists()


@pytest.mark.parametrize(("stage", "name", "need"), [
    ("i2v", "stable_diffusion", "StableDiffusionPipeline, and neither it nor its family takes an `image` to animate"),
    ("v2v", "stable_video", "which animates: it belongs into part 'i2v_pipeline'; name another pipeline"),
    ("v2v", "flux", "neither it nor its family takes a `video` to redraw, and the `strength` of it"),
    ("t2i", "ltx_text", "LTXPipeline, and neither it nor its family draws a picture from a `prompt` alone"),
    ("t2i", "stable_video", "neither it nor its family draws a picture"),
])  # fmt: skip
def test_a_pipeline_that_does_something_else(shelf: Shelf, stage: str, name: str, need: str) -> None:
    assert need in refusal(stage, shelf[name])


def test_a_repository_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    text = refusal("i2v", "nobody/nothing")
    assert text.startswith("Part 'i2v_pipeline' is not on this machine and nobody/nothing cannot be reached (")
    assert "run `hf download nobody/nothing --include 'model_index.json'" in text


def test_a_copy_of_the_repository_under_the_folder_for_machines_without_network(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAGICVIDEO_WEIGHTS", str(tmp_path))
    shutil.copytree(shelf["ltx_text"], tmp_path / "somebody" / "something")
    stage = I2V.load(modern_preset({"i2v_pipeline": "somebody/something"}, size=(64, 32)), "cpu")
    assert stage.maker.runner.name == "LTXImageToVideoPipeline"  # type: ignore[union-attr]


def test_parts_of_another_pipeline(copy: Callable[[str], Path]) -> None:
    folder = copy("stable_video")
    edit_index(folder, _class_name="WanImageToVideoPipeline")
    assert "has no 'tokenizer', which a WanImageToVideoPipeline needs" in refusal("i2v", folder)


@pytest.mark.parametrize(("stage", "name", "options", "sentence"), [
    ("i2v", "wan_a14b", {"frames": 8}, "asked for 8 frames; it makes 1, 5, 9, ... frames: take 5 or 9"),
    ("i2v", "stable_video", {"frames": 8}, "asked for 8 frames; it makes 5 frames alone: take 5"),
    ("i2v", "ltx_text", {"size": (32, 48)}, "asked for 32x48 pixels; it makes multiples of 32 pixels"),
    ("v2v", "wan_text", {"frames": 8}, "asked to redraw 8 frames of a clip of 8"),
    ("v2v", "animatediff", {"frames": 40}, "asked to redraw 40 frames of a clip of 40; it makes 1 to 32 frames"),
    ("v2v", "ltx_text", {"size": (32, 48)}, "asked for 32x48 pixels"),
    ("t2i", "flux", {"size": (40, 32)}, "draws 40x32 pixels, its part 't2i'"),
])  # fmt: skip
def test_a_preset_that_promises_what_its_model_cannot_make(
    shelf: Shelf, stage: str, name: str, options: dict[str, Any], sentence: str
) -> None:
    text = refusal(stage, shelf[name], **options)
    assert text.startswith("Preset 'test' ")
    assert sentence in text


def test_a_vae_that_the_pipeline_does_not_know(shelf: Shelf) -> None:
    """diffusers redraws with Wan 2.1 alone: its pipeline counts on latents of 8 pixels, the 5B model has 16."""
    text = refusal("v2v", shelf["wan_5b"], frames=9)
    assert "has a VAE of 16 pixels a latent, its WanVideoToVideoPipeline counts on 8" in text


def test_shorter_windows_make_a_long_clip_possible(shelf: Shelf) -> None:
    parts = {"v2v_pipeline": shelf["animatediff"]}
    V2V.load(modern_preset(parts, frames=40, windows=Windows(32, 8)), "cpu")


def test_the_vae_is_replaced_by_one_line(shelf: Shelf) -> None:
    preset = modern_preset({"i2v_pipeline": shelf["wan_a14b"]})
    own = I2V.load(preset, "cpu").maker.runner.modules["vae"].state_dict()  # type: ignore[union-attr]
    part = Part(shelf["wan_text"], "test", subfolder="vae", dtype="float32")
    changed = replace(preset, parts=MappingProxyType({**preset.parts, "i2v_vae": part}))
    new = I2V.load(changed, "cpu").maker.runner.modules["vae"].state_dict()  # type: ignore[union-attr]
    assert own.keys() == new.keys()
    assert any(not torch.equal(own[name], new[name]) for name in own)


def test_a_vae_on_another_device_than_its_pipeline(shelf: Shelf) -> None:
    preset = modern_preset({"i2v_pipeline": shelf["wan_a14b"]})
    vae = Part(shelf["wan_text"], "test", subfolder="vae", device="cuda:1")
    changed = replace(preset, parts=MappingProxyType({**preset.parts, "i2v_vae": vae}))
    with pytest.raises(WeightsError, match="'i2v_vae' is to be on cuda:1, its pipeline 'i2v_pipeline' on cpu; a pipe"):
        I2V.load(changed, "cpu")


def test_every_network_can_be_enumerated_and_needs_no_gradient(shelf: Shelf) -> None:
    stage = I2V.load(modern_preset({"i2v_pipeline": shelf["wan_a14b"]}), "cpu")
    modules = stage.maker.runner.modules  # type: ignore[union-attr]
    assert sorted(modules) == ["text_encoder", "transformer", "transformer_2", "vae"]
    assert not any(tensor.requires_grad for module in modules.values() for tensor in module.parameters())
    with pytest.raises(StageError, match="I2V's WanImageToVideoPipeline has no network of ours"):
        stage.network  # noqa: B018


def test_settings_without_an_effect_are_told(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    preset = modern_preset({"i2v_pipeline": shelf["wan_a14b"]})
    guided = replace(preset, i2v_guide=Guide(1.0, (Control("control"),)))
    with caplog.at_level(logging.WARNING, logger="stages"):
        I2V.load(preset, "cpu")
        assert not [record for record in caplog.records if "no effect" in record.message]
        I2V.load(guided, "cpu")
    assert [record for record in caplog.records if "they have no effect there" in record.message]


@pytest.mark.parametrize("offload", ["none", "model", "groups", "layers"])
def test_offload_changes_nothing_on_a_cpu(shelf: Shelf, offload: Any) -> None:
    preset = with_speeds(modern_preset({"i2v_pipeline": shelf["wan_a14b"]}), {"i2v": {"offload": offload}})
    stage = I2V.load(preset, "cpu")
    assert {next(module.parameters()).device.type for module in stage.maker.runner.modules.values()} == {"cpu"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("component", "tensor"), [("transformer", "proj_out.weight"), ("text_encoder", "shared.weight")]
)
def test_a_tensor_of_another_shape(copy: Callable[[str], Path], component: str, tensor: str) -> None:
    folder = copy("wan_text")
    file = next((folder / component).glob("*.safetensors"))
    save_file({**load_file(file), tensor: torch.zeros(3, 5)}, file, {"format": "pt"})
    text = refusal("v2v", folder)
    assert tensor in text
    assert "3, 5" in text
