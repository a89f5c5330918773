"""The calls of one pipeline replica and where they stand: who is told to go where, taken back, or stopped.

    async with desk.enter("v2v", call) as ticket:
        replica = await ticket.turn()        # None: nobody knows the replicas yet, send it anywhere
        ...                                  # and say what its replica says: began, reached, again

A desk has a line of its own for each deployment. Where several pipeline replicas share an actor (`share`), its own
lines serve while there is no actor, and let nothing yield. Whatever a line or the actor says, a call that has begun
meanwhile stays where it is. Belongs to one event loop; knows nothing of Ray.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Protocol

from cluster.policy.calls import Call, Queue, Rules
from deployments.order.line import Line
from deployments.order.words import Entry, Told

logger = logging.getLogger(__name__)

_LOOK_S = 1.0  # calls take longer than they should, and nobody says so
Pause = Callable[[str, str, str], Awaitable[object]]
"""Tells a replica of a deployment to stop a call at its next step: deployment, replica, call."""


class Far(Protocol):
    """What several desks share; `deployments.order.shared` is one. Only `queue` waits."""

    @property
    def there(self) -> bool: ...

    def know(self, home: str, entry: Entry) -> None: ...

    def forget(self, home: str, call: str) -> None: ...

    def see(self, home: str, replicas: frozenset[str]) -> None: ...

    async def queue(self, home: str) -> Queue: ...


class Ticket:
    """One call, from the moment at which its inputs are there to its end."""

    def __init__(self, desk: "Desk", home: str, entry: Entry) -> None:
        self.home, self.entry = home, entry
        self.back = asyncio.Event()  # it is to be withdrawn where it was sent
        self.urged = False  # it was told to stop, for one that is urgent
        self.wait_s: float | None = None  # then: until it goes on, about
        self.waits = False  # in a line, or has come from there
        self._desk = desk
        self._go = asyncio.Event()
        self._from = 0  # the step that it began with on this replica

    @property
    def id(self) -> str:
        return self.entry.call.id

    @property
    def begun(self) -> bool:
        return self.entry.begun_s is not None

    async def turn(self) -> str | None:
        """Wait until it may be sent; gives the replica. None where replicas are not known: it may go anywhere."""
        self.waits = self._desk.knows(self.home)
        if not self.waits:
            return None
        self._desk.tell(self.home, self.entry)
        await self._go.wait()
        return self.entry.replica

    def began(self, replica: str | None, step_s: float = 0.0) -> None:
        """A replica computes it."""
        now_s = self._desk.clock()
        self.back.clear()
        self._say(replace(self.entry, at_s=now_s, replica=replica or self.entry.replica, begun_s=now_s, step_s=step_s))

    def reached(self, step: int, total: int, whole_s: float) -> None:
        """So many of its steps are done; `whole_s`: what all of them were thought to take."""
        now_s, entry = self._desk.clock(), self.entry
        if entry.begun_s is None or total < 1:
            return
        made = step - self._from
        step_s = (now_s - entry.begun_s) / made if made > 0 else whole_s / total
        left_s = (total - step) * step_s
        call = replace(entry.call, left_s=left_s)
        stops = step_s if entry.step_s > 0 else 0.0
        self._say(replace(entry, call=call, at_s=now_s, step_s=stops, steps_left=total - step))

    def again(self, left_s: float, *, step: int = 0, yields: int = 0) -> None:
        """It is nowhere now, and may take its turn: it stopped after that step, or its replica died or raised."""
        call = replace(self.entry.call, left_s=left_s, parked=step > 0, yields=yields)
        self.waits, self.urged, self._from = False, False, step
        self._go.clear()
        self.back.clear()
        self.entry = replace(self.entry, call=call, at_s=self._desk.clock(), replica=None, begun_s=None, step_s=0.0)
        self._desk.forget(self)

    def take(self, told: Told) -> None:
        """What the line says."""
        if told.kind == "go" and not self.begun:
            self.entry = replace(self.entry, replica=told.replica)
            self._go.set()
        elif told.kind == "back" and not self.begun and self.entry.replica == told.replica:
            self._go.clear()
            self.entry = replace(self.entry, replica=None)
            self.back.set()  # whoever sent it clears this, and waits for its turn again
        elif told.kind == "stop" and self.begun:
            self.urged, self.wait_s = True, told.wait_s
            self._desk.stop(self, told.replica)

    def _say(self, entry: Entry) -> None:
        self.entry = entry
        self._desk.tell(self.home, entry)


class Desk:
    """See the top of this module."""

    def __init__(self, name: str, rules: Rules, pause: Pause, clock: Callable[[], float] = time.monotonic) -> None:
        """`name`: this pipeline replica's."""
        self.clock = clock
        self._name, self._rules, self._pause = name, rules, pause
        self._far: Far | None = None
        self._lines: dict[str, Line] = {}
        self._tickets: dict[str, Ticket] = {}
        self._replicas: dict[str, frozenset[str]] = {}
        self._stops: set[asyncio.Future[object]] = set()
        self._was_there = False

    def take(self, rules: Rules) -> None:
        """Decide by these from now on."""
        self._rules = rules
        for line in self._lines.values():
            line.take(rules, stops=self._far is None)

    def share(self, far: Far) -> None:
        """From now on others order calls for the same replicas."""
        self._far = far
        self.take(self._rules)

    def knows(self, home: str) -> bool:
        """Whether the replicas of a deployment are known."""
        return home in self._replicas

    def count(self, home: str) -> int:
        """Replicas of a deployment, as far as they are known."""
        return len(self._replicas.get(home, ()))

    def waiting(self, home: str) -> int:
        """Calls that have not begun."""
        return sum(ticket.home == home and not ticket.begun for ticket in self._tickets.values())

    @asynccontextmanager
    async def enter(self, home: str, call: Call, weight: float = 1.0) -> AsyncIterator[Ticket]:
        """A call of a deployment, and its tenant's weight; it has ended, however it ended, when this is left."""
        ticket = Ticket(self, home, Entry(call, self._name, self.clock(), weight=weight))
        self._tickets[call.id] = ticket
        try:
            yield ticket
        finally:
            del self._tickets[call.id]
            self.forget(ticket)

    def see(self, home: str, replicas: Iterable[str]) -> None:
        """These run now."""
        there = frozenset(replicas)
        if self._replicas.get(home) == there:
            return
        self._replicas[home] = there
        self._line(home).see(there)
        if self._far is not None:
            self._far.see(home, there)

    async def queue(self, home: str) -> Queue:
        """How the line of a deployment stands."""
        if self._far is not None and self._far.there:
            with suppress(Exception):  # it has just gone
                return await self._far.queue(home)
        return self._line(home).queue()

    def tell(self, home: str, entry: Entry) -> None:
        """How a call stands now, for whoever decides."""
        if self._far is not None and self._far.there:
            self._far.know(home, entry)
        else:
            self._line(home).know(entry)

    def forget(self, ticket: Ticket) -> None:
        """It neither waits nor runs."""
        self._line(ticket.home).forget(ticket.id)
        if self._far is not None:
            self._far.forget(ticket.home, ticket.id)

    def hear(self, told: Told) -> None:
        """What a line or the actor says."""
        if (ticket := self._tickets.get(told.call)) is not None:
            ticket.take(told)

    def stop(self, ticket: Ticket, replica: str) -> None:
        """Have its replica stop a call."""
        task = asyncio.ensure_future(self._pause(ticket.home, replica, ticket.id))
        self._stops.add(task)
        task.add_done_callback(self._stopped)

    async def run(self) -> None:
        """Look again and again; for ever."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Decide, if that is up to this desk, and see whether it is."""
        there = self._far is not None and self._far.there
        if there != self._was_there:
            self._was_there = there
            self._change()
        if not there:
            for line in self._lines.values():
                line.look()

    def _change(self) -> None:
        """Somebody else decides from now on: tell that all there is."""
        for home, replicas in self._replicas.items():
            self._line(home).forget_all()
            if self._far is not None:
                self._far.see(home, replicas)
        for ticket in self._tickets.values():
            if ticket.waits or ticket.begun:
                self.tell(ticket.home, ticket.entry)

    def _line(self, home: str) -> Line:
        if home not in self._lines:
            say = lambda _, told: self.hear(told)  # noqa: E731
            self._lines[home] = Line(self._rules, say, stops=self._far is None, clock=self.clock)
        return self._lines[home]

    def _stopped(self, task: "asyncio.Future[object]") -> None:
        self._stops.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.warning("A replica could not be told to stop a call: %s", task.exception())
