"""Teaches the text encoder to read, from captions alone: `python -m stages.training.default.reading`.

From its pooled state small heads say what a scene shows: which of 424 subjects, what these look like (features and
colours of their animations), how many, where, when, how, in which weather, style and colour. It takes about six
CPU-minutes; through the loss of a denoiser alone an encoder learns places in an hour, and no subject. `pictures` begins
from it; the heads are dropped. Resumable. Also the tokenizer of the default model. Knows nothing of latents.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from stages.base import InputError
from stages.model.network.text import read
from stages.training.default.features import Features, fetch_features
from stages.training.loop.loop import Options, Schedule, console, train
from stages.training.loop.muon import Muon
from stages.training.scenes.fetch import cache_folder
from stages.training.scenes.sentences import (
    COLOURS,
    MOTIONS,
    PLACES,
    STYLES,
    TIMES,
    WEATHER,
    draw_scene,
    subjects,
    write_caption,
)
from stages.training.scenes.sprites import SpriteStore, open_store
from stages.training.tiny.tokens import build_tokenizer

__all__ = [
    "TEXT_WIDTH",
    "Heads",
    "build_text",
    "embeddings_of",
    "look_at",
    "loss_function",
    "main",
    "obtain_reader",
    "open_tokenizer",
]

TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS, TEXT_CONTEXT = 192, 3, 4, 32
TOKENS = 3000
STEPS, RATE, BATCH, EVERY = 1500, 2e-3, 128, 100
AXES: dict[str, tuple[str, ...]] = {
    "place": tuple(PLACES),
    "time": tuple(TIMES),
    "weather": tuple(WEATHER),
    "style": tuple(STYLES),
    "colour": ("", *COLOURS),
    "motion": tuple(MOTIONS),
}
_MOST = 3  # subjects of a scene
_CAPTIONS = 60_000  # that the tokenizer is learnt from
_LOOK, _LOOK_PX = 96, 192  # directions in which looks differ, and the side at which they are seen
_SKINS, _GREY = 3, 0.6 * 255  # of a subject, and what it stands on
_AXIS_SHARE = 0.5  # of every axis in the loss, beside the subject and its look


def open_tokenizer(cache: Path) -> Any:
    """The default model's, learnt on first use."""
    folder = cache / "pictures" / "tokenizer"
    if not folder.is_dir():
        rng = random.Random(0)
        build_tokenizer(folder, [write_caption(draw_scene(rng), rng) for _ in range(_CAPTIONS)], TOKENS)
    return CLIPTokenizer.from_pretrained(folder)


def build_text(tokenizer: Any) -> CLIPTextModel:
    """Untaught."""
    end = tokenizer.eos_token_id
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=4 * TEXT_WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=TEXT_HEADS,
            max_position_embeddings=TEXT_CONTEXT,
            projection_dim=TEXT_WIDTH,
            bos_token_id=end - 1,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def embeddings_of(text: nn.Module) -> list[nn.Parameter]:
    """Tables, for which Muon's steps are not made."""
    return [parameter for name, parameter in text.named_parameters() if "embedding" in name]


