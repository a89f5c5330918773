"""Which replica of a stage a call goes to: one that is idle before one that computes.

Ray Serve's own router draws two replicas by chance and compares them, by what it last heard; the windows of one job,
sent at once, would so queue behind each other while a third replica idles. A call that names its replica (`at`), as
`deployments.order` does for every stage, goes there. For any other this one asks every replica it has not
heard of for a while, takes the least busy, and counts what it has just given away. Of two that are equally busy it
takes the one whose last call was sent longer ago, for that one is free sooner. Such calls of one caller are served in
the order in which they were sent. When all replicas are full it leaves the choice to Serve, which asks two of them
again and again. Which replicas there are it tells `deployments.on_ray.routed`, which costs nothing; asking Serve's
controller takes a fifth of a second of CPU.

Takes part in Serve through its public extension points, but for what `ForgetsEnded` mends; knows nothing of jobs.
"""

import asyncio
import random
import time
from collections.abc import Iterable
from typing import Any

from ray.exceptions import RayError
from ray.serve.request_router import FIFOMixin, PendingRequest, ReplicaID, RequestRouter, RunningReplica

from deployments.on_ray import routed
from deployments.on_ray.ray_internals import ForgetsEnded

_ASKED = 16  # replicas that are asked at once, at most
_ANSWER_S = 0.5
_PROMISE_S = 0.5  # a call that was given a replica and not sent for so long was cancelled


class IdleFirst(ForgetsEnded, FIFOMixin, RequestRouter):  # type: ignore[misc]
    """The router of every stage."""

    def initialize_state(self, spare: int = 0, **_: Any) -> None:
        """Serve calls this once, before the first request. `spare`: places of a replica that only a call which names
        it may have.
        """
        self._spare = spare
        self._promised: dict[ReplicaID, list[float]] = {}  # when calls were given a replica and not yet sent
        self._given: dict[ReplicaID, float] = {}  # when each was given its last call
        routed.quiet()

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve calls this whenever replicas come or go."""
        super().update_replicas(replicas)
        there = {replica.replica_id for replica in replicas}
        self._tell(there)
        self._given = {name: at for name, at in self._given.items() if name in there}

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """Serve calls this when a call has died with its replica, seconds before it tells of fewer replicas."""
        super().on_replica_actor_died(replica_id)
        self._tell(set(self.curr_replicas) - {replica_id})

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The replica that the call names; else the least busy that has room; without one, two by chance."""
        if (named := _named(pending_request)) is not None:
            there = [replica for replica in candidate_replicas if replica.replica_id.unique_id == named]
            if there:
                return [there]
        loads = {replica.replica_id: self._load(replica) for replica in candidate_replicas}
        unheard = [replica for replica in candidate_replicas if loads[replica.replica_id] is None]
        if unheard and 0 not in loads.values():
            await asyncio.gather(*(self._ask(replica) for replica in random.sample(unheard, min(_ASKED, len(unheard)))))
        found: list[tuple[int, float, float, RunningReplica]] = []
        for replica in candidate_replicas:
            load = self._load(replica)
            if load is not None and load < replica.max_ongoing_requests - self._spare:
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

    def _tell(self, there: Iterable[ReplicaID]) -> None:
        routed.know(self.app_name, self.leads_to, [replica_id.unique_id for replica_id in there])

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


def _named(pending_request: PendingRequest | None) -> str | None:
    return None if pending_request is None else pending_request.kwargs.get("at")
