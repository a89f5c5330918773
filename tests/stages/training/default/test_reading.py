"""The text encoder learns to read, narrow: its loss falls, looks of subjects differ, what is kept begins T2I's run."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stages.base import InputError
from stages.training.default.features import Features
from stages.training.default.reading import Heads, look_at, loss_function, obtain_reader
from stages.training.loop.loop import Schedule, train
from stages.training.scenes.sprites import Sprite, SpriteStore
from tests.stages import random_parts as parts


def test_subjects_look_different_and_their_skins_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.training.default.reading._LOOK_PX", 32)
    torch.manual_seed(0)
    colours = ((200, 40, 40), (200, 40, 40), (60, 80, 220), (230, 200, 50))
    frames = np.stack([np.full((64, 64, 4), (*colour, 255), np.uint8) for colour in colours])
    codes = ("1f44b-1f3fb", "1f44b-1f3ff", "26f5", "1f98a")
    store = SpriteStore(frames, tuple(Sprite(code, at, 1) for at, code in enumerate(codes)))
    looks = look_at(store, Features(), ("1f44b", "26f5", "1f98a"))
    assert looks.shape == (3, 3)
    assert float(looks.std()) == pytest.approx(1)
    assert float(torch.pdist(looks).min()) > 0.1


def test_the_loss_falls(tmp_path: Path) -> None:
    torch.manual_seed(0)
    text = parts.make_text()
    modules = nn.ModuleDict({"text": text, "heads": Heads(parts.TEXT, 4)})
    loss_of = loss_function(modules, parts.make_tokenizer(), torch.randn(424, 4), batch=8)
    before = text.get_input_embeddings().weight.detach().clone()

    def score() -> float:
        with torch.no_grad():
            return sum(float(loss_of(0, random.Random(seed))[0]) for seed in range(4))

    first = score()
    train("reading", modules, loss_of, Schedule(30, 1e-2, warmup=5, every=15), tmp_path)
    assert score() < 0.95 * first
    assert not torch.equal(before, text.get_input_embeddings().weight)


def test_what_is_kept_is_taken_and_must_know_the_tokenizer(tmp_path: Path) -> None:
    text, tokenizer = parts.make_text(), parts.make_tokenizer()
    text.save_pretrained(tmp_path / "reading" / "text_encoder")
    kept = obtain_reader(tmp_path, tokenizer)
    assert torch.equal(kept.final_layer_norm.weight, text.final_layer_norm.weight)
    tokenizer.add_tokens(["fox"])
    with pytest.raises(InputError, match=r"knows 54 tokens, the tokenizer has 55; delete .*reading and run it again"):
        obtain_reader(tmp_path, tokenizer)
