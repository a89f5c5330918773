"""The order of one stage's calls: which call each replica takes next, and which running call yields to an urgent one.

    Queue ─► ranked, dealt to replicas (`cluster.policy.forecast`) ─► calls in danger ─► saved one by one ─► Moves

A call is in danger when its forecast end leaves too little room before its deadline, though it could still be in time.
It is saved by going before the others of its class, or by the replica of a running call, which stops at its next step
boundary, is kept, and waits in the same order. Either is done only if then it is in time and **nobody who was in time
is late**, the latter only if it begins sooner by `gain` hand-offs. A running call yields to a higher class, or within
its class to an earlier promise if its own is later, cannot be kept, or does not exist. So two calls never yield to each
other in turn. A call that cannot stop between steps, is in its last ones, has just begun, or whose job has yielded
`max_yields` times, stays where it is.

Nothing here binds: a call belongs to a replica once it has started there, and until then the next decision, of a new
snapshot, may give it to another. Whenever a replica is free and a call is there, one starts. Pure: the same snapshot
gives the same moves, whatever the order in which calls and replicas stand in it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.policy.calls import Call, Device, Moves, Queue, Rules, Running, Yield
from cluster.policy.forecast import Slot, busy_s, forecast, has_promise, in_line, keeps, level, ranked

_TRIES = 8  # calls in danger, and victims for each, that one decision looks at
_BEYOND = 32  # calls that are forecast beyond two for each replica


@dataclass(frozen=True)
class Plan:
    """A snapshot, what was changed in it, and what it leads to."""

    queue: Queue
    rules: Rules
    urgent: frozenset[str]
    order: Sequence[Call]
    slots: Mapping[str, Slot]
    kept: frozenset[str]  # promised calls that will be in time, those that run included
    whole: bool

    @classmethod
    def of(cls, queue: Queue, rules: Rules, urgent: frozenset[str] = frozenset(), *, whole: bool = False) -> "Plan":
        """`whole`: of all calls, not only of those that start soonest."""
        calls, free = in_line(queue, rules)
        order = ranked(queue, calls, rules, urgent)
        if not whole:
            order = order[: _near(len(free))]
        slots = forecast(order, free, rules)
        kept = frozenset(call.id for call, end_s in _ends(queue, order, slots) if call.promised and keeps(call, end_s))
        return cls(queue, rules, urgent, order, slots, kept, whole)

    def ends(self) -> Iterator[tuple[Call, float]]:
        """Every call that runs or is forecast, and when it ends."""
        return _ends(self.queue, self.order, self.slots)

    def hurried(self, call: Call) -> "Plan":
        """The call goes before the others of its class."""
        return Plan.of(self.queue, self.rules, self.urgent | {call.id}, whole=self.whole)

    def without(self, device: Device) -> "Plan":
        """The call that runs there yields."""
        assert device.running is not None
        told = replace(device, running=replace(device.running, yielding=True))
        devices = tuple(told if own is device else own for own in self.queue.devices)
        return Plan.of(replace(self.queue, devices=devices), self.rules, self.urgent, whole=self.whole)

    def near(self, also: Collection[str] = ()) -> "Plan":
        """Of the calls that start soonest, and of others that are named: what is tried is tried with these alone."""
        most = _near(sum(not device.leaving for device in self.queue.devices))
        there = {call.id for call in self.order[:most]} | set(also)
        waiting = [call for call in self.queue.waiting if call.id in there]
        if len(waiting) == len(self.queue.waiting):
            return self
        return Plan.of(replace(self.queue, waiting=waiting), self.rules, self.urgent, whole=self.whole)

    def saved(self, also: Collection[str] = ()) -> "Plan":
        """With every call out of danger that can be saved, of those that are `near`."""
        plan = near = self.near(also)
        waiting = {call.id for call in near.queue.waiting}
        for call in [call for call in near.order if call.id in waiting and _in_danger(near, call)][:_TRIES]:
            if _in_danger(plan, call):
                plan = _saved(plan, call) or plan
        if near is self:
            return plan
        return Plan.of(replace(self.queue, devices=plan.queue.devices), self.rules, plan.urgent, whole=self.whole)


def decide(queue: Queue, rules: Rules) -> Moves:
    """What to do now."""
    plan = Plan.of(queue, rules).near()
    if any(not device.leaving for device in queue.devices):
        for device in queue.devices:
            if device.leaving and device.running is not None and _can_stop(device.running, rules):
                plan = plan.without(device)
    plan = plan.saved()
    told = {device.name for device in queue.devices if device.running is not None and device.running.yielding}
    first = _next(plan)
    yields = tuple(
        Yield(device.name, device.running.call.id, first.get(device.name))
        for device in sorted(plan.queue.devices, key=lambda device: device.name)
        if device.running is not None and device.running.yielding and device.name not in told
    )
    return Moves(first, yields)


def _near(replicas: int) -> int:
    return 2 * replicas + _BEYOND


def _ends(queue: Queue, order: Sequence[Call], slots: Mapping[str, Slot]) -> Iterator[tuple[Call, float]]:
    yield from ((call, slots[call.id].end_s) for call in order if call.id in slots)
    yield from ((running.call, queue.now_s + running.call.left_s) for running in _stay(queue.devices))


def _stay(devices: Iterable[Device]) -> list[Running]:
    return [device.running for device in devices if device.running is not None and not device.running.yielding]


def _in_danger(plan: Plan, call: Call) -> bool:
    """Whether it could be in time, does not start now, and its forecast leaves less room than the margin."""
    now_s, slot = plan.queue.now_s, plan.slots.get(call.id)
    if slot is None or slot.start_s <= now_s or not keeps(call, now_s + busy_s(call, plan.rules)):
        return False
    return not keeps(call, slot.end_s + plan.rules.margin * call.left_s)


def _saved(plan: Plan, call: Call) -> Plan | None:
    """With the call in time; None where that would make another late, or gain too little."""
    misses = call.promised and call.id not in plan.kept
    hurried = plan.hurried(call) if misses else plan
    if misses and _better(plan, hurried, call):
        return hurried
    least_s = plan.rules.gain * plan.rules.hand_off_s
    for device in _victims(plan, call)[:_TRIES]:
        other = hurried.without(device)
        if _better(plan, other, call) and plan.slots[call.id].start_s - other.slots[call.id].start_s > least_s:
            return other
    return None


def _better(before: Plan, after: Plan, call: Call) -> bool:
    slot = after.slots.get(call.id)
    known = after.slots.keys() | {running.call.id for running in _stay(after.queue.devices)}
    return slot is not None and keeps(call, slot.end_s) and not (before.kept & known) - after.kept


def _victims(plan: Plan, call: Call) -> list[Device]:
    """Replicas whose call may yield to this one, the best first."""
    found = []
    for device in plan.queue.devices:
        running = device.running
        if running is None or running.yielding or device.leaving or not _may_yield(plan, running, call):
            continue
        victim, now_s = running.call, plan.queue.now_s
        bound = has_promise(victim, now_s, plan.rules)
        room_s = victim.deadline_s - victim.left_s
        rank = (level(victim, now_s, plan.rules), bound, -room_s, running.stop_in_s, device.name)
        found.append((rank, device))
    return [device for _, device in sorted(found, key=lambda pair: pair[0])]


def _may_yield(plan: Plan, running: Running, call: Call) -> bool:
    rules, now_s, victim = plan.rules, plan.queue.now_s, running.call
    if not _can_stop(running, rules) or victim.yields + _told(plan, victim.job) >= rules.max_yields:
        return False
    if now_s - running.since_s < rules.gain * rules.hand_off_s:
        return False
    if not keeps(call, now_s + running.stop_in_s + rules.hand_off_s / 2 + busy_s(call, rules)):
        return False
    own, theirs = level(call, now_s, rules), level(victim, now_s, rules)
    if own != theirs:
        return own > theirs
    later = victim.deadline_s > call.deadline_s or not has_promise(victim, now_s, rules)
    return call.promised and later


def _told(plan: Plan, job: str) -> int:
    """Calls of a job that are yielding; none of a job without a name."""
    there = (device.running for device in plan.queue.devices if device.running is not None and device.running.yielding)
    return sum(bool(job) and running.call.job == job for running in there)


def _can_stop(running: Running, rules: Rules) -> bool:
    return not running.yielding and running.step_s > 0 and running.steps_left > max(1, rules.last_steps)


def _next(plan: Plan) -> dict[str, str]:
    """The first call of each replica that is free, soon will be, or is made so."""
    now_s = plan.queue.now_s
    made = {device.name for device in plan.queue.devices if device.running is not None and device.running.yielding}
    first: dict[str, tuple[Call, Slot]] = {}
    for call in plan.order:
        slot = plan.slots.get(call.id)
        if slot is not None and (slot.device in made or slot.start_s <= now_s + plan.rules.ahead_s):
            first.setdefault(slot.device, (call, slot))
    for device in sorted(first):  # bytes that are under way to a replica stay with it, where that delays nobody
        call, slot = first[device]
        home = first.get(call.at or "")
        if home is not None and (home[1].start_s <= now_s) == (slot.start_s <= now_s):
            first[device], first[str(call.at)] = (home[0], slot), (call, home[1])
    return {device: call.id for device, (call, _) in sorted(first.items())}
