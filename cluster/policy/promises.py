"""Whether a new job would be done by its deadline, under the order, and without making another job late.

The way of a job is a `Stop` for each stage that it still passes: the stage's queue, what its calls take there, and the
calls of earlier jobs that will come. Stage after stage the new calls are put into the forecast, with whatever the order
would do to save calls in danger; `Rules.safety` is added for seconds that spread. Who comes later with less time is
refused where it would break this promise, as this job is where it would break an earlier one.

Pure, standard library only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from cluster.policy.calls import Call, Queue, Rules
from cluster.policy.order import Plan


@dataclass(frozen=True)
class Stop:
    """One stage on the way of a new job."""

    queue: Queue
    calls_s: Sequence[float]  # of each of its calls, all of which may run at once
    after_s: float = 0.0  # that it will need behind this stage
    coming: Sequence[Call] = ()  # of jobs that are before this stage; each is ready when its job leaves there


@dataclass(frozen=True)
class Promise:
    """What may be said to a client."""

    end_s: float  # when the job would be done, safety included; infinite where a stage has no replica
    keeps: bool
    late: frozenset[str] = frozenset()  # calls of others that would be made late


def promise(
    way: Sequence[Stop], deadline_s: float, rules: Rules, *, priority: int = 0, tenant: str = "", job: str = "new"
) -> Promise:
    """Of a job that begins now with the first stop."""
    if not way:
        return Promise(deadline_s, keeps=True)
    begun_s = end_s = way[0].queue.now_s
    leaves: dict[str, float] = {}  # when each job is done with the stop before
    late: frozenset[str] = frozenset()
    for stop in way:
        coming = [replace(call, ready_s=leaves.get(call.job, call.ready_s)) for call in stop.coming]
        queue = replace(stop.queue, waiting=(*stop.queue.waiting, *coming))
        until_s = deadline_s - stop.after_s
        calls = tuple(
            Call(f"{job}/{number}", own_s, until_s, True, priority, tenant, job, ready_s=end_s)
            for number, own_s in enumerate(stop.calls_s)
        )
        without = Plan.of(queue, rules, whole=True).saved()
        own = {call.id for call in calls}
        plan = Plan.of(replace(queue, waiting=(*queue.waiting, *calls)), rules, whole=True).saved(own)
        late |= without.kept - plan.kept
        slots = [plan.slots[call.id] for call in calls if call.id in plan.slots]
        if len(slots) < len(calls):
            return Promise(float("inf"), keeps=False, late=late)
        later_s, end_s = end_s - queue.now_s, max((slot.end_s for slot in slots), default=end_s)
        if end_s > until_s:
            end_s = min(end_s, _saved_end_s(queue, calls, rules, later_s, end_s))
        for call, done_s in plan.ends():
            leaves[call.job] = max(done_s, leaves.get(call.job, done_s))
    end_s += rules.safety * (end_s - begun_s)
    return Promise(end_s, end_s <= deadline_s and not late, late)


def _saved_end_s(queue: Queue, calls: Sequence[Call], rules: Rules, later_s: float, else_s: float) -> float:
    """When calls that come so much later would end if a running call yields to them then, which a forecast of today
    does not see: it leaves no replica idle for them, and what has just begun does not yield yet. `else_s` where that
    made another late.
    """
    now = tuple(replace(call, ready_s=queue.now_s) for call in calls)
    running = {one.running.call.id: one.running for one in queue.devices if one.running is not None}
    ripe_s = {name: one.since_s + rules.gain * rules.hand_off_s - queue.now_s for name, one in running.items()}
    begun = partial(replace, since_s=-math.inf)
    devices = [one if one.running is None else replace(one, running=begun(one.running)) for one in queue.devices]
    queue = replace(queue, devices=devices)
    before = Plan.of(queue, rules, whole=True).saved()
    own = {call.id for call in now}
    plan = Plan.of(replace(queue, waiting=(*queue.waiting, *now)), rules, whole=True).saved(own)
    stop = _yielding(plan) - _yielding(before)
    if not stop or before.kept - plan.kept or any(call.id not in plan.slots for call in now):
        return else_s
    return max(plan.slots[call.id].end_s for call in now) + max(later_s, *(ripe_s[name] for name in stop))


def _yielding(plan: Plan) -> set[str]:
    running = (device.running for device in plan.queue.devices if device.running is not None)
    return {one.call.id for one in running if one.yielding}
