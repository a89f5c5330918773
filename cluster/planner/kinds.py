"""Kinds of jobs in one plan: how many of each, which stages they pass, and how long they keep a replica.

    4/min                                 as the preset's default request
    2/min,seconds=8,size=1280x720         longer or larger ones: more windows, more pixels
    1/min,until=t2i    1/min,from=v2v     jobs that end, or enter, at a stage

Takes a preset's sizes; memory of larger videos is not in a profile, and so not judged here. Pure.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.planner.profiles import StageProfile
from cluster.planner.queueing import Station, Visit
from stages.model.sampling.windows import plan_windows
from stages.presets import RequestError, get_preset, plan
from stages.types import STAGE_NAMES, StageName

_PER = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_RATES = "write it like 0.5/s, 12/min or 300/h"


class GoalError(ValueError):
    """No plan can hold the goal; one sentence with the nearest that one can."""


@dataclass(frozen=True)
class Load:
    """Calls of one job at a stage, and the frames and pixels of each."""

    calls: int
    frames: int
    pixels: int


@dataclass(frozen=True)
class Kind:
    """Jobs that are alike. Where `loads` says nothing, they are the profile's reference."""

    share: float = 1.0  # of all jobs
    path: tuple[StageName, ...] = STAGE_NAMES
    loads: Mapping[StageName, Load] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Stay:
    """One job of a kind at one stage: seconds that it keeps a replica, and that it is computed."""

    job_s: float
    stay_s: float
    cv: float
    calls: int


def stay(kind: Kind, stage: StageName, own: StageProfile) -> Stay:
    """Of a job that passes the stage."""
    load = kind.loads.get(stage)
    cv = own.cv / math.sqrt(own.calls if load is None else load.calls)
    if load is None:
        return Stay(own.job_s, own.stay_s, cv, own.calls)
    call_s = own.call_s(frames=load.frames, pixels=load.pixels)
    longer = load.calls * call_s / (own.calls * own.call_s()) if own.call_s() else 1.0
    return Stay(own.job_s * longer, own.stay_s * longer, cv, load.calls)


def station(
    rate: float, kinds: Sequence[Kind], parts: Sequence[tuple[StageName, StageProfile, float]], *, spread: bool
) -> Station:
    """One server for these stages, each slower by a factor; with `spread`, calls of a job use idle servers.

    Where no job comes, the seconds are those of one that would.
    """
    visits, shares = list[Visit | None](), list[float]()
    mean = second = kept = 0.0
    for kind in kinds:
        stays = [(factor, stay(kind, name, own)) for name, own, factor in parts if name in kind.path]
        if not stays:
            visits.append(None)
            continue
        job_s = sum(factor * own.job_s for factor, own in stays)
        variance = sum((own.cv * factor * own.job_s) ** 2 for factor, own in stays)
        shares.append(kind.share)
        mean += kind.share * job_s
        kept += kind.share * sum(factor * own.stay_s for factor, own in stays)
        second += kind.share * (job_s**2 + variance)
        cv, calls = math.sqrt(variance) / job_s if job_s else 0.0, stays[0][1].calls if spread else 1
        visits.append(Visit(sum(factor * own.stay_s for factor, own in stays), cv, calls))
    passing = math.fsum(shares)
    if not passing:
        alone = station(rate, [Kind()], parts, spread=spread)
        return Station(0.0, alone.service_s, 1, alone.cv, alone.parts, visits=tuple(visits))
    mean, second, kept = mean / passing, second / passing, kept / passing
    cv = math.sqrt(max(0.0, second / mean**2 - 1)) if mean else 0.0
    only = visits[0] if len(kinds) == 1 else None
    if only is not None and passing == 1.0:
        return Station(rate, mean, 1, only.cv, only.parts, None if kept == mean else kept)
    most = max(visit.parts for visit in visits if visit is not None)
    return Station(rate * passing, mean, 1, cv, most, None if kept == mean else kept, tuple(visits))


