"""ReFL raises its reward, DPO its margin; at a low rank the weights below stay as they were."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor

from stages.base import InputError, ignore_progress
from stages.model.network.text import TextEncoder
from stages.presets import PAPER, T2IParams
from stages.t2i.stage import OwnLoop
from stages.training.feedback.dpo import margin, train_dpo
from stages.training.feedback.refl import ReFL, train_refl
from stages.training.feedback.rewards import ask, colourfulness, load_reward, sharpness
from stages.training.feedback.spatial import SpatialTrainee, base_noise
from stages.training.loop.loop import Options, Precision, Schedule
from stages.training.video.batches import Batch
from stages.training.video.lora import FILE, add_lora
from stages.training.video.noising import Noising
from tests.stages import random_parts as parts

NOISE = base_noise(PAPER)
SCHEDULE = Schedule(30, 2e-3, warmup=1, decay=0.01, ema=0.5)
RATES = {0: 2e-3, 4: 2e-2}  # by rank
PROMPTS = ("a fox", "an owl")


def make(rank: int = 0, **unet: Any) -> SpatialTrainee:
    torch.manual_seed(0)
    text = TextEncoder(parts.make_tokenizer(), parts.make_text().requires_grad_(False))
    return SpatialTrainee(parts.make_unet(**unet), parts.make_vae().requires_grad_(False), text, rank)


def redness(pictures: Tensor, prompts: Sequence[str]) -> Tensor:
    return pictures[:, 0].mean((1, 2)) - pictures[:, 1:].mean((1, 2, 3))


def mean_reward(trainee: SpatialTrainee) -> float:
    """Over pictures that T2I's own loop draws."""
    painter = OwnLoop(trainee.unet, trainee.vae, trainee.text)
    params = T2IParams("a fox", "", (32, 32), replace(NOISE, steps=4, guidance=1.0))
    pixels = [painter.paint([(params, seed)], ignore_progress)[0] for seed in range(4)]
    pictures = torch.stack([torch.from_numpy(p.copy()).permute(2, 0, 1) / 127.5 - 1 for p in pixels])
    return float(redness(pictures, PROMPTS).mean())


class Pairs:
    """Latents that are bright where the pair's better one is."""

    def draw(self, count: int, rng: random.Random) -> tuple[Batch, Batch]:
        generator = torch.Generator().manual_seed(rng.randrange(4))
        base = torch.randn((count, 1, 4, 4, 4), generator=generator)
        captions = tuple(rng.choice(PROMPTS) for _ in range(count))
        empty = torch.zeros(count, 3, 8, 8)
        return Batch(base + 0.7, empty, captions), Batch(base - 0.7, empty, captions)


def fixed_margin(trainee: SpatialTrainee, reference: object) -> Tensor:
    better, worse = Pairs().draw(16, random.Random(0))
    noise = torch.randn(16, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    times = torch.arange(20, 980, 60)
    with torch.no_grad():
        return margin(
            trainee, reference, better.latents[:, 0], worse.latents[:, 0], better.captions, times, noise, Noising(NOISE)
        )


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "precision"), [(0, "no"), (0, "bf16"), (4, "no")])
def test_refl_raises_the_mean_reward(tmp_path: Path, rank: int, precision: Precision) -> None:
    trainee = make(rank)
    before = mean_reward(trainee)
    base = {name: p.detach().clone() for name, p in trainee.unet.named_parameters() if not p.requires_grad}
    recipe = ReFL((32, 32), batch=2, steps=4, first=2)
    options = Options(precision=precision, row_every=5)
    schedule = replace(SCHEDULE, learning_rate=RATES[rank])
    train_refl(trainee, redness, PROMPTS, recipe, NOISE, schedule, tmp_path, options=options)
    assert mean_reward(trainee) > before + (0.003 if rank else 0.01)
    rewards = [float(line.split(",")[-1]) for line in (tmp_path / "refl.csv").read_text().splitlines()[1:]]
    assert rank or rewards[-1] > rewards[0]
    assert bool(base) == bool(rank)
    after = dict(trainee.unet.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in base.items())


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
def test_dpo_lowers_its_loss_and_widens_the_margin_of_its_pairs(tmp_path: Path, rank: int) -> None:
    trainee = make(rank)
    reference = trainee.reference()
    assert torch.equal(fixed_margin(trainee, reference), torch.zeros(16))
    schedule = replace(SCHEDULE, learning_rate=RATES[rank])
    train_dpo(trainee, Pairs(), NOISE, schedule, tmp_path, batch=4, beta=100.0, options=Options(row_every=5))
    margins = fixed_margin(trainee, reference)
    assert float(margins.mean()) > 0
    assert float((margins > 0).float().mean()) > 0.8
    assert float(-torch.nn.functional.logsigmoid(100 * margins).mean()) < 0.69
    header, *lines = (tmp_path / "dpo.csv").read_text().splitlines()
    assert header == "step,loss,rate,seconds,accuracy,margin"
    assert float(lines[-1].split(",")[1]) < float(lines[0].split(",")[1])


