"""The line of one deployment's calls, over all of its replicas: snapshots for `cluster.policy.order`, and its word.

    know, forget, see ─► a snapshot ─► decide ─► go, back, stop

One asyncio object, in a pipeline replica or in the actor that several share. It keeps nothing that is not held
elsewhere: who tells it decides nothing, and can tell everything again. It decides soon after a change, many changes at
once, and whenever it is asked to `look`. A call that was sent to a replica which then became free is taken for begun:
it is on that device before anybody hears of it. Knows nothing of Ray.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from cluster.policy.calls import Device, Queue, Rules, Running, Tenant, Yield
from cluster.policy.order import Plan, decide
from cluster.policy.use import UseMeter
from deployments.order.words import Entry, Told

logger = logging.getLogger(__name__)

_AGAIN_S = 5.0  # a call that was told to stop and has not is told again


class Line:
    """See the top of this module."""

    def __init__(
        self,
        rules: Rules,
        say: Callable[[str, Told], None],
        *,
        stops: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`say` gets whom it is for, a teller, and what; it is called from `look`. Without `stops` nothing yields."""
        self._say, self._clock = say, clock
        self.take(rules, stops=stops)
        self._entries: dict[str, Entry] = {}
        self._sent: dict[str, str] = {}  # calls that have not begun, and their replicas
        self._stopping: dict[str, float] = {}  # calls that were told to stop, and when
        self._replicas: frozenset[str] = frozenset()
        self._use = UseMeter()
        self._soon: asyncio.Handle | None = None

    def take(self, rules: Rules, *, stops: bool = True) -> None:
        """Decide by these from now on."""
        self._rules = rules if stops else replace(rules, max_yields=0)

    def know(self, entry: Entry) -> None:
        """How a call stands now."""
        name, before = entry.call.id, self._entries.get(entry.call.id)
        self._entries[name] = entry
        if entry.begun_s is not None:
            self._sent.pop(name, None)
        elif before is None and entry.replica is not None:
            self._sent[name] = entry.replica
        elif before is None or before.begun_s is not None or entry.replica is None:
            self._sent.pop(name, None)
            self._stopped(before)
        if before is None or before.begun_s is None or entry.begun_s is None:
            self._look_soon()

    def forget(self, call: str) -> None:
        """It has ended, or nobody wants it any more."""
        before = self._entries.pop(call, None)
        self._sent.pop(call, None)
        self._stopped(before)
        if before is not None:
            self._look_soon()

    def forget_all(self, teller: str | None = None) -> None:
        """All calls of a teller that is gone; of every one."""
        for name in [name for name, entry in self._entries.items() if teller in (None, entry.teller)]:
            self.forget(name)

    def see(self, replicas: Iterable[str]) -> None:
        """These take calls now."""
        there = frozenset(replicas)
        if there != self._replicas:
            self._replicas = there
            for name, replica in [item for item in self._sent.items() if item[1] not in there]:
                del self._sent[name]
                self._tell(Told("back", name, replica))
            self._look_soon()

    def queue(self) -> Queue:
        """The snapshot that is decided on."""
        now_s, used = self._clock(), self._use.read(self._clock())
        running: dict[str, Running] = {}
        for entry in sorted(self._entries.values(), key=lambda entry: entry.begun_s or 0.0):
            if entry.begun_s is not None and entry.replica is not None:
                running[entry.replica] = self._running(entry, now_s)
        waiting = []
        for name, entry in self._entries.items():
            if entry.begun_s is not None:
                continue
            at = self._sent.get(name)
            if at is not None and at not in running:  # nothing is before it there
                running[at] = Running(entry.call, now_s)
            else:
                waiting.append(entry.call if at is None else replace(entry.call, at=at))
        devices = [
            Device(name, running.get(name), leaving=name not in self._replicas)
            for name in sorted(self._replicas | running.keys())
        ]
        weights = {entry.call.tenant: entry.weight for entry in self._entries.values()}
        known = used.keys() | weights.keys()
        tenants = {name: Tenant(weights.get(name, 1.0), used.get(name, 0.0)) for name in known}
        return Queue(now_s, tuple(waiting), tuple(devices), tenants)

    def look(self) -> None:
        """Decide now."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        queue = self.queue()
        if not queue.waiting:
            return
        try:
            moves = decide(queue, self._rules)
        except Exception:  # it is asked again soon; who looks must not end with it
            logger.exception("The order of %d calls could not be decided.", len(queue.waiting))
            return
        if stops := [told for told in moves.yields if told.device in self._replicas]:  # one that leaves stops by itself
            self._stop(stops, queue.now_s)
        waiting = {call.id for call in queue.waiting}
        for name, replica in list(self._sent.items()):
            if name in waiting and moves.next.get(replica) != name:
                del self._sent[name]
                self._tell(Told("back", name, replica))
        for replica, name in moves.next.items():
            if name in waiting and name not in self._sent and replica not in self._sent.values():
                self._sent[name] = replica
                self._tell(Told("go", name, replica))

    def _running(self, entry: Entry, now_s: float) -> Running:
        spent_s = max(0.0, now_s - entry.at_s)
        call, begun_s = replace(entry.call, left_s=max(0.0, entry.call.left_s - spent_s)), entry.begun_s or now_s
        if entry.step_s <= 0:
            return Running(call, begun_s)
        passed = math.floor(spent_s / entry.step_s)
        stop_in_s = (passed + 1) * entry.step_s - spent_s
        told_s = self._stopping.get(call.id)
        heard = told_s is not None and now_s - told_s < max(_AGAIN_S, 3 * entry.step_s)
        return Running(call, begun_s, entry.step_s, stop_in_s, max(0, entry.steps_left - passed), yielding=heard)

    def _stop(self, stops: Sequence[Yield], now_s: float) -> None:
        self._stopping.update(dict.fromkeys((told.call for told in stops), now_s))
        slots = Plan.of(self.queue(), self._rules, whole=True).slots
        for told in stops:
            slot = slots.get(told.call)
            self._tell(Told("stop", told.call, told.device, None if slot is None else slot.start_s - now_s))

    def _stopped(self, before: Entry | None) -> None:
        """A call runs no more."""
        if before is None:
            return
        self._stopping.pop(before.call.id, None)
        if before.begun_s is not None:
            now_s = self._clock()
            self._use.add(before.call.tenant, max(0.0, now_s - before.begun_s), now_s)

    def _tell(self, told: Told) -> None:
        entry = self._entries.get(told.call)
        if entry is not None:
            self._say(entry.teller, told)

    def _look_soon(self) -> None:
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self.look)
