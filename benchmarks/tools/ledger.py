"""What a journal says about jobs that lived through kills: lost, ended twice, computed again; and when work went on.

Takes the jobs' events as the journal has them and the kills as `benchmarks.tools.chaos` gives them. Pure; knows
nothing of processes or databases.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.tools.chaos import Kill
from deployments.jobs.values import FINAL, Event, Job
from stages.types import STAGE_NAMES

ENDS = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class Ledger:
    """Sums over all jobs."""

    lost: int
    finished_twice: int
    stages_rerun: int
    first_s: float  # of computing what had not been computed before
    again_s: float  # of computing it again

    @property
    def waste_ratio(self) -> float:
        return self.again_s / self.first_s if self.first_s else 0.0


def read(
    accepted: Collection[str],
    cancelled: Collection[str],
    jobs: Mapping[str, Job],
    events: Mapping[str, Sequence[Event]],
) -> Ledger:
    """`cancelled`: jobs that a user cancelled; any other accepted one must have succeeded."""
    lost = sum(not _ended_rightly(jobs.get(job_id), job_id in cancelled) for job_id in accepted)
    twice = sum(sum(event.kind in ENDS for event in own) > 1 for own in events.values())
    rerun = sum(map(reran, events.values()))
    first_s, again_s = 0.0, 0.0
    for own in events.values():
        made: set[tuple[str, int]] = set()
        for event in own:
            if event.kind != "stage_output":
                continue
            if (at := _place(event)) in made:
                again_s += event.data["run_s"]
            else:
                first_s += event.data["run_s"]
            made.add(at)
    return Ledger(lost, twice, rerun, first_s, again_s)


def recomputed_s(events: Mapping[str, Sequence[Event]]) -> float:
    """Seconds that replicas had computed when they died, and that were computed again; since their last state, if one
    was kept.
    """
    own = [event for each in events.values() for event in each if event.kind == "stage_retried"]
    return float(sum(event.data.get("lost_s", 0.0) for event in own))


def reran(events: Sequence[Event]) -> int:
    """Outputs of one job that were computed after the same output was safe."""
    kept: set[tuple[str, int]] = set()
    count = 0
    for event in events:
        if event.kind == "stage_kept":
            kept.add(_place(event))
        count += event.kind == "stage_output" and _place(event) in kept
    return count


def _place(event: Event) -> tuple[str, int]:
    return event.data.get("stage", ""), event.data.get("index", 0)


def _ended_rightly(job: Job | None, cancelled: bool) -> bool:
    if job is None or job.state not in FINAL:
        return False
    return job.state == "succeeded" or (job.state == "cancelled" and cancelled)


def recovery_s(kill: Kill, events: Sequence[Event]) -> float | None:
    """Seconds from a kill to the next output of what was killed; of any stage where that computes nothing itself.

    `events` of all jobs, by time. None where nothing came any more.
    """
    for event in events:
        if event.at <= kill.at:
            continue
        if kill.kind == "keeper" and event.kind == "stage_kept":
            return event.at - kill.at
        if kill.kind == "keeper" or event.kind != "stage_output":
            continue
        by_victim = any(str(event.data["replica"]).endswith(f":{pid}") for pid in kill.pids)
        if not by_victim and (kill.kind not in STAGE_NAMES or event.data["stage"] == kill.kind):
            return event.at - kill.at
    return None
