"""Calls of a pipeline replica in their lines: who is sent where, taken back, stopped, and what becomes of them without
an actor.

Time is a number here; a replica is whoever says that it has begun.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from cluster.policy.calls import Call, Queue, Rules
from deployments.order.desk import Desk, Ticket
from deployments.order.words import Entry, Told

HOME = "v2v"
RULES = Rules(ahead_s=1.0, hand_off_s=0.5, gain=2.0)


@dataclass
class Rig:
    """A desk, the time, and who was told to stop."""

    now_s: float = 1000.0
    stopped: list[tuple[str, str]] = field(default_factory=list)
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.desk = Desk("here", RULES, self._pause, clock=lambda: self.now_s)

    async def _pause(self, home: str, replica: str, call: str) -> None:
        self.stopped.append((replica, call))

    async def enter(self, name: str, left_s: float, until_s: float, **about: Any) -> "Sent":
        """A call that waits for its turn from now on."""
        call = Call(name, left_s, until_s, about.pop("promised", True), **about)
        sent, there = Sent(), asyncio.Event()

        async def wait() -> None:
            async with self.desk.enter(HOME, call) as sent.ticket:
                there.set()
                sent.at.append(await sent.ticket.turn())
                await sent.over.wait()

        self.tasks.append(asyncio.create_task(wait()))
        await there.wait()
        await settle()
        return sent

    async def end(self, sent: "Sent") -> None:
        sent.over.set()
        await settle()


@dataclass
class Sent:
    ticket: Ticket = None  # type: ignore[assignment]
    at: list[str | None] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_call_is_bound_when_a_replica_is_free_not_behind_one_that_computes() -> None:
    rig = Rig()
    rig.desk.see(HOME, ["a", "b"])
    first, second = [await rig.enter(name, 60.0, 2000.0) for name in ("1", "2")]
    assert sorted(str(sent.at[0]) for sent in (first, second)) == ["a", "b"]
    for sent in (first, second):
        sent.ticket.began(sent.at[0])
    third = await rig.enter("3", 60.0, 2000.0)
    assert third.at == []
    await rig.end(second)  # sooner than anybody thought
    assert third.at == second.at


async def test_the_earlier_deadline_goes_first_and_so_does_the_higher_class() -> None:
    rig = Rig()
    rig.desk.see(HOME, ["a"])
    running = await rig.enter("0", 60.0, 5000.0, promised=False)
    running.ticket.began("a")
    late, early, high = [
        await rig.enter(*about) for about in (("late", 60.0, 4000.0), ("early", 60.0, 3000.0), ("high", 60.0, 4500.0))
    ]
    high.ticket.entry = Entry(Call("high", 60.0, 4500.0, True, priority=5), "here", rig.now_s)
    rig.desk.tell(HOME, high.ticket.entry)
    await rig.end(running)
    assert (high.at, early.at, late.at) == (["a"], [], [])
    high.ticket.began("a")
    await rig.end(high)
    assert (early.at, late.at) == (["a"], [])


async def test_a_call_that_was_sent_ahead_is_taken_back_for_one_that_is_urgent() -> None:
    rig = Rig()
    rig.desk.see(HOME, ["a"])
    running = await rig.enter("0", 60.0, 5000.0)
    running.ticket.began("a")
    rig.now_s += 59.5
    rig.desk.look()
    soft = await rig.enter("soft", 60.0, 5000.0, promised=False)
    assert soft.at == ["a"]  # its bytes are on their way
    urgent = await rig.enter("urgent", 10.0, rig.now_s + 15.0)
    assert soft.ticket.back.is_set()
    assert urgent.at == ["a"]
    soft.ticket.back.clear()
    again = asyncio.create_task(soft.ticket.turn())
    await rig.end(running)
    urgent.ticket.began("a")
    assert not again.done()
    await rig.end(urgent)
    assert await again == "a"


async def test_a_call_that_has_begun_meanwhile_is_not_taken_back() -> None:
    rig = Rig()
    rig.desk.see(HOME, ["a"])
    sent = await rig.enter("1", 60.0, 5000.0)
    sent.ticket.began("a")
    sent.ticket.take(Told("back", "1", "a"))
    assert not sent.ticket.back.is_set()


async def test_a_running_call_stops_for_an_urgent_one_and_waits_with_what_is_left() -> None:
    rig = Rig()
    rig.desk.see(HOME, ["a"])
    film = await rig.enter("film", 800.0, 5000.0)
    film.ticket.began("a", step_s=8.0)
    rig.now_s += 80.0
    film.ticket.reached(10, 100, 800.0)
    urgent = await rig.enter("urgent", 40.0, rig.now_s + 100.0)
    assert rig.stopped == [("a", "film")]
    assert urgent.at == ["a"]  # behind it
    assert film.ticket.urged
    assert film.ticket.wait_s is not None
    assert 40.0 <= film.ticket.wait_s <= 60.0
    film.ticket.again(712.0, step=11, yields=1)
    again = asyncio.create_task(film.ticket.turn())
    await settle()
    urgent.ticket.began("a")
    assert not again.done()
    await rig.end(urgent)
    assert await again == "a"


async def test_a_stop_that_nobody_heard_of_is_told_again() -> None:
    rig = Rig()
    rig.desk.see(HOME, ["a"])
    film = await rig.enter("film", 100.0, 9000.0)
    film.ticket.began("a", step_s=1.0)
    rig.now_s += 10.0
    film.ticket.reached(10, 100, 100.0)
    await rig.enter("urgent", 30.0, rig.now_s + 60.0)
    rig.now_s += 6.0
    rig.desk.look()
    await settle()
    assert rig.stopped == [("a", "film")] * 2


async def test_where_replicas_are_not_known_a_call_goes_anywhere_and_counts_once_it_has_begun() -> None:
    rig = Rig()
    first = await rig.enter("1", 60.0, 5000.0)
    assert first.at == [None]
    rig.desk.see(HOME, ["a", "b"])
    first.ticket.began("b")
    second = await rig.enter("2", 60.0, 5000.0)
    assert second.at == ["a"]


async def test_without_replicas_calls_wait_and_a_new_one_takes_the_most_urgent() -> None:
    rig = Rig()
    rig.desk.see(HOME, [])
    late, early = await rig.enter("1", 60.0, 5000.0), await rig.enter("2", 60.0, 4000.0)
    assert (late.at, early.at) == ([], [])
    assert rig.desk.waiting(HOME) == 2
    rig.desk.see(HOME, ["a"])
    await settle()
    assert (late.at, early.at) == ([], ["a"])


async def test_a_call_whose_replica_is_gone_before_it_began_waits_again() -> None:
    rig = Rig()
    rig.desk.see(HOME, ["a"])
    sent = await rig.enter("1", 60.0, 5000.0)
    rig.desk.see(HOME, ["b"])
    assert sent.ticket.back.is_set()
    sent.ticket.back.clear()
    assert await sent.ticket.turn() == "b"


async def test_a_tenant_that_has_had_its_share_waits_for_one_that_has_not() -> None:
    rig = Rig()
    rig.desk.see(HOME, ["a"])
    for _ in range(3):
        before = await rig.enter("before", 60.0, 9000.0, tenant="greedy")
        before.ticket.began("a")
        rig.now_s += 60.0
        await rig.end(before)
    running = await rig.enter("0", 60.0, 9000.0, tenant="greedy")
    running.ticket.began("a")
    greedy = await rig.enter("1", 60.0, 8000.0, tenant="greedy")
    modest = await rig.enter("2", 60.0, 8500.0, tenant="modest")
    await rig.end(running)
    assert (greedy.at, modest.at) == ([], ["a"])


class Elsewhere:
    """What the actor would be told."""

    def __init__(self) -> None:
        self.there = False
        self.known: dict[str, Entry] = {}
        self.replicas: frozenset[str] = frozenset()

    def know(self, home: str, entry: Entry) -> None:
        self.known[entry.call.id] = entry

    def forget(self, home: str, call: str) -> None:
        self.known.pop(call, None)

    def see(self, home: str, replicas: frozenset[str]) -> None:
        self.replicas = replicas

    async def queue(self, home: str) -> Queue:
        return Queue(0.0)


async def test_an_actor_is_told_everything_when_it_is_there_and_a_desk_orders_without_stops_when_it_is_not() -> None:
    rig, far = Rig(), Elsewhere()
    rig.desk.share(far)
    rig.desk.see(HOME, ["a"])
    film = await rig.enter("film", 800.0, 5000.0)
    assert film.at == ["a"]
    film.ticket.began("a", step_s=8.0)
    rig.now_s += 80.0
    film.ticket.reached(10, 100, 800.0)
    urgent = await rig.enter("urgent", 40.0, rig.now_s + 100.0)
    assert (rig.stopped, urgent.at) == ([], [])
    far.there = True
    rig.desk.look()
    assert (set(far.known), set(far.replicas)) == ({"film", "urgent"}, {"a"})
    assert far.known["film"].begun_s is not None
    await rig.end(film)
    assert urgent.at == []  # it is the actor's to say
    rig.desk.hear(Told("go", "urgent", "a"))
    await settle()
    assert urgent.at == ["a"]
    far.there = False
    rig.desk.look()
    third = await rig.enter("3", 40.0, 5000.0)
    assert third.at == []  # the desk knows where the other one was sent
    await rig.end(urgent)
    assert third.at == ["a"]
