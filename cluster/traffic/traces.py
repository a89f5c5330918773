"""When requests arrive: made by chance from a seed, or recorded.

A `Trace` is a list of arrivals in seconds from its start, each with an optional kind and an optional moment at which
its sender cancels. `make_trace` builds one from a `TraceSpec` (Poisson, bursts, a day's wave, or a recording),
`read_trace` reads a CSV with the columns `time_s` and, if wanted, `kind` and `cancel_s`. `kept_traces` gives the ten
of `ten_traces.json`. A recording with holes, or one that goes backwards, is refused: a gap would be taken for an idle
hour and every figure behind it would be wrong.

The same spec gives the same arrivals everywhere. Knows nothing of stages or of how long they take.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from client._shell.texts import read_text

Kind = Literal["poisson", "bursts", "diurnal", "recorded"]
MOST = 10_000_000  # requests of a trace
LONGEST_S = 366 * 86_400.0  # from its start to its end
KEPT = Path(__file__).with_name("ten_traces.json")


class TraceError(ValueError):
    """A trace that cannot be used, in one sentence."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request."""

    time_s: float
    kind: str = ""
    cancel_s: float | None = None  # when its sender cancels, from the start of the trace


@dataclass(frozen=True)
class Trace:
    """Arrivals in order, and how long they were watched for; the last one may lie well before the end."""

    name: str
    arrivals: tuple[Arrival, ...]
    span_s: float

    def __post_init__(self) -> None:
        before = 0.0
        if self.arrivals and self.arrivals[0].time_s < 0:
            raise TraceError(
                f"Trace {self.name!r} begins at 0 s, and its first arrival is at {self.arrivals[0].time_s:g} s; count "
                "from that one."
            )
        for number, arrival in enumerate(self.arrivals):
            if not math.isfinite(arrival.time_s) or arrival.time_s < before:
                raise TraceError(
                    f"Trace {self.name!r} goes backwards: arrival {number} is at {arrival.time_s:g} s, behind one at "
                    f"{before:g} s; sort it, or find out which clock jumped."
                )
            if arrival.cancel_s is not None and not arrival.cancel_s >= arrival.time_s:
                raise TraceError(
                    f"Trace {self.name!r} cancels arrival {number} at {arrival.cancel_s:g} s, before it arrives at "
                    f"{arrival.time_s:g} s."
                )
            before = arrival.time_s
        if not math.isfinite(self.span_s) or self.span_s < before:
            raise TraceError(f"Trace {self.name!r} spans {self.span_s:g} s, but its last arrival is at {before:g} s.")
        if self.span_s > LONGEST_S:
            raise TraceError(f"Trace {self.name!r} spans {self.span_s:g} s, at most {LONGEST_S:g} are simulated.")

    @property
    def rate_per_s(self) -> float:
        return len(self.arrivals) / self.span_s if self.span_s > 0 else 0.0


@dataclass(frozen=True)
class TraceSpec:
    """How a trace is made.

    `rate_per_s` is the mean of poisson and diurnal and the base rate of bursts. A burst sends `burst_size` requests,
    Poisson-distributed, within `burst_s`; bursts follow each other after exponential pauses of mean `pause_s`. A
    diurnal wave swings by `swing` (0 to 1) over `period_s`. `cancel_share` of the requests are cancelled, after an
    exponential patience of mean `patience_s`. `kinds` are shares of the requests.
    """

    name: str
    kind: Kind
    span_s: float
    seed: int = 0
    rate_per_s: float = 0.0
    burst_size: float = 0.0
    burst_s: float = 1.0
    pause_s: float = 600.0
    swing: float = 0.0
    period_s: float = 3600.0
    cancel_share: float = 0.0
    patience_s: float = 60.0
    kinds: Mapping[str, float] = field(default_factory=dict)
    file: str | None = None  # of a recording, beside the specification
    stretch: float = 1.0  # a recording's seconds are multiplied by it


def make_trace(spec: TraceSpec, folder: Path = KEPT.parent) -> Trace:
    """The arrivals of a specification.

    Raises:
        TraceError: a number makes no sense, or the recording is broken.
    """
    _check(spec)
    if spec.kind == "recorded":
        recorded = read_trace(folder / str(spec.file))
        scaled = [
            replace(
                arrival,
                time_s=arrival.time_s * spec.stretch,
                cancel_s=None if arrival.cancel_s is None else arrival.cancel_s * spec.stretch,
            )
            for arrival in recorded.arrivals
        ]
        return Trace(spec.name, tuple(scaled), max(spec.span_s, recorded.span_s * spec.stretch))
    rng = np.random.default_rng(spec.seed)
    times = _poisson(rng, spec.rate_per_s, spec.span_s)
    if spec.kind == "bursts":
        times = np.sort(np.concatenate([times, *_bursts(rng, spec)]))
    elif spec.kind == "diurnal":
        times = _thinned(rng, spec)
    return Trace(spec.name, tuple(_dressed(rng, spec, times)), spec.span_s)


