"""Human feedback of the tiny recipe: the reward, its way into the UNet, and what is kept of before."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stages.model.network.text import TextEncoder
from stages.training.feedback.rewards import ask
from stages.training.loop.loop import Schedule
from stages.training.scenes.captions import SUBJECTS, Scene
from stages.training.scenes.data import Scenes
from stages.training.tiny import recipe as tiny
from stages.training.tiny.coach import CoachReward, train_feedback
from stages.training.tiny.judges import AXES, PictureJudge, save_half
from stages.training.tiny.networks import build_text_encoder, build_unet
from stages.training.tiny.tokens import build_tokenizer
from stages.training.tiny.vae import build as build_vae

FOX, OWL = Scene("fox", "lake", "day"), Scene("owl", "lake", "day")


class SeesRed(PictureJudge):
    """Takes what is red for a fox."""

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        said = {axis: torch.zeros(len(pictures), len(names)) for axis, names in AXES.items()}
        fox = nn.functional.one_hot(torch.tensor(AXES["subject"].index("fox")), len(AXES["subject"]))
        said["subject"] = pictures[:, 0].mean((1, 2))[:, None] * 5 * fox
        return said


def test_the_reward_is_what_the_coach_believes_of_what_was_asked_for() -> None:
    reward = CoachReward(SeesRed(), {"a fox": FOX, "an owl": OWL})
    pictures = torch.zeros(3, 3, 64, 64)
    pictures[0, 0] = 1
    pictures.requires_grad_(True)
    red, grey, owl = ask(reward, pictures, ["a fox", "a fox", "an owl"])
    assert red > grey
    assert grey == owl
    assert red < 0
    red.backward()
    assert pictures.grad is not None
    assert (pictures.grad[0, 0] > 0).any()
    red_owl, *_ = ask(reward, pictures, ["an owl", "a fox", "a fox"])
    assert red_owl < owl


@pytest.mark.slow
def test_feedback_moves_the_unet_and_nothing_else(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(tmp_path / "tokenizer")
    text = TextEncoder(tokenizer, build_text_encoder(len(tokenizer), tokenizer.eos_token_id).requires_grad_(False))
    unet, vae = build_unet(), build_vae().eval()
    before = [{key: value.clone() for key, value in module.state_dict().items()} for module in (unet, vae, text.model)]
    train_feedback(unet, vae, text, SeesRed(), [FOX, OWL], Schedule(1, 1e-3, warmup=1), tmp_path)
    same = [
        all(torch.equal(value, old[key]) for key, value in module.state_dict().items())
        for module, old in zip((unet, vae, text.model), before, strict=True)
    ]
    assert same == [False, True, True]


@pytest.mark.slow
def test_the_unet_of_before_is_kept_and_feedback_runs_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer(tmp_path / "tokenizer")
    text = TextEncoder(tokenizer, build_text_encoder(len(tokenizer), tokenizer.eos_token_id).requires_grad_(False))
    coach = tmp_path / f"judges-{len(SUBJECTS)}" / "coach.safetensors"
    coach.parent.mkdir()
    save_half(PictureJudge(), coach)  # untrained: what it says is not the point
    folder = tmp_path / "weights" / "unet"
    build_unet().half().save_pretrained(folder)
    name = "diffusion_pytorch_model.safetensors"
    before = {key: value.clone() for key, value in load_file(folder / name).items()}

    class TwoScenes(Scenes):
        def __init__(self) -> None:
            self.training = [FOX, OWL]

    made = []
    for _ in range(2):
        tiny._feedback(tmp_path, text, build_vae().eval(), TwoScenes(), Schedule(1, 1e-3, warmup=1), tmp_path)
        made.append((tmp_path / "train" / "after" / name).stat().st_mtime_ns)
    after, kept = load_file(folder / name), load_file(tmp_path / "ablations" / "feedback" / "unet" / name)
    assert made[0] == made[1]
    assert all(torch.equal(kept[key], value) for key, value in before.items())
    assert any(not torch.equal(after[key], value) for key, value in before.items())
