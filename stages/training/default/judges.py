"""Judges of what a clip of the wider world shows: subject, place, time and style of every frame, motion of the whole.

Small heads on the features of EfficientNet-Lite0 (`features`), which stay as published; a head costs minutes where a
network from nothing costs hours. They learn from composed stills and clips of all triples, held out or not, some of
them softened as a decoder softens, and never see what a model made. `measured` draws the clips that they are tested on:
over backgrounds that neither they nor a generator have seen. Knows nothing of generators.

    python -m stages.training.default.judges      trains them, says what they are worth on real clips
"""

import argparse
import itertools
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from stages.model.network.pictures import resize_frames
from stages.training.default.features import Features, fetch_features
from stages.training.default.shelf import FRAMES
from stages.training.loop.loop import Schedule, console, train
from stages.training.scenes.animations import open_animations
from stages.training.scenes.composing import Pictures
from stages.training.scenes.crops import VARIANTS, open_backgrounds
from stages.training.scenes.fetch import cache_folder
from stages.training.scenes.moving import Clips
from stages.training.scenes.sentences import COLOURS, MOTIONS, NO_WEATHER, PLACES, STYLES, TIMES, Scene, subjects
from stages.training.scenes.sprites import open_store
from stages.types import UInt8

__all__ = [
    "AXES",
    "Judges",
    "Lesson",
    "Verdict",
    "any_scene",
    "main",
    "measured",
    "obtain_judges",
    "teach",
    "train_judges",
]

AXES: dict[str, tuple[str, ...]] = {
    "subject": tuple(subjects()),
    "place": tuple(PLACES),
    "time": tuple(TIMES),
    "style": tuple(STYLES),
}
MOTION_PX = 64
STILLS, CLIPS, STEPS = 20_000, 3000, 6000
_SEEN = (0, 5, 10, 15)  # frames of a clip that a lesson keeps
_PART = {"stills": 500, "clips": 50}  # of a lesson, a file
_BATCH = 64
_CHANNELS = 40 + 112  # of two stages of the features, 8 and 16 pixels a position
_PX = 256
_SOFT = 0.4  # of the pictures of a lesson


@dataclass(frozen=True)
class Verdict:
    """What the judges see in one clip."""

    subject: str
    place: str
    time: str
    style: str
    motion: str
    frames: tuple[str, ...]  # the subject, frame by frame


class PictureHeads(nn.Module):
    """(N, 152, 16, 16) features to logits for every axis of `AXES`."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(_CHANNELS, 256, 1), nn.GroupNorm(16, 256), nn.SiLU(),
            nn.Conv2d(256, 320, 3, stride=2, padding=1), nn.GroupNorm(16, 320), nn.SiLU(),
        )  # fmt: skip
        self.drop = nn.Dropout(0.2)
        self.heads = nn.ModuleDict({axis: nn.Linear(640, len(names)) for axis, names in AXES.items()})

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Logits by axis."""
        seen = self.body(features)
        pooled = self.drop(torch.cat([seen.amax((-2, -1)), seen.mean((-2, -1))], 1))
        return {axis: head(pooled) for axis, head in self.heads.items()}


class MotionHead(nn.Module):
    """(N, 16, 64, 64) in -1..1, grey, to logits of `MOTIONS`."""

    def __init__(self) -> None:
        super().__init__()
        widths = (2 * FRAMES - 1, 48, 64, 96, 128)
        layers = list[nn.Module]()
        for inside, outside in itertools.pairwise(widths):
            layers += [nn.Conv2d(inside, outside, 3, 2, 1), nn.GroupNorm(8, outside), nn.SiLU()]
            layers += [nn.Conv2d(outside, outside, 3, 1, 1), nn.GroupNorm(8, outside), nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1], len(MOTIONS))

    def forward(self, clips: Tensor) -> Tensor:
        """Logits."""
        seen = self.body(torch.cat([clips, 4 * clips.diff(dim=1)], 1))
        made: Tensor = self.head(torch.cat([seen.amax((-2, -1)), seen.mean((-2, -1))], 1))
        return made


class Judges:
    """Both, with the features that they read."""

    def __init__(self, features: Features, pictures: PictureHeads, motion: MotionHead) -> None:
        self._features, self._pictures, self._motion = features, pictures.eval(), motion.eval()

    @classmethod
    def load(cls, cache: Path, folder: Path) -> "Judges":
        """From what `train_judges` wrote into `folder`."""
        pictures, motion = PictureHeads(), MotionHead()
        for module, name in ((pictures, "pictures"), (motion, "motion")):
            module.load_state_dict(
                {key: value.float() for key, value in load_file(folder / f"{name}.safetensors").items()}
            )
        return cls(fetch_features(cache), pictures, motion)

    @torch.no_grad()
    def verdict(self, clip: UInt8) -> Verdict:
        """Of (T, H, W, 3) uint8; of fewer or more than 16 frames, 16 are taken evenly."""
        shown = clip[np.linspace(0, len(clip) - 1, FRAMES).round().astype(int)]
        logits = self._pictures(see(self._features, shown).float())
        said = {axis: names[int(logits[axis].mean(0).argmax())] for axis, names in AXES.items()}
        motion = list(MOTIONS)[int(self._motion(_greys(torch.from_numpy(grey(shown))[None])).argmax())]
        frames = tuple(AXES["subject"][int(index)] for index in logits["subject"].argmax(1))
        return Verdict(**said, motion=motion, frames=frames)


