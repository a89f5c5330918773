"""The plan of a study: which pairs there are, which rater sees which of them, in what order, on which side.

`make_plan` takes what was asked for and gives a `Plan`, once; its `digest` names it, and nothing of it changes
afterwards. Training comes first; checks are mixed into the trials that count: an identical pair shows one video on both
sides, a swapped repeat a pair of the same rater with its sides exchanged, a spoiled one a video beside a copy of it
that is plainly worse, so that its answer is known. Pure: chance is a seed.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from client.schema_studies import PAPER_CRITERIA, QUESTIONS, Choice, CreateStudy, Criterion, Exclusion, StudyVideo
from deployments.errors import InvalidRequestError

Kind = Literal["counted", "training", "identical", "swapped", "spoiled"]
SPOILED_COPIES = 4  # of a study
MAX_TRIALS = 200_000  # of all raters together
MAX_LENGTH_RATIO = 1.05


class Kept(BaseModel):
    """A video that a study is made of: a job's, or a file that was sent."""

    model_config = ConfigDict(frozen=True)

    id: str  # of the job or the file
    sha256: str
    key: str
    size_bytes: int
    width: int
    height: int
    frames: int
    fps: float
    seed: int | None = None

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


class Pair(BaseModel):
    """Two systems' videos of one item, by their places in `Plan`."""

    model_config = ConfigDict(frozen=True)

    a: int  # systems
    b: int
    item: int


class PlannedTrial(BaseModel):
    """A pair as one rater sees it. `flipped`: b, or the spoiled copy, is left. Of an identical pair: which is shown."""

    model_config = ConfigDict(frozen=True)

    pair: int
    flipped: bool
    kind: Kind


class Plan(BaseModel):
    """All that is fixed before the first vote."""

    model_config = ConfigDict(frozen=True)

    systems: tuple[str, ...]
    items: tuple[tuple[str, int], ...]  # prompt, take
    sources: tuple[tuple[Kept, ...], ...]  # by system and item
    criteria: tuple[Criterion, ...]
    pairs: tuple[Pair, ...]
    raters: tuple[tuple[PlannedTrial, ...], ...]
    exclusion: Exclusion
    min_watch_s: float
    show_prompt: bool
    seed: int
    spoiled: tuple[int, ...] = ()  # pairs with a spoiled copy of one of their videos

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(prompt for prompt, _ in self.items))

    def video(self, system: int, item: int) -> int:
        """A video's number in the study."""
        return system * len(self.items) + item

    def side(self, trial: PlannedTrial, side: Literal["left", "right"]) -> int:
        """The number of the video that a rater sees there."""
        pair = self.pairs[trial.pair]
        shows_b = trial.flipped if trial.kind == "identical" else trial.flipped == (side == "left")
        if self.is_spoiled(trial):
            return self.copy_of(trial.pair) if shows_b else self.sound(trial.pair)
        return self.video(pair.b if shows_b else pair.a, pair.item)

    def sound(self, pair: int) -> int:
        """The number of the video that a pair's spoiled copy is of. Its a and its b take turns: practice says that it
        is the better one, and so must not favour a system.
        """
        own = self.pairs[pair]
        return self.video(own.b if (self.spoiled.index(pair) + self.seed) % 2 else own.a, own.item)

    @property
    def videos(self) -> int:
        """How many are shown, spoiled copies too."""
        return len(self.systems) * len(self.items) + len(self.spoiled)

    def copy_of(self, pair: int) -> int:
        """The number of a pair's spoiled copy."""
        return len(self.systems) * len(self.items) + self.spoiled.index(pair)

    def is_spoiled(self, trial: PlannedTrial) -> bool:
        """Whether a rater sees a video beside its spoiled copy."""
        return trial.kind in ("training", "spoiled") and trial.pair in self.spoiled

    def expected(self, trial: PlannedTrial) -> dict[str, Choice]:
        """The known answers of a trial, by question."""
        if not self.is_spoiled(trial):
            return {}
        sound: Choice = "right" if trial.flipped else "left"
        return {criterion.name: sound for criterion in self.criteria if criterion.name in QUESTIONS}


