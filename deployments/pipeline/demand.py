"""The work at every stage as this pipeline replica sees it: calls that wait, that run, and how long they still take.

Each stage call tells it when it is sent, when a replica begins, when it ends. `read` adds what the journal says of jobs
that nobody has claimed yet and of arrivals. The scaling policy in Serve's controller gets it as floats, see
`cluster.policy.reports`. Bookkeeping in the event loop; only `look` asks the journal, in a thread.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cluster.policy.arrivals import ArrivalMeter, PathMeter
from cluster.policy.reports import Report, StageReport, to_floats
from deployments.journal.database import Database
from deployments.journal.looks import Arrival, read_arrivals
from deployments.settings.application import AppArgs, ScalingArgs
from stages.types import STAGE_NAMES, StageName

_WEIGHT = 0.2  # of the newest call in the mean


@dataclass
class Call:
    """One call of a stage that has not ended."""

    began_s: float | None = None  # monotonic
    run_s: float | None = None  # its share, where it was computed with others
    batch: int = 1  # calls that are computed together, itself too


@dataclass
class _Stage:
    call_s: float  # of one alone, of late; 0: not known yet
    batch: int  # that a replica computes at once, at most
    batch_s: float  # of that many together, of late; 0: not known yet
    load_s: float  # of the replica that began a call last; it waited for no GPU in that time
    calls: float = 1.0  # of one job, of late
    under_way: dict[int, Call] = field(default_factory=dict)

    def left_s(self, call: Call, now_s: float) -> float:
        """Of its replica's time that a running call still takes: its share, where it runs with others."""
        took_s = now_s - (now_s if call.began_s is None else call.began_s)
        whole_s = self.batch_s / self.batch * call.batch if call.batch > 1 and self.batch_s else self.call_s
        return max(0.0, whole_s - took_s) / call.batch


class Demand:
    """One for each pipeline replica."""

    def __init__(self, args: AppArgs, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._args, self._database, self._clock = args, database, clock
        self._scaling = args.scaling or ScalingArgs()
        self._stages = {name: self._begin_with(name) for name in STAGE_NAMES}
        self._meter = ArrivalMeter(self._scaling.arrivals_window_s)
        self._paths = PathMeter(STAGE_NAMES)
        now_s = database.time()
        self._offset_s = now_s - clock()  # from our clock to the database's, by which jobs arrive
        self._seen: Arrival = (now_s, "")
        self._queued = 0

    def _begin_with(self, name: StageName) -> _Stage:
        said = self._scaling
        batch = self._args.stages[name].batch.size
        return _Stage(said.call_s.get(name, 0.0), batch, said.batch_s.get(name, 0.0), said.start_up_s.get(name, 0.0))

    def take(self, args: AppArgs) -> None:
        """Other settings; what was measured stays."""
        self._args, before = args, self._scaling
        self._scaling = args.scaling or ScalingArgs()
        if self._scaling.arrivals_window_s != before.arrivals_window_s:
            self._meter = ArrivalMeter(self._scaling.arrivals_window_s)
        for name, own in self._stages.items():
            own.batch = args.stages[name].batch.size

    @contextmanager
    def call(self, stage: StageName) -> Iterator[Call]:
        """A call that is sent now and has ended afterwards, however it ends."""
        made, own = Call(), self._stages[stage]
        own.under_way[id(made)] = made
        try:
            yield made
        finally:
            del own.under_way[id(made)]
            if made.run_s is not None and made.batch == 1:
                own.call_s = _mean(own.call_s, made.run_s)
            elif made.run_s is not None:  # of a batch that is not full, too much by what a full one would save more
                own.batch_s = _mean(own.batch_s, made.run_s * own.batch)

    def began(self, call: Call, batch: int = 1) -> None:
        """A replica computes it, with others if `batch` says so."""
        call.began_s, call.batch = self._clock(), batch

    def loaded(self, stage: StageName, load_s: float) -> None:
        """A replica that computes took so long to load."""
        self._stages[stage].load_s = load_s

    def expect(self, stage: StageName, calls: int) -> None:
        """A job will call the stage so often."""
        own = self._stages[stage]
        own.calls = (1 - _WEIGHT) * own.calls + _WEIGHT * calls if own.calls > 1 else float(calls)

    async def look(self) -> None:
        """Ask the journal what has arrived and what waits."""
        now_s, arrived, paths, self._queued = await asyncio.to_thread(read_arrivals, self._database, self._seen)
        self._offset_s = now_s - self._clock()
        for (made, _), path in zip(arrived, paths, strict=True):
            self._meter.add(made)
            self._paths.add(path)
        if arrived:
            self._seen = arrived[-1]

    def read(self, running_jobs: int) -> dict[str, float]:
        """All of it."""
        rate, trend = self._meter.read(self._offset_s + self._clock())
        budget = self._scaling.budget_gpus
        return to_floats(
            Report(
                {name: self._read(name) for name in STAGE_NAMES},
                queued_jobs=self._queued,
                running_jobs=running_jobs,
                max_jobs=self._args.pipeline.max_jobs,
                arrivals_per_s=rate,
                trend_per_s2=trend,
                budget_gpus=-1.0 if budget is None else budget,
                options=self._scaling.policy,
            )
        )

    def _read(self, name: StageName) -> StageReport:
        own, now = self._stages[name], self._clock()
        begun = [call for call in own.under_way.values() if call.began_s is not None]
        return StageReport(
            waiting=len(own.under_way) - len(begun),
            running=len(begun),
            busy=sum(1 / call.batch for call in begun),
            remaining_s=sum(own.left_s(call, now) for call in begun),
            call_s=own.call_s or own.batch_s,
            batch=own.batch,
            batch_s=own.batch_s,
            calls=own.calls,
            gpus=self._args.stages[name].num_gpus or 1.0,
            start_up_s=own.load_s,
            share=self._paths.read(name),
        )


def _mean(before: float, newest: float) -> float:
    return (1 - _WEIGHT) * before + _WEIGHT * newest if before else newest