def test_a_unet_that_hears_pooled_text_is_told_it() -> None:
    trainee, deaf = make(**parts.TOLD), make()
    assert fixed_margin(trainee, trainee.reference()).shape == (16,)
    said = trainee.say(trainee.unet, torch.randn(2, 4, 4, 4), torch.tensor([10, 500]), trainee.read(PROMPTS))
    torch.autograd.backward(said.mean())
    gradient = trainee.unet.add_embedding.linear_1.weight.grad
    assert float(gradient[:, : parts.TEXT].abs().max()) > 0
    assert not hasattr(deaf.unet, "add_embedding")


def test_a_low_rank_change_is_off_saved_and_merged(tmp_path: Path) -> None:
    trainee = make(rank=2)
    plain = make().unet.eval()
    inputs = (torch.randn(1, 4, 4, 4), 10, torch.randn(1, 16, parts.TEXT))
    with torch.no_grad():
        assert torch.equal(trainee.unet(*inputs).sample, plain(*inputs).sample)  # it starts at nothing
        for name, parameter in trainee.unet.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.1)
        changed = trainee.unet(*inputs).sample
        assert not torch.allclose(changed, plain(*inputs).sample)
        with trainee.as_before():
            assert torch.equal(trainee.unet(*inputs).sample, plain(*inputs).sample)
    assert trainee.save(tmp_path, torch.float32) == ["unet", "lora"]
    merged = UNet2DConditionModel.from_pretrained(tmp_path / "unet").eval()
    with torch.no_grad():
        assert torch.allclose(merged(*inputs).sample, changed, atol=1e-4)
    tensors = load_file(tmp_path / "lora" / FILE)
    name = next(key for key in tensors if key.endswith("attn1.to_q.lora_A.weight")).removesuffix(".lora_A.weight")
    weight = name.removeprefix("unet.") + ".weight"
    summed = plain.state_dict()[weight] + tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
    assert torch.allclose(summed, merged.state_dict()[weight], atol=1e-6)


def test_rewards_are_functions_by_name() -> None:
    assert load_reward("stages.training.feedback.rewards:colourfulness") is colourfulness
    for name in ("sharpness", "no_such_module:f", "stages.training.feedback.rewards:beauty", ":f"):
        with pytest.raises(
            InputError, match=rf"'{name}' cannot be imported .*name it as module:function, .*PYTHONPATH"
        ):
            load_reward(name)
    with pytest.raises(InputError, match=r"'stages\.training\.feedback\.rewards' is a module; name a function"):
        load_reward("stages.training.feedback.rewards")


def test_the_rewards_here_rise_with_what_they_are_named_for() -> None:
    grey, red = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    red[:, 0] = 1
    board = torch.zeros(1, 3, 8, 8)
    board[..., ::2] = 1
    assert float(colourfulness(red, ["x"])) > float(colourfulness(grey, ["x"])) + 0.1
    assert float(sharpness(board, ["x"])) > float(sharpness(grey, ["x"])) + 0.1


def test_a_reward_that_cannot_teach_is_named() -> None:
    pictures = torch.zeros(2, 3, 4, 4, requires_grad=True)
    with pytest.raises(InputError, match=r"gave \(\) for 2 pictures; it gives a tensor of \(2,\)"):
        ask(lambda p, _: p.mean(), pictures, PROMPTS)
    with pytest.raises(InputError, match="has no gradient"):
        ask(lambda p, _: p.detach().mean((1, 2, 3)), pictures, PROMPTS)


def test_numbers_that_cannot_be(tmp_path: Path) -> None:
    trainee = make()
    with pytest.raises(InputError, match="first step with gradients is 4 of 4; it must be between 0 and 3"):
        train_refl(trainee, redness, PROMPTS, ReFL((32, 32), steps=4, first=4), NOISE, SCHEDULE, tmp_path)
    with pytest.raises(InputError, match="ReFL makes multiples of 8 pixels, the size is 30x32"):
        train_refl(trainee, redness, PROMPTS, ReFL((30, 32), steps=4, first=1), NOISE, SCHEDULE, tmp_path)
    with pytest.raises(InputError, match="DPO's beta is 0"):
        train_dpo(trainee, Pairs(), NOISE, SCHEDULE, tmp_path, beta=0)
    with pytest.raises(InputError, match="rank of a low-rank training is -1"):
        add_lora(trainee.unet, -1)