def read_trace(path: Path, *, max_gap_s: float | None = None) -> Trace:
    """A recording: CSV with `time_s`, and `kind` and `cancel_s` where they are known; blank means neither.

    With `max_gap_s` a pause longer than that between two arrivals counts as a hole.

    Raises:
        TraceError: no such file or column, a cell that is no number, a hole, or time going backwards.
    """
    lines = list(csv.DictReader(io.StringIO(read_text(path, TraceError))))
    if not lines or "time_s" not in lines[0]:
        raise TraceError(f"Trace {path} needs a header with the column time_s, and at least one arrival.")
    arrivals: list[Arrival] = []
    for number, cells in enumerate(lines, start=2):
        time_s = _number(path, number, "time_s", cells["time_s"])
        if time_s is None:
            raise TraceError(
                f"Trace {path} has a hole: line {number} has no time_s; record it anew or remove the line."
            )
        if arrivals and max_gap_s is not None and time_s - arrivals[-1].time_s > max_gap_s:
            raise TraceError(
                f"Trace {path} has a hole: nothing arrives between {arrivals[-1].time_s:g} s and {time_s:g} s, longer "
                f"than {max_gap_s:g} s; cut the trace there, or allow the pause."
            )
        cancel_s = _number(path, number, "cancel_s", cells.get("cancel_s"))
        arrivals.append(Arrival(time_s, (cells.get("kind") or "").strip(), cancel_s))
    return Trace(path.stem, tuple(arrivals), arrivals[-1].time_s)


def kept_specs(path: Path = KEPT) -> tuple[TraceSpec, ...]:
    """The specifications of the kept traces.

    Raises:
        TraceError: the file is no list of specifications.
    """
    try:
        entries: list[dict[str, Any]] = json.loads(read_text(path, TraceError))
        return tuple(TraceSpec(**entry) for entry in entries)
    except (OSError, ValueError, TypeError) as error:
        raise TraceError(f"{path} holds no trace specifications: {error}.") from error


def kept_traces() -> tuple[Trace, ...]:
    """The ten traces of the repository."""
    return tuple(make_trace(spec) for spec in kept_specs())


def _check(spec: TraceSpec) -> None:
    needs: list[tuple[bool, str]] = [
        (spec.kind in ("poisson", "bursts", "diurnal", "recorded"), f"kind is {spec.kind!r}, which nothing makes"),
        (0 < spec.span_s < math.inf, f"span_s is {spec.span_s:g}; it must be above 0"),
        (spec.rate_per_s >= 0, f"rate_per_s is {spec.rate_per_s:g}; it must be 0 or more"),
        (0 <= spec.swing <= 1, f"swing is {spec.swing:g}; it must be between 0 and 1"),
        (0 <= spec.cancel_share <= 1, f"cancel_share is {spec.cancel_share:g}; it must be between 0 and 1"),
        (
            min(spec.burst_s, spec.pause_s, spec.period_s, spec.patience_s, spec.stretch) > 0,
            "its times must be above 0",
        ),
        (spec.kind != "recorded" or bool(spec.file), "it is recorded, but names no file"),
    ]
    for holds, sentence in needs:
        if not holds:
            raise TraceError(f"Trace {spec.name!r} cannot be made: {sentence}.")
    per_s = spec.rate_per_s * (1 + spec.swing) + (spec.burst_size / spec.pause_s if spec.kind == "bursts" else 0.0)
    if not (count := max(per_s * spec.span_s, spec.burst_size)) <= MOST:
        nearest = f"a span_s of {MOST / per_s:.3g}" if spec.burst_size <= MOST else f"a burst_size of {MOST:,}"
        raise TraceError(
            f"Trace {spec.name!r} would send {count:.3g} requests, at most {MOST:,} are made: take {nearest}."
        )


def _poisson(rng: np.random.Generator, rate: float, span_s: float) -> NDArray[np.float64]:
    return np.sort(rng.uniform(0.0, span_s, rng.poisson(rate * span_s)))


def _bursts(rng: np.random.Generator, spec: TraceSpec) -> list[NDArray[np.float64]]:
    found: list[NDArray[np.float64]] = []
    at_s = rng.exponential(spec.pause_s)
    while at_s + spec.burst_s < spec.span_s:
        found.append(at_s + rng.uniform(0.0, spec.burst_s, rng.poisson(spec.burst_size)))
        at_s += spec.burst_s + rng.exponential(spec.pause_s)
    return found


def _thinned(rng: np.random.Generator, spec: TraceSpec) -> NDArray[np.float64]:
    """A Poisson process of the highest rate, of which each arrival stays with the chance that its moment has."""
    times = _poisson(rng, spec.rate_per_s * (1 + spec.swing), spec.span_s)
    rate = 1 - spec.swing * np.cos(2 * np.pi * times / spec.period_s)
    return times[rng.uniform(0.0, 1 + spec.swing, len(times)) < rate]


def _dressed(rng: np.random.Generator, spec: TraceSpec, times: NDArray[np.float64]) -> Sequence[Arrival]:
    names = list(spec.kinds) or [""]
    shares = np.array([spec.kinds[name] for name in names] if spec.kinds else [1.0])
    kinds = rng.choice(len(names), len(times), p=shares / shares.sum())
    gone = rng.uniform(size=len(times)) < spec.cancel_share
    patience = rng.exponential(spec.patience_s, len(times))
    return [
        Arrival(float(at), names[kind], float(at + wait) if leaves else None)
        for at, kind, leaves, wait in zip(times, kinds, gone, patience, strict=True)
    ]


def _number(path: Path, line: int, name: str, text: str | None) -> float | None:
    """The cell's number; None where it is blank."""
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise TraceError(f"Trace {path}, line {line}: {name} is {text!r}, which is no number of seconds.")
    return value
