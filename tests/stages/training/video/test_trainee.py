"""What learns learns, what is frozen is bit-equal, and what is trained is what the stages run."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from stages.base import InputError
from stages.model.network.appearance import flatten_adapter, read_adapter
from stages.presets import TINY
from stages.training.video.batches import Batch
from stages.training.video.noising import Noising
from stages.training.video.trainee import TARGETS, Dropping, Target
from stages.types import UInt8
from tests.stages import random_parts as parts
from tests.stages.training.networks import make_trainee

NOISING = Noising(replace(TINY.i2v, prediction_type="epsilon"))


def make_batch(frames: int, count: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(5)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    keyframes = draw(count, frames, 3, 24, 24).clamp(-1, 1)
    references = draw(count, 3, 40, 40).clamp(-1, 1)
    return Batch(draw(count, frames, 4, 5, 5), references, ("a fox", "an owl")[:count], keyframes)


def gradients(trainee: object, frames: int, seed: int = 0) -> dict[str, Tensor | None]:
    torch.manual_seed(seed)
    modules = trainee.all_modules()  # type: ignore[attr-defined]
    modules.zero_grad(set_to_none=True)
    loss = trainee.loss(make_batch(frames), torch.tensor([200, 700]), NOISING, random.Random(seed))  # type: ignore[attr-defined]
    if loss.requires_grad:
        loss.backward()
    return {name: p.grad for name, p in modules.named_parameters()}


@pytest.mark.parametrize("control", ["plain", "keyframes", "sparse"])
@pytest.mark.parametrize("target", TARGETS)
def test_only_the_chosen_part_gets_gradients(control: str, target: Target) -> None:
    torch.manual_seed(0)
    trainee = make_trainee(control)
    trainee.choose([target])
    moved = {name for name, grad in gradients(trainee, 3).items() if grad is not None and bool(grad.any())}
    marks = {"motion": "unet.*motion_modules", "control": "controls.", "appearance": "_ip.", "encoder": "encoder."}
    start = marks.get(target, "unet.").split("*")
    assert moved
    for name in moved:
        inside = all(piece in name for piece in start) or (target == "appearance" and "encoder_hid_proj" in name)
        assert inside, name
        assert target in ("control", "motion") or "motion_modules" not in name
        assert target != "spatial" or ("_ip." not in name and "encoder_hid_proj" not in name)


def test_the_spatial_layers_are_saved_as_a_unet_of_pictures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = parts.make_unet().eval()
    trainee = make_trainee()
    trainee.network.unet.load_state_dict(given.state_dict(), strict=False)
    assert trainee.save(["spatial"], tmp_path, {}, torch.float32) == ["unet"]
    found = UNet2DConditionModel.from_pretrained(tmp_path / "unet").eval()
    assert {name: tuple(value.shape) for name, value in found.state_dict().items()} == {
        name: tuple(value.shape) for name, value in given.state_dict().items()
    }
    assert not [key for key in found.config if "motion" in key or "temporal" in key]
    picture, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, int(given.config["cross_attention_dim"]))
    with torch.no_grad():
        assert torch.equal(found(picture, 500, text).sample, given(picture, 500, text).sample)


def test_the_adapter_is_saved_under_the_published_names() -> None:
    for patches, published in ((False, parts.global_adapter()), (True, parts.patch_adapter())):
        torch.manual_seed(1)
        trainee = make_trainee(patches=patches)
        assert trainee.network.appearance is not None
        given = flatten_adapter(trainee.network.appearance.weights)
        read = flatten_adapter(read_adapter(trainee.network.unet))
        assert set(read) == set(given) == set(published)
        assert all(torch.equal(read[name], tensor) for name, tensor in given.items())


@pytest.mark.parametrize("patches", [False, True])
def test_a_dropped_picture_is_what_the_stage_calls_without(patches: bool) -> None:
    torch.manual_seed(0)
    trainee = make_trainee(patches=patches)
    grey = torch.full((1, 3, 32, 32), 0.25)
    assert trainee.network.appearance is not None
    without, with_picture = trainee.network.appearance.encode(_pixels(grey))[0].chunk(2)
    assert torch.allclose(trainee.look(grey, [False])[0], without, atol=1e-6)
    assert torch.allclose(trainee.look(grey, [True])[0], with_picture, atol=2e-2)  # uint8 in between
    assert not torch.allclose(without, with_picture, atol=2e-2)


def _pixels(pictures: Tensor) -> UInt8:
    pixels: UInt8 = ((pictures[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
    return pixels


def test_conditions_are_dropped_as_often_as_they_should_be() -> None:
    rng = random.Random(0)
    text, picture = Dropping().draw(20_000, rng)
    both = [a or b for a, b in zip(text, picture, strict=True)].count(False) / 20_000
    assert both == pytest.approx(0.05, abs=0.006)
    assert text.count(False) / 20_000 - both == pytest.approx(0.05, abs=0.006)
    assert picture.count(False) / 20_000 - both == pytest.approx(0.05, abs=0.006)


def test_a_dropped_caption_is_not_read() -> None:
    torch.manual_seed(0)
    trainee = make_trainee()
    batch = make_batch(2)
    losses = {}
    for share in (0.0, 1.0):
        trainee._dropping = Dropping(text=share, picture=0.0, both=0.0)
        for caption in ("a fox", "an owl"):
            torch.manual_seed(1)
            named = replace(batch, captions=(caption, caption))
            losses[share, caption] = trainee.loss(named, torch.tensor([200, 700]), NOISING, random.Random(0))
    assert losses[0.0, "a fox"] != losses[0.0, "an owl"]
    assert losses[1.0, "a fox"] == losses[1.0, "an owl"] != losses[0.0, "a fox"]


@pytest.mark.parametrize("frames", [1, 4])
def test_pictures_may_pass_the_motion_module_by(frames: int) -> None:
    found = {}
    for mode in ("single_frame", "bypass"):
        torch.manual_seed(0)
        trainee = make_trainee(image_mode=mode)
        trainee.choose(["motion", "appearance"])
        found[mode] = {name: grad for name, grad in gradients(trainee, frames).items() if "motion_modules" in name}
    largest = max(float(grad.abs().max()) for grad in found["single_frame"].values() if grad is not None)
    reached = {
        mode: {name for name, grad in some.items() if grad is not None and float(grad.abs().max()) > 1e-6 * largest}
        for mode, some in found.items()
    }
    if frames == 1:
        assert not reached["bypass"]
        silent = {name for name in found["single_frame"] if name not in reached["single_frame"]}
        assert silent == {name for name in found["single_frame"] if ".to_q." in name or ".to_k." in name}
    else:
        assert reached["bypass"] == reached["single_frame"] == set(found["bypass"])


@pytest.mark.parametrize("frames", [1, 4])
def test_checkpointing_keeps_less_and_changes_no_gradient(frames: int) -> None:
    results = []
    for saving in (False, True):
        torch.manual_seed(0)
        trainee = make_trainee(image_mode="bypass")
        trainee.choose(TARGETS)
        trainee.all_modules().train()
        if saving:
            trainee.save_memory()
        kept = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            results.append((gradients(trainee, frames), kept))
    (plain, much), (saved, little) = results
    assert little < 0.8 * much
    for name, grad in plain.items():
        other = saved[name]
        assert (grad is None) == (other is None), name
        assert grad is None or other is None or torch.allclose(grad, other, rtol=1e-4, atol=1e-7), name


def test_wrong_parts_are_named(tmp_path: Path) -> None:
    trainee = make_trainee()
    with pytest.raises(InputError, match="There is no part 'text' to train; choose of: motion, control"):
        trainee.choose(["text"])  # type: ignore[list-item]
    trainee._controls = []
    with pytest.raises(InputError, match="There is no ControlNet to train"):
        trainee.choose(["control"])
    keyed = make_trainee("keyframes")
    with pytest.raises(InputError, match="'control' reads every keyframe, the batch has only the reference"):
        keyed.loss(replace(make_batch(2), keyframes=None), torch.tensor([1, 2]), NOISING, random.Random(0))
