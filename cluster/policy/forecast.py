"""Who goes before whom at one stage, and when each call would start and end: the order, and what it leads to.

`ranked` sorts calls: class first, then tenants that have had clearly less, then the earliest deadline. `forecast` deals
the sorted calls to replicas as these become free, without any further preemption; `cluster.policy.order` looks at it
for calls in danger, `cluster.policy.promises` for whether a new job would be in time.

Pure, standard library only.
"""

import heapq
import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.policy.calls import Call, Queue, Rules, Running, Tenant

_EPSILON_S = 1e-6


@dataclass(frozen=True, slots=True)
class Slot:
    """Where and when a call is computed."""

    device: str
    start_s: float
    end_s: float


def level(call: Call, now_s: float, rules: Rules) -> int:
    """Its class, raised by one for each `age_s` that it is late: in the end it is above whatever comes anew."""
    return call.priority + math.floor(max(0.0, now_s - call.deadline_s) / rules.age_s)


def busy_s(call: Call, rules: Rules) -> float:
    """Seconds of a replica that it still needs."""
    return call.left_s + (rules.hand_off_s / 2 if call.parked else 0.0)


def has_promise(call: Call, now_s: float, rules: Rules) -> bool:
    """Whether a promise binds: one that cannot be kept whatever is done binds nobody."""
    return call.promised and keeps(call, max(now_s, call.ready_s) + busy_s(call, rules))


def keeps(call: Call, end_s: float) -> bool:
    return end_s <= call.deadline_s + _EPSILON_S


def ranked(queue: Queue, calls: Sequence[Call], rules: Rules, urgent: Collection[str] = ()) -> list[Call]:
    """The calls, first those that go first. `urgent` ones go before the others of their class and tenant."""
    now_s = queue.now_s

    def key(call: Call) -> tuple[bool, bool, float, str]:
        broken = call.promised and not has_promise(call, now_s, rules)
        return (call.id not in urgent, broken, call.deadline_s, call.id)

    classes: dict[int, list[Call]] = {}
    for call in calls:
        classes.setdefault(level(call, now_s, rules), []).append(call)
    shares = _Shares(queue)
    order: list[Call] = []
    for number in sorted(classes, reverse=True):
        order += shares.merged(sorted(classes[number], key=key))
    return order


class _Shares:
    """What each tenant has had, by weight; counts on what it is given."""

    def __init__(self, queue: Queue) -> None:
        self._weights = {name: tenant.weight for name, tenant in queue.tenants.items()}
        self._had = {name: tenant.used_s / tenant.weight for name, tenant in queue.tenants.items()}
        for device in queue.devices:
            if device.running is not None:
                self._give(device.running.call)

    def merged(self, calls: Sequence[Call]) -> list[Call]:
        """Sorted calls of one class: a tenant that has had more than another by a longest call has to wait."""
        lines: dict[str, deque[Call]] = {}
        for call in calls:
            lines.setdefault(call.tenant, deque()).append(call)
        if len(lines) < 2:
            for call in calls:
                self._give(call)
            return list(calls)
        quantum_s = max(call.left_s for call in calls)
        places = {call.id: place for place, call in enumerate(calls)}
        behind = [(self._had.get(tenant, 0.0), tenant) for tenant in lines]  # had too much, as far as was looked
        had, fair = list(behind), list[tuple[int, str]]()  # stale where a tenant has had more since; by its first call
        heapq.heapify(behind)
        heapq.heapify(had)
        order: list[Call] = []
        while lines:
            while had[0][1] not in lines or had[0][0] < self._had.get(had[0][1], 0.0):
                heapq.heappop(had)
            while behind and behind[0][0] <= had[0][0] + quantum_s:
                tenant = heapq.heappop(behind)[1]
                heapq.heappush(fair, (places[lines[tenant][0].id], tenant))
            tenant = heapq.heappop(fair)[1]
            order.append(lines[tenant].popleft())
            self._give(order[-1])
            if lines[tenant]:
                heapq.heappush(behind, (self._had[tenant], tenant))
                heapq.heappush(had, (self._had[tenant], tenant))
            else:
                del lines[tenant]
        return order

    def _give(self, call: Call) -> None:
        weight = self._weights.get(call.tenant, Tenant().weight)
        self._had[call.tenant] = self._had.get(call.tenant, 0.0) + call.left_s / weight


def in_line(queue: Queue, rules: Rules) -> tuple[list[Call], dict[str, float]]:
    """Calls that wait or soon will, because they were told to yield; and when each replica that stays is free."""
    calls, free = list(queue.waiting), {}
    for device in queue.devices:
        running, free_s = device.running, queue.now_s
        if running is not None and running.yielding:
            free_s += running.stop_in_s + rules.hand_off_s / 2
            free_s = max(free_s, math.nextafter(queue.now_s, math.inf))  # those that are idle come first
            calls.append(after_yield(running, free_s))
        elif running is not None:
            free_s += running.call.left_s
        if not device.leaving:
            free[device.name] = free_s
    return calls, free


def after_yield(running: Running, ready_s: float) -> Call:
    """The call as it waits again."""
    call = running.call
    left_s = max(0.0, call.left_s - running.stop_in_s)
    return replace(call, left_s=left_s, ready_s=ready_s, parked=True, yields=call.yields + 1, at=None)


def forecast(order: Sequence[Call], free: Mapping[str, float], rules: Rules) -> dict[str, Slot]:
    """Where and when each call is computed, if each replica takes the first that is ready when it is free; by id."""
    heap = [(free_s, device) for device, free_s in free.items()]
    heapq.heapify(heap)
    left, slots = list(order), dict[str, Slot]()
    while left and heap:
        now_s, device = heapq.heappop(heap)
        place = next((place for place, call in enumerate(left) if call.ready_s <= now_s + _EPSILON_S), None)
        if place is None:
            heapq.heappush(heap, (min(call.ready_s for call in left), device))
            continue
        call = left.pop(place)
        end_s = now_s + busy_s(call, rules)
        slots[call.id] = Slot(device, now_s, end_s)
        heapq.heappush(heap, (end_s, device))
    return slots
