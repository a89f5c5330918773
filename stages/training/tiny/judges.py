"""Judges of what a clip shows: subject, place and time of one frame, motion of a whole clip.

Small classifiers, trained only on composed clips, with backgrounds and seeds that no generator was trained on, over all
triples, held out or not. They never see what a model made while they learn. `obtain_judges` makes them from nothing in
about half an hour of one core, once; `Judges.verdict` judges clips of any size. Knows nothing of generators.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from stages.model.network.pictures import resize_frames
from stages.training.loop.loop import Schedule, console, train
from stages.training.scenes.captions import MOTIONS, PLACES, STYLES, SUBJECTS, TIMES, Scene, all_scenes
from stages.training.scenes.data import Scenes
from stages.types import UInt8

FRAMES = 16
VARIANTS = range(1000, 1024)  # backgrounds of the judges alone
PICTURE_PX, _MOTION_PX = 96, 48
_BATCH = 32
AXES: dict[str, tuple[str, ...]] = {
    "subject": tuple(SUBJECTS),
    "place": tuple(PLACES),
    "time": tuple(TIMES),
    "style": tuple(STYLES),
}


@dataclass(frozen=True)
class Verdict:
    """What the judges see in one clip."""

    subject: str
    place: str
    time: str
    style: str
    motion: str


def _block(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=2, padding=1),
        nn.GroupNorm(8, outside),
        nn.SiLU(),
        nn.Conv2d(outside, outside, 3, padding=1),
        nn.GroupNorm(8, outside),
        nn.SiLU(),
    )


class PictureJudge(nn.Module):
    """(N, 3, 96, 96) in -1..1 to logits for every axis of `AXES`."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(_block(3, 24), _block(24, 48), _block(48, 96), _block(96, 128))
        self.heads = nn.ModuleDict({axis: nn.Linear(128 * 9, len(names)) for axis, names in AXES.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits by axis."""
        features = F.adaptive_avg_pool2d(self.body(pictures), 3).flatten(1)
        return {axis: head(features) for axis, head in self.heads.items()}


class MotionJudge(nn.Module):
    """(N, 16, 48, 48) of brightness in -1..1 to logits for every motion: sees the frames and how they change."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(_block(2 * FRAMES - 1, 48), _block(48, 64), _block(64, 96))
        self.head = nn.Linear(96 * 9, len(MOTIONS))

    def forward(self, clips: Tensor) -> Tensor:
        """Logits."""
        made: Tensor = self.head(F.adaptive_avg_pool2d(self.body(_with_changes(clips)), 3).flatten(1))
        return made


def _with_changes(clips: Tensor) -> Tensor:
    """What the body of the motion judge reads: the frames, and how each differs from the one before."""
    return torch.cat([clips, 4 * clips.diff(dim=1)], 1)


class Judges:
    """Both judges."""

    def __init__(self, picture: PictureJudge, motion: MotionJudge) -> None:
        self._picture, self._motion = picture.eval(), motion.eval()

    @classmethod
    def load(cls, folder: Path) -> "Judges":
        """From what `train_judges` wrote into `folder`."""
        picture, motion = PictureJudge(), MotionJudge()
        load_half(picture, folder / "picture.safetensors")
        load_half(motion, folder / "motion.safetensors")
        return cls(picture, motion)

    @torch.no_grad()
    def verdict(self, clip: UInt8) -> Verdict:
        """Of (T, H, W, 3) uint8; of fewer or more than 16 frames, 16 are taken evenly."""
        places = np.linspace(0, len(clip) - 1, FRAMES).round().astype(int)
        shown = clip[places]
        logits = self._picture(_pictures(shown[:: FRAMES // 4]))
        said = {axis: names[int(logits[axis].mean(0).argmax())] for axis, names in AXES.items()}
        motion = list(MOTIONS)[int(self._motion(_motions([shown])).argmax())]
        return Verdict(**said, motion=motion)

    @torch.no_grad()
    def features(self, clip: UInt8) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What both know of (T, H, W, 3) uint8 before they name it: (4, 128) of four frames, (96,) of all."""
        places = np.linspace(0, len(clip) - 1, FRAMES).round().astype(int)
        shown = clip[places]
        frames = self._picture.body(_pictures(shown[:: FRAMES // 4])).mean((-2, -1))
        moving = self._motion.body(_with_changes(_motions([shown]))).mean((-2, -1))
        return frames.double().numpy(), moving[0].double().numpy()


def _pictures(frames: UInt8) -> Tensor:
    small = resize_frames(frames, (PICTURE_PX, PICTURE_PX))
    return torch.from_numpy(small).permute(0, 3, 1, 2).float() / 127.5 - 1


def _motions(clips: Sequence[UInt8]) -> Tensor:
    small = np.stack([resize_frames(clip, (_MOTION_PX, _MOTION_PX)).mean(-1) for clip in clips])
    return torch.from_numpy(small).float() / 127.5 - 1


@dataclass(frozen=True)
class _Lesson:
    """Composed clips, made small once: judges learn from many, and composing costs more than learning."""

    pictures: Tensor  # (N, 4, 3, 96, 96) uint8; one picture a clip where motion is not taught
    motions: Tensor  # (N, 16, 48, 48) uint8; empty where motion is not taught
    labels: dict[str, Tensor]  # axis or "motion" -> (N,)

    def __len__(self) -> int:
        return len(self.pictures)


def lesson(scenes: Scenes, count: int, seed: str, *, frames: int = FRAMES) -> _Lesson:
    """`count` composed clips of all scenes alike; of one frame for a lesson without motion."""
    rng = random.Random(seed)
    pictures, motions, chosen = [], [], rng.choices(all_scenes(), k=count)
    for scene in track(chosen, description=f"clips for {seed}", console=console):
        clip = scenes.clip(scene, frames, rng, after_s=rng.random() if frames == 1 else 0.0)
        pictures.append(resize_frames(clip[::4], (PICTURE_PX, PICTURE_PX)).transpose(0, 3, 1, 2))
        small = resize_frames(clip, (_MOTION_PX, _MOTION_PX)).mean(-1).astype(np.uint8)
        motions.append(small if frames == FRAMES else small[:0])
    return _Lesson(
        torch.from_numpy(np.stack(pictures)),
        torch.from_numpy(np.stack(motions)),
        {axis: torch.tensor([number_of(scene, axis) for scene in chosen]) for axis in (*AXES, "motion")},
    )


def number_of(scene: Scene, axis: str) -> int:
    """The class of a scene on one axis of `AXES`, or on "motion"."""
    names = tuple(MOTIONS) if axis == "motion" else AXES[axis]
    return names.index(getattr(scene, axis))


def judges_folder(cache: Path) -> Path | None:
    """Where the judges lie that were trained before; None where there are none yet."""
    folder = cache / f"judges-{len(SUBJECTS)}"
    return folder if (folder / "motion.safetensors").exists() else None


def obtain_judges(cache: Path) -> Judges:
    """The judges kept under `cache`, trained first if there are none; a run that was stopped goes on."""
    folder = cache / f"judges-{len(SUBJECTS)}"
    if not (folder / "motion.safetensors").exists():
        train_judges(Scenes(cache, VARIANTS), folder / "train", folder)
    return Judges.load(folder)


def train_judges(scenes: Scenes, work: Path, out: Path, *, clips: int = 5000, steps: int = 3000) -> None:
    """Make both judges and save them under `out`, float16. `scenes` must have the judges' `VARIANTS`."""
    known = lesson(scenes, clips, "judges")
    picture = teach_pictures(known, "judge-picture", steps, work, seed=4)
    torch.manual_seed(5)
    motion = MotionJudge()

    def motion_loss(step: int, rng: random.Random) -> Tensor:
        rows = torch.tensor([rng.randrange(len(known)) for _ in range(_BATCH)])
        shown = _worn(known.motions[rows].float() / 127.5 - 1, rng)
        return F.cross_entropy(motion(shown), known.labels["motion"][rows])

    train("judge-motion", motion, motion_loss, Schedule(steps, 1e-3), work)
    out.mkdir(parents=True, exist_ok=True)
    for module, name in ((picture, "picture"), (motion, "motion")):
        save_half(module, out / f"{name}.safetensors")


def teach_pictures(known: _Lesson, name: str, steps: int, work: Path, *, seed: int) -> PictureJudge:
    """A picture judge from nothing."""
    torch.manual_seed(seed)
    judge = PictureJudge()

    def loss_of(step: int, rng: random.Random) -> Tensor:
        rows = torch.tensor([rng.randrange(len(known)) for _ in range(_BATCH)])
        shown = known.pictures[rows, rng.randrange(known.pictures.shape[1])].float() / 127.5 - 1
        logits = judge(_worn(shown, rng))
        return torch.stack([F.cross_entropy(logits[axis], known.labels[axis][rows]) for axis in AXES]).sum()

    train(name, judge, loss_of, Schedule(steps, 1.5e-3), work)
    return judge


def save_half(module: nn.Module, file: Path) -> None:
    """All of a module in float16."""
    save_file({key: value.half().contiguous() for key, value in module.state_dict().items()}, file)


def load_half(module: nn.Module, file: Path) -> None:
    """What `save_half` wrote, in float32."""
    module.load_state_dict({key: value.float() for key, value in load_file(file).items()})


def _worn(shown: Tensor, rng: random.Random) -> Tensor:
    """Blurred, shifted and a little noisy, as what a decoder makes: judges are to look at shapes."""
    if rng.random() < 0.6:
        shown = shown.lerp(F.avg_pool2d(F.pad(shown, (1,) * 4, mode="replicate"), 3, stride=1), rng.random())
    shift = (rng.randint(-3, 3), rng.randint(-3, 3))
    shown = torch.roll(shown, shift, (-2, -1))
    return shown * rng.uniform(0.85, 1.1) + 0.06 * rng.random() * torch.randn_like(shown)