@torch.no_grad()
def see(features: Features, frames: UInt8) -> Tensor:
    """(T, 152, 16, 16) float16 of (T, H, W, 3) uint8."""
    large = frames if frames.shape[1:3] == (_PX, _PX) else resize_frames(frames, (_PX, _PX))
    pixels = torch.from_numpy(np.array(large)).permute(0, 3, 1, 2).float() / 127.5 - 1
    *_, fine, coarse = features(pixels.contiguous(memory_format=torch.channels_last))
    return torch.cat([F.avg_pool2d(fine, 2), coarse], 1).half().contiguous()


def grey(clip: UInt8) -> UInt8:
    """(T, 64, 64) of (T, H, W, 3)."""
    made: UInt8 = resize_frames(clip, (MOTION_PX, MOTION_PX)).mean(-1).astype(np.uint8)
    return made


def _greys(clips: Tensor) -> Tensor:
    return clips.float() / 127.5 - 1


def any_scene(rng: random.Random) -> Scene:
    """One subject, anywhere and anyhow, held out or not."""
    name, place = rng.choice(AXES["subject"]), rng.choice(AXES["place"])
    tinted = subjects()[name].kind in ("animal", "vehicle") and rng.random() < 0.2
    dry = place in NO_WEATHER or rng.random() < 0.75
    return Scene(
        (name,),
        place,
        rng.choice(AXES["time"]),
        rng.choice(list(MOTIONS)),
        rng.choice((*STYLES, "3d")),
        "none" if dry else rng.choice(("rain", "snow", "fog")),
        rng.choice(list(COLOURS)) if tinted else "",
    )