def parse_rate(text: str) -> float:
    """Jobs a second.

    Raises:
        GoalError: another form, or none that can be.
    """
    number, _, per = text.partition("/")
    try:
        rate = float(number) / _PER[per or "s"]
    except (ValueError, KeyError):
        raise GoalError(f"--rate is {text!r}; {_RATES}.") from None
    if not 0 < rate < math.inf:
        raise GoalError(f"--rate is {text!r}; it must be above 0 and finite: {_RATES}.")
    return rate


def parse_money(text: str) -> float:
    """Money an hour.

    Raises:
        GoalError: another form, or none that can be.
    """
    number, _, per = text.partition("/")
    try:
        amount = float(number) * 3600.0 / _PER[per or "h"]
    except (ValueError, KeyError):
        raise GoalError(f"--budget is {text!r}; write it like 50/h or 1200/d.") from None
    if not 0 < amount < math.inf:
        raise GoalError(f"--budget is {text!r}; it must be above 0 and finite, like 50/h.")
    return amount


def parse_kinds(texts: Sequence[str], preset: str) -> tuple[float, tuple[Kind, ...]]:
    """All jobs a second, and the kinds of them.

    Raises:
        GoalError: one is written otherwise, or the preset has no such video.
    """
    made = [_kind(text, preset) for text in texts]
    total = math.fsum(rate for rate, _ in made)
    return total, tuple(Kind(rate / total, kind.path, kind.loads, kind.name) for rate, kind in made)


def _kind(text: str, preset: str) -> tuple[float, Kind]:
    first, *rest = text.split(",")
    rate, given = parse_rate(first), dict[str, str]()
    for part in rest:
        key, _, value = part.strip().partition("=")
        if key not in ("size", "seconds", "from", "until") or not value or key in given:
            raise GoalError(
                f"--rate is {text!r}, where {part!r} says nothing; behind the rate stand size=, seconds=, from= and "
                "until=, each once, like 2/min,seconds=8,until=v2v."
            )
        given[key] = value
    for key in ("from", "until"):
        if given.get(key, STAGE_NAMES[0]) not in STAGE_NAMES:
            raise GoalError(f"--rate is {text!r}; {key}= names a stage, one of {', '.join(STAGE_NAMES)}.")
    names = [str(name) for name in STAGE_NAMES]
    first_at, last_at = names.index(given.get("from", names[0])), names.index(given.get("until", names[-1]))
    if first_at > last_at:
        raise GoalError(
            f"--rate is {text!r}, whose from={names[first_at]} comes after until={names[last_at]}; stages go "
            f"{', '.join(names)}."
        )
    loads = loads_of(preset, given.get("size"), given.get("seconds")) if {"size", "seconds"} & set(given) else {}
    return rate, Kind(1.0, STAGE_NAMES[first_at : last_at + 1], loads, ",".join(part.strip() for part in rest))


def loads_of(preset: str, size: str | None = None, seconds: str | None = None) -> dict[StageName, Load]:
    """Of a video; what is left out is the preset's.

    Raises:
        GoalError: the preset has no such video.
    """
    try:
        request = plan(get_preset(preset), "x", size=size, seconds=seconds)
    except RequestError as error:
        raise GoalError(f"--rate: {error}") from error
    windows = plan_windows(request.i2v.frames, request.v2v.windows)
    count, window = len(windows), len(windows[0])
    area: dict[StageName, int] = {
        "t2i": math.prod(request.t2i.size),
        "i2v": math.prod(request.i2v.size),
        "v2v": math.prod(request.v2v.size),
    }
    return {
        "t2i": Load(1, 1, area["t2i"]),
        "i2v": Load(1, request.i2v.frames, area["i2v"]),
        "v2v": Load(count, window, area["v2v"]),
        "vfi": Load(count, (window - 1) * request.vfi.factor + 1, area["v2v"]),
    }
