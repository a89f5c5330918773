"""Which stage runs on which GPU of one machine, and what of it waits in main memory: a pure function.

Takes the GPUs with their free memory and what each stage needs of one (`needs_of`, from `python -m stages cost`); gives
a `Placement`, or one sentence about what is missing. Of all ways in which the stages fit, it takes the one that moves
the fewest weights for a video; of these the one whose busiest GPU has the least to compute; of these the one in which
fewest stages share a process. With GPUs left over and room for any stage on each, the stages with most to compute get
more replicas. Knows neither Ray nor torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from typing import Any

from deployments.errors import ConfigError
from stages.speed import OFFLOADS, Offload
from stages.types import STAGE_NAMES, StageName

GIB = 2**30
_Score = tuple[float, tuple[float, ...], int, float]  # weights moved, loads of GPUs, processes shared, small GPUs used
_PAIR: tuple[StageName, StageName] = ("i2v", "v2v")  # they may live in one process and take turns
_HOW = {"none": "", "model": "model by model from main memory", "layers": "layer by layer from main memory"}


@dataclass(frozen=True)
class Gpu:
    """One GPU. `gib` is what is free of `total_gib`."""

    index: int
    gib: float
    name: str = "GPU"
    total_gib: float = 0.0

    def __str__(self) -> str:
        used = f", of {self.total_gib:.1f}" if self.total_gib - self.gib > 1 else ""
        return f"GPU {self.index} ({self.name}, {self.gib:.1f} GiB free{used})"


@dataclass(frozen=True)
class Need:
    """What one stage needs, in GiB, and how much it computes for a video."""

    resident: Mapping[Offload, float]  # weights on the GPU
    peak: float  # beside them, while a call computes
    moved: Mapping[Offload, float]  # weights that come to the GPU for one video
    weights: float
    load: float
    overhead: float = 1.0  # of a process


@dataclass(frozen=True)
class Place:
    """Where a stage runs."""

    gpus: tuple[int, ...]  # one replica on each
    gib: float  # of each; with what lives there, too
    offload: Offload = "none"
    lives_with: StageName | None = None
    chosen_by_ray: bool = False


@dataclass(frozen=True)
class Placement:
    """All stages."""

    places: Mapping[StageName, Place]
    share: float  # of a GPU, that Ray counts for one replica
    unused: tuple[int, ...] = ()
    main_gib: float = 0.0  # of weights that wait in main memory

    def used_gib(self, gpu: int) -> float:
        """What stands on that GPU."""
        there = [place for place in self.places.values() if gpu in place.gpus and place.lives_with is None]
        return sum(place.gib for place in there)

    def lines(self, gpus: Sequence[Gpu]) -> list[str]:
        """A line a GPU: what is where, and how much of it."""
        shown = []
        for gpu in gpus:
            there = [_said(name, place) for name, place in self.places.items() if gpu.index in place.gpus]
            used = f"{self.used_gib(gpu.index):.1f} GiB: {', '.join(there)}" if there else "not used"
            shown.append(f"  {gpu}: {used}")
        return shown


@dataclass(frozen=True)
class _Fit:
    """How some stages fit on one GPU; the first in order is the best."""

    moved: float
    together: bool
    offloads: tuple[Offload, ...] = field(compare=False)
    gib: tuple[float, ...] = field(compare=False)  # of each; 0 for one that lives with another

    def __lt__(self, other: "_Fit") -> bool:
        return (self.moved, self.together) < (other.moved, other.together)


def needs_of(document: Mapping[str, Any]) -> dict[StageName, Need]:
    """From what `python -m stages cost --json` says."""
    found: dict[StageName, Need] = {}
    for name in STAGE_NAMES:
        cost = document["stages"][name]
        resident: dict[Offload, float] = {offload: cost["resident_if"][offload] / GIB for offload in OFFLOADS}
        weights, steps = cost["weight_bytes"] / GIB, cost["flops"] / cost["step_flops"] if cost["step_flops"] else 1.0
        times: dict[Offload, float] = {"none": 0.0, "model": cost["calls"], "layers": steps}
        found[name] = Need(
            resident=resident,
            peak=cost["activation_peak_bytes"] / GIB,
            moved={o: weights * times[o] if resident[o] < resident["none"] else 0.0 for o in OFFLOADS},
            weights=weights,
            load=cost["flops"],
            overhead=document["overhead_bytes"] / GIB,
        )
    return found


def place(gpus: Sequence[Gpu], needs: Mapping[StageName, Need], preset: str) -> Placement:
    """Where each stage runs.

    Raises:
        ConfigError: they do not fit; it says what is needed, what there is, and what to do.
    """
    ordered = sorted(gpus, key=lambda gpu: (-gpu.gib, gpu.index))
    if len(ordered) > len(STAGE_NAMES):
        if (spread := _spread(ordered, needs)) is not None:
            return spread
        ordered = ordered[: len(STAGE_NAMES)]

    @cache
    def fits(gib: float, names: tuple[StageName, ...]) -> _Fit | None:
        return _fit(gib, {name: needs[name] for name in names})

    best: tuple[_Score, dict[int, tuple[StageName, ...]]] | None = None
    for where in product(range(len(ordered)), repeat=len(STAGE_NAMES)):
        groups = {
            number: tuple(name for name, on in zip(STAGE_NAMES, where, strict=True) if on == number)
            for number in sorted(set(where))
        }
        found = [fit for number, names in groups.items() if (fit := fits(ordered[number].gib, names)) is not None]
        if len(found) < len(groups):
            continue
        loads = [sum(needs[name].load for name in names) for names in groups.values()]
        busiest = tuple(sorted(loads, reverse=True))
        roomy = sum(load * ordered[number].gib for load, number in zip(loads, groups, strict=True))
        score = (sum(fit.moved for fit in found), busiest, sum(fit.together for fit in found), -roomy)
        if best is None or score < best[0]:
            best = score, groups
    if best is None:
        raise ConfigError(_too_small(ordered, needs, preset))
    places: dict[StageName, Place] = {}
    for number, names in best[1].items():
        chosen = fits(ordered[number].gib, names)
        assert chosen is not None
        for name, offload, gib in zip(names, chosen.offloads, chosen.gib, strict=True):
            home = _PAIR[0] if chosen.together and name == _PAIR[1] else None
            places[name] = Place((ordered[number].index,), gib, offload, home)
    return _placement(places, gpus, needs, most=max(len(names) for names in best[1].values()))


def _placement(
    places: Mapping[StageName, Place], gpus: Sequence[Gpu], needs: Mapping[StageName, Need], most: int
) -> Placement:
    used = {gpu for place in places.values() for gpu in place.gpus}
    waiting = sum(needs[name].weights * len(place.gpus) for name, place in places.items() if place.offload != "none")
    return Placement(
        places={name: places[name] for name in STAGE_NAMES},
        share=int(10_000 / most) / 10_000,  # Ray counts in such steps
        unused=tuple(gpu.index for gpu in gpus if gpu.index not in used),
        main_gib=waiting,
    )


def _spread(gpus: Sequence[Gpu], needs: Mapping[StageName, Need]) -> Placement | None:
    """A whole GPU for every replica, where any stage has room on each: Ray may then choose which.

    None, where it has not. A stage that moves weights gets no second replica, which would hold them in main memory.
    """
    fits: dict[StageName, _Fit] = {}
    for name in STAGE_NAMES:
        fit, best = (_fit(gpu.gib, {name: needs[name]}) for gpu in (gpus[-1], gpus[0]))
        if fit is None or best is None or best < fit:
            return None
        fits[name] = fit
    replicas = dict.fromkeys(STAGE_NAMES, 1)
    for _ in range(len(gpus) - len(STAGE_NAMES)):
        busiest = max(STAGE_NAMES, key=lambda name: needs[name].load / replicas[name])
        if fits[busiest].moved:
            break  # more of the others would wait for it
        replicas[busiest] += 1
    free, places = [gpu.index for gpu in gpus], dict[StageName, Place]()
    for name, fit in fits.items():
        taken, free = tuple(free[: replicas[name]]), free[replicas[name] :]
        places[name] = Place(taken, fit.gib[0], fit.offloads[0], chosen_by_ray=True)
    return _placement(places, gpus, needs, most=1)


def _fit(gib: float, needs: Mapping[StageName, Need]) -> _Fit | None:
    """The best way in which these stages have room at once."""
    names = tuple(needs)
    found: list[_Fit] = []
    for offloads in product(OFFLOADS, repeat=len(names)):
        of = dict(zip(names, offloads, strict=True))
        moved = sum(needs[name].moved[of[name]] for name in names)
        alone = {name: needs[name].resident[of[name]] + needs[name].peak + needs[name].overhead for name in names}
        found.append(_Fit(moved, False, offloads, tuple(alone.values())))
        if all(name in needs for name in _PAIR) and of[_PAIR[0]] == of[_PAIR[1]]:
            both = {**alone, _PAIR[0]: _in_turns(of[_PAIR[0]], [needs[name] for name in _PAIR]), _PAIR[1]: 0.0}
            found.append(_Fit(moved, True, offloads, tuple(both[name] for name in names)))
    return min((fit for fit in found if sum(fit.gib) <= gib), default=None)


def _in_turns(offload: Offload, needs: Sequence[Need]) -> float:
    """Of stages that live in one process: each model leaves the GPU with its own call, or all weights stay."""
    overhead = max(need.overhead for need in needs)
    if offload == "model":
        return max(need.resident[offload] + need.peak for need in needs) + overhead
    return sum(need.resident[offload] for need in needs) + max(need.peak for need in needs) + overhead


def _too_small(gpus: Sequence[Gpu], needs: Mapping[StageName, Need], preset: str) -> str:
    largest = gpus[0]
    least = {name: min(need.resident.values()) + need.peak + need.overhead for name, need in needs.items()}
    hungry = max(least, key=lambda name: least[name])
    if least[hungry] > largest.gib:
        lacks = (
            f"Stage {hungry} of preset {preset} needs {least[hungry]:.1f} GiB of a GPU even layer by layer, and "
            f"{largest} is the largest given"
        )
    else:
        lacks = (
            f"The stages of preset {preset} need {' + '.join(f'{gib:.1f}' for gib in least.values())} GiB of GPUs even "
            f"layer by layer, and free are {' + '.join(f'{gpu.gib:.1f}' for gpu in gpus)} GiB, on "
            f"{', '.join(f'GPU {gpu.index}' for gpu in gpus)}"
        )
    return (
        f"{lacks}; end what uses their memory, give more with --gpus, take a smaller preset (--preset tiny needs no "
        "GPU), or a cluster's with --cluster."
    )


def _said(name: StageName, place: Place) -> str:
    if place.lives_with is not None:
        return f"{name} in turns with {place.lives_with}"
    how = f" ({_HOW[place.offload]})" if place.offload != "none" else ""
    return f"{name} {place.gib:.1f}{how}"