class _Unseen:
    """The held-out backgrounds, addressed as those of training are."""

    def __init__(self, backgrounds: UInt8, places: int) -> None:
        self._backgrounds, self._each = backgrounds, len(backgrounds) // places

    def __getitem__(self, index: int) -> UInt8:
        found: UInt8 = self._backgrounds[index // VARIANTS * self._each + index % self._each]
        return found


def measured(cache: Path) -> Clips:
    """Draws clips over backgrounds that nothing was trained on."""
    codes = [subject.code for subject in subjects().values()]
    unseen: Any = _Unseen(open_backgrounds(cache).held_out, len(PLACES) * len(TIMES))
    return Clips(open_animations(cache, codes), unseen)


@dataclass(frozen=True)
class Lesson:
    """What is learnt from, looked at once: features of pictures, small grey clips, and what they show."""

    features: Tensor  # (N, 152, 16, 16) float16
    scenes: list[Scene]  # of each
    clips: Tensor  # (M, 16, 64, 64) uint8
    moves: Tensor  # (M,)


def _lesson(cache: Path, folder: Path, stills: int, clips: int) -> Lesson:
    """Drawn and kept in parts below `folder`; a run that was stopped goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    features, store, training = fetch_features(cache), open_store(cache), open_backgrounds(cache).training
    pictures = Pictures(store, training)
    moving = Clips(open_animations(cache, [subject.code for subject in subjects().values()]), training)
    seen, scenes, greys, moves = list[Tensor](), list[Scene](), list[NDArray[np.uint8]](), list[int]()
    for kind, count in (("stills", stills), ("clips", clips)):
        for first in range(0, count, _PART[kind]):
            file, rng = folder / f"{kind}-{first:06d}.npz", random.Random(f"judges/{kind}/{first}")
            some = [any_scene(rng) for _ in range(min(_PART[kind], count - first))]
            if not file.exists():
                drawn = (
                    (pictures.draw(scene, rng)[None] if kind == "stills" else moving.draw(scene, FRAMES, rng))
                    for scene in some
                )
                _write(file, features, drawn, rng)
                console.print(f"judges: {first + len(some)}/{count} {kind}")
            with np.load(file) as kept:
                seen.append(torch.from_numpy(kept["features"]))
                if kind == "clips":
                    greys.append(kept["greys"])
                    moves += [list(MOTIONS).index(scene.motion) for scene in some]
            scenes += [scene for scene in some for _ in (_SEEN if kind == "clips" else (0,))]
    return Lesson(torch.cat(seen), scenes, torch.from_numpy(np.concatenate(greys)), torch.tensor(moves))


def _write(file: Path, features: Features, drawn: Iterator[UInt8], rng: random.Random) -> None:
    seen, greys = list[Tensor](), list[UInt8]()
    for clip in drawn:
        soft = _softened(clip, rng) if rng.random() < _SOFT else clip
        seen.append(see(features, soft if len(clip) == 1 else soft[list(_SEEN)]))
        greys.append(grey(soft) if len(clip) == FRAMES else np.zeros((0,), np.uint8))
    draft = file.with_suffix(".tmp.npz")
    np.savez(draft, features=torch.cat(seen).numpy(), greys=np.stack(greys))
    draft.replace(file)


def _softened(clip: UInt8, rng: random.Random) -> UInt8:
    side = round(_PX * rng.uniform(0.4, 0.8))
    return resize_frames(resize_frames(clip, (side, side)), (_PX, _PX))


def train_judges(cache: Path, out: Path, *, stills: int = STILLS, clips: int = CLIPS, steps: int = STEPS) -> None:
    """Make both and save them under `out`, float16."""
    teach(_lesson(cache, out / "lesson", stills, clips), out, steps)


def teach(known: Lesson, out: Path, steps: int, seed: int = 4) -> None:
    """Both heads from a lesson, into `out`."""
    labels = {
        axis: torch.tensor([
            names.index(scene.subjects[0] if axis == "subject" else getattr(scene, axis)) for scene in known.scenes
        ])
        for axis, names in AXES.items()
    }  # fmt: skip
    torch.manual_seed(seed)
    pictures, motion = PictureHeads(), MotionHead()

    def picture_loss(step: int, rng: random.Random) -> Tensor:
        rows = torch.tensor([rng.randrange(len(known.scenes)) for _ in range(_BATCH)])
        shown = known.features[rows].float()
        logits = pictures(shown.flip(-1) if rng.random() < 0.5 else shown)
        losses = [F.cross_entropy(logits[axis], labels[axis][rows], label_smoothing=0.05) for axis in AXES]
        return torch.stack(losses).sum()

    def motion_loss(step: int, rng: random.Random) -> Tensor:
        rows = torch.tensor([rng.randrange(len(known.clips)) for _ in range(_BATCH)])
        shown = _greys(known.clips[rows])
        shown = torch.roll(shown, (rng.randint(-3, 3), rng.randint(-3, 3)), (-2, -1)) * rng.uniform(0.8, 1.1)
        shown = shown.flip(-1) if rng.random() < 0.5 else shown
        return F.cross_entropy(motion(shown), known.moves[rows], label_smoothing=0.05)

    train("judge-pictures", pictures, picture_loss, Schedule(steps, 1.5e-3), out / "work")
    train("judge-motion", motion, motion_loss, Schedule(steps // 2, 1e-3), out / "work")
    for module, name in ((pictures, "pictures"), (motion, "motion")):
        state = {key: value.half().contiguous() for key, value in module.state_dict().items()}
        save_file(state, out / f"{name}.safetensors")


def obtain_judges(cache: Path) -> Judges:
    """The judges kept under `cache`, trained first if there are none; a run that was stopped goes on."""
    folder = cache / "judges-scenes"
    if not (folder / "motion.safetensors").exists():
        train_judges(cache, folder)
    return Judges.load(cache, folder)


def worth(judges: Judges, clips: Clips, count: int, seed: str = "worth") -> dict[str, float]:
    """Shares of `count` real clips over unseen backgrounds in which the judges are right."""
    rng, right = random.Random(seed), dict[str, list[float]]()
    for _ in range(count):
        scene = any_scene(rng)
        said = judges.verdict(clips.draw(scene, FRAMES, rng))
        wanted = {"subject": scene.subjects[0], **{axis: getattr(scene, axis) for axis in ("place", "time", "style")}}
        for axis, name in {**wanted, "motion": scene.motion}.items():
            right.setdefault(axis, []).append(float(getattr(said, axis) == name))
        right.setdefault("frames", []).append(_share(said.frames, scene.subjects[0]))
    return {axis: round(float(np.mean(values)), 3) for axis, values in right.items()}


def _share(frames: Sequence[str], name: str) -> float:
    return sum(one == name for one in frames) / len(frames)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.training.default.judges", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="data and results")
    parser.add_argument("--stills", type=int, default=STILLS, help="pictures to learn from")
    parser.add_argument("--clips", type=int, default=CLIPS, help="clips to learn from")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the optimiser")
    parser.add_argument("--measured", type=int, default=300, help="real clips that they are tested on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    out = args.cache / "judges-scenes"
    if not (out / "motion.safetensors").exists():
        train_judges(args.cache, out, stills=args.stills, clips=args.clips, steps=args.steps)
    print(json.dumps(worth(Judges.load(args.cache, out), measured(args.cache), args.measured)))


if __name__ == "__main__":
    main()
