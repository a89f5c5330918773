"""The two worlds: `first` (64 subjects, `scenes/captions`) and `wide` (424 subjects, `scenes/sentences`)."""

import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from benchmarks.tools.prompts import asked
from stages.presets import WEIGHTS, Preset
from stages.training.default import judges as wide_judges
from stages.training.scenes import captions, sentences
from stages.training.scenes.data import Scenes
from stages.training.scenes.fetch import cache_folder
from stages.training.scenes.moving import Clips
from stages.training.tiny import judges as first_judges
from stages.types import UInt8
from stages.words import load_vocabulary

__all__ = ["AXES", "First", "Seen", "Wide", "World", "world_of"]

AXES = ("subject", "place", "motion", "style")
_REAL_VARIANTS = range(2000, 2008)  # backgrounds of the first world that nothing was trained on
_MISREAD = ("horse racing", "monkey that covers its eyes")  # as a horse that races, a monkey
_MOST_REFUSED = 2000  # draws in a row


@dataclass(frozen=True)
class Seen:
    """What the judges see in a clip: a name for each of `AXES`, and the subject of every frame."""

    names: Mapping[str, str]
    frames: tuple[str, ...]

    def beside(self, wanted: Mapping[str, str]) -> dict[str, bool]:
        """What of it is right; `last` and `worst`: the subject in the last frame, and in all of them."""
        right = {axis: self.names[axis] == wanted[axis] for axis in AXES}
        alike = [name == wanted["subject"] for name in self.frames]
        return {**right, "last": alike[-1], "worst": all(alike)}


class World(Protocol):
    """See the top of this package."""

    name: str
    videos: int  # to measure
    scenes: int  # of them distinct; the first come twice, with other seeds

    def asked(self) -> list[Any]:
        """As many held-out scenes as `scenes`, the same every time."""

    def names(self, scene: Any) -> dict[str, str]:
        """What a scene shows, for each of `AXES`."""

    def prompt(self, scene: Any) -> str:
        """What asks for it, in the words of captions."""

    def real(self, scene: Any, frames: int, rng: random.Random) -> UInt8:
        """(frames, 256, 256, 3) of it."""

    def see(self, clip: UInt8) -> Seen:
        """What the judges see; they are trained when they are first asked."""


class First:
    """The world of the first sets of weights."""

    name, videos, scenes = "first", 200, 160

    def asked(self) -> list[Any]:
        return list(asked(self.scenes))

    def names(self, scene: Any) -> dict[str, str]:
        return {axis: getattr(scene, axis) for axis in AXES}

    def prompt(self, scene: Any) -> str:
        return captions.plain_caption(scene)

    def real(self, scene: Any, frames: int, rng: random.Random) -> UInt8:
        return self._drawn.clip(scene, frames, rng)

    def see(self, clip: UInt8) -> Seen:
        said = self._judges.verdict(clip)
        frames = tuple(self._judges.verdict(clip[at : at + 1]).subject for at in range(len(clip)))
        return Seen({axis: getattr(said, axis) for axis in AXES}, frames)

    @cached_property
    def _drawn(self) -> Scenes:
        return Scenes(cache_folder(), _REAL_VARIANTS)

    @cached_property
    def _judges(self) -> first_judges.Judges:
        return first_judges.obtain_judges(cache_folder())


class Wide:
    """The world of the next default set."""

    name, videos, scenes = "wide", 340, 300

    def asked(self) -> list[Any]:
        turns = itertools.count()
        return next(dealt for turn in turns if (dealt := self._dealt(random.Random(f"wide/{turn}"))))

    def _dealt(self, rng: random.Random) -> list[sentences.Scene]:
        """Names are dealt like cards until every hand is empty; nothing where the last cards make no scene."""
        hands: dict[str, list[str]] = {"subject": [], "place": [], "motion": [], "style": []}
        cards: dict[str, list[str]] = {
            "subject": [name for name in sentences.subjects() if name not in _MISREAD],
            "place": list(sentences.PLACES),
            "motion": list(sentences.MOTIONS),
            "style": list(sentences.STYLES),
        }
        chosen, refused = list[sentences.Scene](), 0
        while len(chosen) < self.scenes and refused < _MOST_REFUSED:
            for axis, hand in hands.items():
                if not hand:
                    hand += rng.sample(cards[axis], len(cards[axis]))
            subject, place, motion, style = (hand[-1] for hand in hands.values())
            scene = sentences.Scene((subject,), place, rng.choice(list(sentences.TIMES)), motion, style)
            if not scene.held_out or scene in chosen:
                for hand in hands.values():
                    hand.insert(rng.randrange(len(hand)), hand.pop())
                refused += 1
                continue
            chosen.append(scene)
            for hand in hands.values():
                hand.pop()
            refused = 0
        return chosen if len(chosen) == self.scenes else []

    def names(self, scene: Any) -> dict[str, str]:
        return {"subject": scene.subjects[0], "place": scene.place, "motion": scene.motion, "style": scene.style}

    def prompt(self, scene: Any) -> str:
        return sentences.plain_caption(scene)

    def real(self, scene: Any, frames: int, rng: random.Random) -> UInt8:
        return self._drawn.draw(scene, frames, rng)

    def see(self, clip: UInt8) -> Seen:
        said = self._judges.verdict(clip)
        return Seen({axis: getattr(said, axis) for axis in AXES}, said.frames)

    @cached_property
    def _drawn(self) -> Clips:
        return wide_judges.measured(cache_folder())

    @cached_property
    def _judges(self) -> wide_judges.Judges:
        return wide_judges.obtain_judges(cache_folder())


_WORLDS: Mapping[str, Callable[[], World]] = {"first": First, "wide": Wide}


def world_of(preset: Preset) -> World:
    """The one that a preset's weights were trained on."""
    return _WORLDS[load_vocabulary(WEIGHTS / preset.vocabulary).world]()
