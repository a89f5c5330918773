"""Which replica of a stage a call goes to: one that is idle before one that computes.

Ray Serve's own router draws two replicas by chance and compares them, by what it last heard; the windows of one job,
sent at once, would so queue behind each other while a third replica idles. This one asks every replica it has not
heard of for a while, takes the least busy, and counts what it has just given away. Of two that are equally busy it
takes the one whose last call was sent longer ago, for that one is free sooner. Calls of one caller are served in the
order in which they were sent. When all replicas are full it leaves the choice to Serve, which asks two of them again
and again. `replicas_of` tells what the routers of this process have been told, which costs nothing; asking Serve's
controller takes a fifth of a second of CPU.

Takes part in Serve through its public extension points, but for what `ForgetsEnded` mends; knows nothing of jobs.
"""

import asyncio
import logging
import random
import time
from typing import Any

from ray.exceptions import RayError
from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

from deployments.on_ray.ray_internals import ForgetsEnded

_ASKED = 16  # replicas that are asked at once, at most
_ANSWER_S = 0.5
_PROMISE_S = 0.5  # a call that was given a replica and not sent for so long was cancelled

_counted: dict[str, dict[str, int]] = {}  # application -> deployment -> running replicas


def replicas_of(app_name: str) -> dict[str, int]:
    """Running replicas of the deployments that this process has called, as its routers know them."""
    return dict(_counted.get(app_name, {}))


def _no_queue(record: logging.LogRecord) -> bool:
    """Serve warns again and again of a call behind full replicas; of one that does not answer it warns beside that."""
    return not str(record.msg).startswith("Failed to route request after")


class IdleFirst(ForgetsEnded, FIFOMixin, RequestRouter):  # type: ignore[misc]
    """The router of every stage."""

    def initialize_state(self, **_: Any) -> None:
        """Serve calls this once, before the first request."""
        self._promised: dict[ReplicaID, list[float]] = {}  # when calls were given a replica and not yet sent
        self._given: dict[ReplicaID, float] = {}  # when each was given its last call
        logging.getLogger("ray.serve").addFilter(_no_queue)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve calls this whenever replicas come or go."""
        super().update_replicas(replicas)
        _counted.setdefault(self.app_name, {})[self.leads_to] = len(replicas)
        there = {replica.replica_id for replica in replicas}
        self._given = {name: at for name, at in self._given.items() if name in there}

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The least busy replica that has room; without one, two by chance."""
        loads = {replica.replica_id: self._load(replica) for replica in candidate_replicas}
        unheard = [replica for replica in candidate_replicas if loads[replica.replica_id] is None]
        if unheard and 0 not in loads.values():
            await asyncio.gather(*(self._ask(replica) for replica in random.sample(unheard, min(_ASKED, len(unheard)))))
        found: list[tuple[int, float, float, RunningReplica]] = []
        for replica in candidate_replicas:
            load = self._load(replica)
            if load is not None and load < replica.max_ongoing_requests:
                found.append((load, self._given.get(replica.replica_id, 0.0), random.random(), replica))
        if not found:
            return [random.sample(candidate_replicas, min(2, len(candidate_replicas)))]
        chosen = min(found)[3]
        self._given[chosen.replica_id] = time.monotonic()
        self._promised.setdefault(chosen.replica_id, []).append(time.monotonic())
        return [[chosen]]

    def on_send_request(self, replica_id: ReplicaID) -> None:
        """Serve has sent a call; from here on it counts it itself."""
        if promises := self._promised.get(replica_id):
            promises.pop(0)
        super().on_send_request(replica_id)

    def _load(self, replica: RunningReplica) -> int | None:
        """Calls at a replica, promised ones too; None when it has not been heard of for a while."""
        heard: int | None = self.replica_queue_len_cache.get(replica.replica_id)
        if heard is None:
            return None
        oldest = time.monotonic() - _PROMISE_S
        promises = [made for made in self._promised.get(replica.replica_id, []) if made > oldest]
        self._promised[replica.replica_id] = promises
        return heard + len(promises)

    async def _ask(self, replica: RunningReplica) -> None:
        try:
            length = await asyncio.wait_for(replica.get_queue_len(deadline_s=_ANSWER_S), _ANSWER_S)
        except (TimeoutError, RayError):
            return  # Serve finds out by itself what is wrong with it
        self.on_new_queue_len_info(replica.replica_id, length)
