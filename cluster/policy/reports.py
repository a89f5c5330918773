"""What a pipeline replica tells the scaling policy: the work at every stage, as a flat dictionary of floats.

Ray Serve carries nothing else from a replica to a policy (`record_autoscaling_stats`). `to_floats` flattens one
replica's `Report`, `from_floats` reads it back, `joined` makes one of those of all replicas. Jobs belong to one replica
each and add up; what every replica reads from the journal or the configuration is the same for all.

Standard library only. Knows nothing of Ray and nothing of policies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

_STAGE, _OPTION = "stage", "option"


@dataclass(frozen=True)
class StageReport:
    """One stage, as one pipeline replica sees it."""

    waiting: float = 0.0  # calls that were sent and have no device yet
    running: float = 0.0
    busy: float = 0.0  # replicas that compute them: less than calls, where they are batched
    remaining_s: float = 0.0  # of those replicas' time, for the running calls
    call_s: float = 0.0  # of one alone, of late; 0: nobody knows
    calls: float = 1.0  # of one job
    gpus: float = 1.0  # of one replica
    start_up_s: float = 0.0  # of loading, of late
    batch: float = 1.0  # calls that a replica computes at once, at most
    batch_s: float = 0.0  # of that many together, of late; 0: nobody knows
    share: float = 1.0  # of the jobs that came of late, those that pass this stage


@dataclass(frozen=True)
class Report:
    """All that one replica knows."""

    stages: Mapping[str, StageReport]  # in the order in which a job passes them
    queued_jobs: float = 0.0
    running_jobs: float = 0.0  # that this replica drives
    max_jobs: float = 0.0  # that it may drive
    arrivals_per_s: float = 0.0
    trend_per_s2: float = 0.0
    budget_gpus: float = -1.0  # below 0: none
    options: Mapping[str, float] = field(default_factory=dict)  # of the policy


_JOURNAL = tuple(part.name for part in fields(Report) if part.name not in ("stages", "options"))
_ADDED = ("waiting", "running", "busy", "remaining_s")
_NUMBERS = tuple(part.name for part in fields(StageReport))


def to_floats(report: Report) -> dict[str, float]:
    """The report, flat; the order of the stages is kept."""
    flat = {name: float(getattr(report, name)) for name in _JOURNAL}
    for name, stage in report.stages.items():
        flat.update({f"{_STAGE}/{name}/{number}": float(getattr(stage, number)) for number in _NUMBERS})
    return {**flat, **{f"{_OPTION}/{name}": float(value) for name, value in report.options.items()}}


def from_floats(flat: Mapping[str, float]) -> Report | None:
    """What `to_floats` made; None where the dictionary is none of its making. Strange keys are left out."""
    if not set(_JOURNAL) <= set(flat):
        return None
    stages: dict[str, dict[str, float]] = {}
    options: dict[str, float] = {}
    for key, value in flat.items():
        kind, _, name = key.partition("/")
        if kind == _OPTION and name:
            options[name] = value
        elif kind == _STAGE and name.count("/") == 1:
            stage, _, number = name.partition("/")
            if number in _NUMBERS:
                stages.setdefault(stage, {})[number] = value
    made = {name: StageReport(**numbers) for name, numbers in stages.items()}
    return Report(made, **{name: flat[name] for name in _JOURNAL}, options=options)


def joined(reports: Sequence[Report]) -> Report | None:
    """One report of all replicas; None of none."""
    if not reports:
        return None
    first = reports[0]
    stages = {}
    for name in first.stages:
        own = [report.stages[name] for report in reports if name in report.stages]
        totals = {number: sum(getattr(stage, number) for stage in own) for number in _ADDED}
        stages[name] = StageReport(
            **totals,
            call_s=_mean_known([stage.call_s for stage in own]),
            calls=sum(stage.calls for stage in own) / len(own),
            gpus=own[0].gpus,
            start_up_s=_mean_known([stage.start_up_s for stage in own]),
            batch=own[0].batch,
            batch_s=_mean_known([stage.batch_s for stage in own]),
            share=sum(stage.share for stage in own) / len(own),
        )
    return Report(
        stages,
        queued_jobs=max(report.queued_jobs for report in reports),
        running_jobs=sum(report.running_jobs for report in reports),
        max_jobs=first.max_jobs,
        arrivals_per_s=max(report.arrivals_per_s for report in reports),
        trend_per_s2=max((report.trend_per_s2 for report in reports), key=abs),
        budget_gpus=first.budget_gpus,
        options=first.options,
    )


def _mean_known(seconds: Sequence[float]) -> float:
    """Of those that somebody knows."""
    known = [second for second in seconds if second > 0]
    return sum(known) / len(known) if known else 0.0