@torch.no_grad()
def look_at(store: SpriteStore, features: Features, codes: Sequence[str]) -> Tensor:
    """(N, K) what the subjects of these code points look like, in the `_LOOK` directions in which they differ most:
    features and coarse colours of two frames of up to three skins each, with a standard deviation of one over all."""
    found: dict[str, list[Any]] = {}
    for sprite in store.sprites:
        found.setdefault("-".join(f"{point:x}" for point in sprite.points), []).append(sprite)
    rows = list[Tensor]()
    for code in codes:
        shown = found[code][:_SKINS]
        frames = np.stack([store.frames[s.first + at] for s in shown for at in (0, s.count // 2)]).astype(np.float32)
        on_grey = frames[..., :3] + (1 - frames[..., 3:] / 255) * _GREY
        pictures = torch.from_numpy(on_grey).permute(0, 3, 1, 2) / 127.5 - 1
        seen = F.normalize(features(F.interpolate(pictures, size=(_LOOK_PX, _LOOK_PX), mode="area"))[-1], dim=1)
        colours = F.interpolate(pictures, size=(8, 8), mode="area")
        rows.append(torch.cat([F.adaptive_avg_pool2d(seen, 3).flatten(1), 0.3 * colours.flatten(1)], 1).mean(0))
    looks = torch.stack(rows)
    left, weights, _ = torch.linalg.svd(looks - looks.mean(0), full_matrices=False)
    told: Tensor = left[:, :_LOOK] * weights[:_LOOK]
    return told / told.std()


class Heads(nn.Module):
    """(N, width) pooled states to logits of subjects and axes, and to looks."""

    def __init__(self, width: int, looks: int) -> None:
        super().__init__()
        self.subject = nn.Linear(width, len(subjects()))
        self.look = nn.Linear(width, looks)
        self.count = nn.Linear(width, _MOST)
        self.axes = nn.ModuleDict({axis: nn.Linear(width, len(names)) for axis, names in AXES.items()})


def loss_function(
    modules: nn.ModuleDict, tokenizer: Any, looks: Tensor, batch: int = BATCH
) -> Callable[[int, random.Random], tuple[Tensor, dict[str, float]]]:
    """Of captions that are written anew at every step; says the share of captions whose subject is named right."""
    at = {name: index for index, name in enumerate(subjects())}

    def loss_of(step: int, rng: random.Random) -> tuple[Tensor, dict[str, float]]:
        scenes = [draw_scene(rng) for _ in range(batch)]
        captions = [write_caption(scene, rng) for scene in scenes]
        with torch.autocast("cpu", torch.bfloat16):
            told = read(modules["text"], tokenizer, captions).pooled
        pooled = told.float()
        heads: Any = modules["heads"]
        wanted = torch.zeros(batch, len(at))
        for row, scene in zip(wanted, scenes, strict=True):
            kinds = set(scene.subjects)
            for name in kinds:
                row[at[name]] = 1 / len(kinds)
        named = heads.subject(pooled)
        counts = torch.tensor([len(scene.subjects) - 1 for scene in scenes])
        others = F.cross_entropy(heads.count(pooled), counts)
        for axis, names in AXES.items():
            shown = torch.tensor([names.index(getattr(scene, axis)) for scene in scenes])
            others = others + F.cross_entropy(heads.axes[axis](pooled), shown)
        loss = F.cross_entropy(named, wanted) + F.mse_loss(heads.look(pooled), wanted @ looks) + _AXIS_SHARE * others
        right = wanted.gather(1, named.argmax(1, keepdim=True)) > 0
        return loss, {"subject": float(right.float().mean())}

    return loss_of


def build_optimizer(modules: nn.ModuleDict, parameters: list[nn.Parameter], rate: float) -> Muon:
    """Muon, with half the rate for the encoder's tables."""
    return Muon(parameters, rate, plain=embeddings_of(modules["text"]), plain_gain=0.5)


def obtain_reader(cache: Path, tokenizer: Any, steps: int = STEPS) -> CLIPTextModel:
    """The text encoder that can read, kept under `cache`; taught first if there is none.

    Raises:
        InputError: the one that is kept has another vocabulary.
    """
    work = cache / "reading"
    kept = work / "text_encoder"
    if not kept.is_dir():
        work.mkdir(parents=True, exist_ok=True)
        if not (work / "looks.pt").exists():
            codes = [subject.code for subject in subjects().values()]
            torch.save(look_at(open_store(cache), fetch_features(cache), codes), work / "looks.pt")
        looks: Tensor = torch.load(work / "looks.pt", weights_only=True)
        torch.manual_seed(3)
        modules = nn.ModuleDict({"text": build_text(tokenizer), "heads": Heads(TEXT_WIDTH, looks.shape[1])})
        train(
            "reading",
            modules,
            loss_function(modules, tokenizer, looks),
            Schedule(steps, RATE, warmup=100, decay=0.5, ema=0.99, every=EVERY),
            work,
            options=Options(optimizer=lambda parameters, rate: build_optimizer(modules, parameters, rate)),
        )
        draft, taught = kept.with_suffix(".tmp"), cast(CLIPTextModel, modules["text"])
        taught.save_pretrained(draft)
        draft.replace(kept)
    text: CLIPTextModel = CLIPTextModel.from_pretrained(kept, dtype=torch.float32)
    if (known := int(text.config.vocab_size)) != len(tokenizer):
        raise InputError(
            f"The text encoder in {kept} knows {known} tokens, the tokenizer has {len(tokenizer)}; delete {work} and "
            f"run it again."
        )
    return text


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.training.default.reading", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="data and results")
    parser.add_argument("--steps", type=int, default=STEPS, help="length of the run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    obtain_reader(args.cache, open_tokenizer(args.cache), args.steps)
    console.print(f"reading: {args.cache / 'reading' / 'text_encoder'}")


if __name__ == "__main__":
    main()
