"""The small things the simulation is made of: jobs, calls, replicas, and the GPUs that all stages share."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from cluster.traffic.measures import Outcome, RequestRow, StageSpan
from cluster.traffic.traces import Arrival


class Call:
    """Windows of one job that one replica computes one after the other; mostly one."""

    __slots__ = ("at", "gone", "job", "lost", "parts", "ready_s", "replica", "running", "stage", "started_s")

    def __init__(self, job: Any, stage: int, parts: list[int]) -> None:
        self.job, self.stage, self.parts = job, stage, parts
        self.at = 0  # the part that is computed, or will be next
        self.replica: Replica | None = None  # None: in the queue, or gone
        self.running = self.gone = False
        self.ready_s = 0.0  # when its inputs are at its replica
        self.started_s = 0.0  # of the present part
        self.lost = 0  # replicas that died under it

    @property
    def left(self) -> int:
        return len(self.parts) - self.at


class Job:
    """One request."""

    __slots__ = (
        "arrival",
        "calls",
        "claimed",
        "done",
        "ended_s",
        "failures",
        "first",
        "id",
        "lane",
        "last",
        "outcome",
        "retries",
        "spans",
        "yields",
    )

    def __init__(self, number: int, arrival: Arrival, stages: int, way: tuple[int, int]) -> None:
        self.id, self.arrival = number, arrival
        self.first, self.last = way  # stages
        self.claimed = False
        self.done = [0] * stages  # a bit for each part
        self.calls: list[Call] = []  # that are under way
        self.lane: list[Call | None] = [None] * stages  # the call that takes windows as they come
        self.spans: list[Any] = [None] * stages  # [start, end, replicas]
        self.outcome: Outcome | None = None
        self.ended_s = 0.0
        self.retries = self.failures = self.yields = 0

    def row(self, names: Sequence[str]) -> RequestRow:
        """What is left of it; `names` are the stages'."""
        spans = {
            name: StageSpan(span[0], span[1], tuple(span[2]))
            for name, span in zip(names, self.spans, strict=True)
            if span is not None
        }
        arrived = self.arrival.time_s
        return RequestRow(
            id=self.id,
            intended_s=arrived,
            arrived_s=arrived,
            ended_s=self.ended_s,
            outcome=self.outcome or "failed",
            spans=spans,
            kind=self.arrival.kind,
            retries=self.retries,
        )


class Replica:
    """One copy of a stage."""

    __slots__ = (
        *(
            "behind",
            "current",
            "draining",
            "gpus",
            "id",
            "name",
            "node",
            "place",
            "size",
            "slow",
            "start_up_s",
            "state",
        ),
        "token",
    )

    def __init__(self, number: int, name: str, start_up_s: float, size: float) -> None:
        self.id, self.name, self.start_up_s, self.size = number, name, start_up_s, size
        self.node: Any = None  # `cluster.twin.nodes.Node`, where there are nodes
        self.gpus: tuple[int, ...] = ()  # of it
        self.slow = 1.0  # on its seconds
        self.state = "waits for a GPU"  # then "starts", "ready", "dead"
        self.draining = False
        self.current: list[Call] = []  # several: a batch
        self.behind: deque[Call] = deque()
        self.token = 0  # an event that carries an older one is void
        self.place = (-1, -1)  # which list of the pool it stands in, and where

    @property
    def load(self) -> int:
        return len(self.current) + len(self.behind)


class Gpus:
    """What all pools share."""

    def __init__(self, budget: float | None) -> None:
        self._free = float("inf") if budget is None else budget
        self._waiting: deque[tuple[Replica, float, Callable[[Replica], None]]] = deque()

    def take(
        self, replica: Replica, owner: Any, count: float, pools: Sequence[str], begin: Callable[[Replica], None]
    ) -> None:
        """Call `begin` now, or once there is room: in the order of asking, though what fits may overtake."""
        self._waiting.append((replica, count, begin))
        self._serve()

    def give(self, replica: Replica, count: float) -> None:
        self._free += count
        self._serve()

    def _serve(self) -> None:
        for _ in range(len(self._waiting)):
            replica, count, begin = self._waiting.popleft()
            if replica.state == "dead":
                continue
            if count <= self._free + 1e-9:
                self._free -= count
                begin(replica)
            else:
                self._waiting.append((replica, count, begin))