@dataclass(frozen=True)
class Sizes:
    """How many trials of each kind a rater has."""

    counted: int
    training: int
    identical: int
    swapped: int
    spoiled: int = 0

    @property
    def all(self) -> int:
        return self.counted + self.training + self.identical + self.swapped + self.spoiled


def ids_of(asked: CreateStudy) -> list[str]:
    """The videos that a study names, once each.

    Raises:
        InvalidRequestError: one names none, or two.
    """
    return list(dict.fromkeys(_source(video) for system in asked.systems for video in system.videos))


def make_plan(asked: CreateStudy, kept: Mapping[str, Kept], seed: int) -> Plan:
    """The plan of a study.

    Args:
        kept: its videos by `ids_of`.

    Raises:
        InvalidRequestError: the sets do not pair, names repeat, or there are too many trials.
    """
    names = [system.name for system in asked.systems]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise _wrong("systems", f"Two systems are called {twice!r}; give each a name of its own.")
    criteria = tuple(asked.criteria or PAPER_CRITERIA)
    if len({each.name for each in criteria}) < len(criteria):
        raise _wrong("criteria", "Two criteria have one name; give each a name of its own.")
    items = _items(asked)
    by_item = [_by_item(system.name, system.videos) for system in asked.systems]
    sources = tuple(tuple(kept[_source(found[item])] for item in items) for found in by_item)
    _judge_lengths(names, items, sources)
    pairs = tuple(
        Pair(a=a, b=b, item=item) for item in range(len(items)) for a, b in combinations(range(len(names)), 2)
    )
    counted = min(asked.trials or len(pairs), len(pairs))
    known = any(criterion.name in QUESTIONS for criterion in criteria)
    sizes = Sizes(
        counted, asked.training, asked.identical, min(asked.swapped, counted // 2), asked.spoiled if known else 0
    )
    copies = min(SPOILED_COPIES, max(1, len(pairs) // 2), asked.training + asked.spoiled) if known else 0
    spoiled = np.random.default_rng([seed, 1]).permutation(len(pairs))[:copies].tolist()
    if (total := asked.raters * sizes.all) > MAX_TRIALS:
        raise _wrong(
            "trials",
            f"{asked.raters} raters with {total // asked.raters} trials each are {total} trials, and the limit is "
            f"{MAX_TRIALS}; have fewer raters, or set trials.",
        )
    return Plan(
        systems=tuple(names),
        items=items,
        sources=sources,
        criteria=criteria,
        pairs=pairs,
        raters=assign(len(pairs), asked.raters, sizes, seed, spoiled),
        exclusion=asked.exclusion,
        min_watch_s=asked.min_watch_s,
        show_prompt=asked.show_prompt,
        seed=seed,
        spoiled=tuple(spoiled),
    )


def assign(
    pairs: int, raters: int, sizes: Sizes, seed: int, spoiled: Sequence[int] = ()
) -> tuple[tuple[PlannedTrial, ...], ...]:
    """Every rater's trials: each pair is voted on as often as any other, give or take one, and half of a rater's pairs
    have b on the left. Every second pair for practice, from the first on, has a known answer, if any has.
    """
    chance = np.random.default_rng(seed)
    seen = np.zeros(pairs, dtype=int)
    others = [pair for pair in range(pairs) if pair not in spoiled] or range(pairs)
    made = []
    for _ in range(raters):
        chosen = np.lexsort((chance.random(pairs), seen))[: sizes.counted]
        seen[chosen] += 1
        practice = [
            _drawn(spoiled if spoiled and not number % 2 else others, "training", chance)
            for number in range(sizes.training)
        ]
        made.append((*practice, *_sequence(chance.permutation(chosen), pairs, sizes, spoiled, chance)))
    return tuple(made)


def _sequence(
    chosen: "np.ndarray[Any, Any]", pairs: int, sizes: Sizes, spoiled: Sequence[int], chance: np.random.Generator
) -> list[PlannedTrial]:
    """One rater's after practice: a repeat comes in the second half, of a pair in the first."""
    flips = chance.permutation(np.arange(len(chosen)) % 2 == chance.integers(2))
    counted = [
        PlannedTrial(pair=int(pair), flipped=bool(flip), kind="counted")
        for pair, flip in zip(chosen, flips, strict=True)
    ]
    half = (len(counted) + 1) // 2
    first, second = counted[:half], counted[half:]
    for place in chance.permutation(half)[: sizes.swapped]:
        old = counted[int(place)]
        again = PlannedTrial(pair=old.pair, flipped=not old.flipped, kind="swapped")
        second.insert(int(chance.integers(len(second) + 1)), again)
    sequence = first + second
    checks = [_drawn(range(pairs), "identical", chance) for _ in range(sizes.identical)]
    checks += [_drawn(spoiled, "spoiled", chance) for _ in range(sizes.spoiled)]
    for check in checks:
        sequence.insert(int(chance.integers(len(sequence) + 1)), check)
    return sequence


def _drawn(pairs: Sequence[int], kind: Kind, chance: np.random.Generator) -> PlannedTrial:
    return PlannedTrial(pair=pairs[int(chance.integers(len(pairs)))], flipped=bool(chance.integers(2)), kind=kind)


def _items(asked: CreateStudy) -> tuple[tuple[str, int], ...]:
    """What all systems have a video of.

    Raises:
        InvalidRequestError: one has a video that another lacks.
    """
    found = {system.name: {(video.prompt, video.take) for video in system.videos} for system in asked.systems}
    first = asked.systems[0]
    for system in asked.systems[1:]:
        for whole, lacks in ((first.name, system.name), (system.name, first.name)):
            if missing := sorted(found[whole] - found[lacks]):
                prompt, take = missing[0]
                raise _wrong(
                    "systems",
                    f"The sets do not pair: {lacks!r} lacks {len(missing)} of the {len(found[whole])} videos of "
                    f"{whole!r}, the first of them take {take} of {_shown(prompt)}; give both sets the same prompts.",
                )
    return tuple(dict.fromkeys((video.prompt, video.take) for video in first.videos))


def _judge_lengths(names: Sequence[str], items: Sequence[tuple[str, int]], sources: Sequence[Sequence[Kept]]) -> None:
    """Raises:
    InvalidRequestError: two videos last differently, so that no pair could loop in step.
    """
    all_of = [
        (video.seconds, name, item)
        for name, own in zip(names, sources, strict=True)
        for item, video in zip(items, own, strict=True)
    ]
    (least, short, item), (most, long, _) = min(all_of), max(all_of)
    if most > least * MAX_LENGTH_RATIO:
        raise _wrong(
            "systems",
            f"The video of {_shown(item[0])} (take {item[1]}) of {short!r} lasts {least:.2f} s and one of {long!r} "
            f"{most:.2f} s; all videos of a study must be of one length, so cut them to it.",
        )


def _by_item(name: str, videos: Sequence[StudyVideo]) -> dict[tuple[str, int], StudyVideo]:
    found: dict[tuple[str, int], StudyVideo] = {}
    for video in videos:
        if (video.prompt, video.take) in found:
            raise _wrong(
                "systems",
                f"System {name!r} has two videos of take {video.take} of {_shown(video.prompt)}; number them by take.",
            )
        found[video.prompt, video.take] = video
    return found


def _source(video: StudyVideo) -> str:
    if (video.video_id is None) == (video.file_id is None):
        raise _wrong("systems", f"A video of {_shown(video.prompt)} needs one of video_id and file_id.")
    return video.video_id or str(video.file_id)


def _shown(prompt: str) -> str:
    return repr(prompt if len(prompt) <= 60 else f"{prompt[:60]}...")


def _wrong(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=field, code="invalid_field")
