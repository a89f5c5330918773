"""The lines that several pipeline replicas share, as their actor has them; tests/e2e has the actor."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from cluster.policy.calls import Call, Rules
from deployments.order.shared import Lines
from deployments.order.words import Entry, Told

HOME = "i2v"
AHEAD_S = {"p": 1000.0, "q": -7000.0, "r": 0.0}  # of the pipelines' clocks


def now_s(teller: str) -> float:
    return time.monotonic() + AHEAD_S[teller]


def entry(name: str, teller: str, due_s: float, *, begun: bool = False) -> Entry:
    at_s = now_s(teller)
    about: dict[str, Any] = {"replica": "a", "begun_s": at_s} if begun else {}
    return Entry(Call(name, 600.0, at_s + due_s, True), teller, at_s, **about)


async def lines(*tellers: str) -> Lines:
    made = Lines(Rules())
    for teller in tellers:
        await made.hello(teller, now_s(teller), Rules())
        await made.say(teller, now_s(teller), [("see", HOME, frozenset({"a"}))])
    return made


async def know(made: Lines, own: Entry) -> None:
    await made.say(own.teller, now_s(own.teller), [("know", HOME, own)])


@pytest.mark.slow
async def test_calls_of_all_pipelines_are_in_one_line_and_each_hears_of_its_own() -> None:
    made = await lines("p", "q")
    await know(made, entry("late", "p", 5000.0))
    await know(made, entry("early", "q", 4000.0))
    assert await made.hear("q") == [Told("go", "early", "a")]
    await know(made, entry("early", "q", 4000.0, begun=True))
    assert await made.hear("p") == []
    await made.say("q", now_s("q"), [("forget", HOME, "early")])
    assert await made.hear("p") == [Told("go", "late", "a")]


async def test_clocks_of_pipelines_need_not_agree_and_each_sees_the_line_by_its_own() -> None:
    made = await lines("p", "q")
    running, waiting = entry("runs", "q", 4000.0, begun=True), entry("waits", "p", 5000.0)
    await know(made, running)
    await know(made, waiting)
    for teller in ("p", "q"):
        queue = await made.queue(teller, HOME)
        (call,), (device,) = queue.waiting, queue.devices
        assert device.running is not None
        found = (queue.now_s, device.running.since_s, device.running.call.deadline_s, call.deadline_s)
        expected = now_s(teller), now_s(teller), now_s(teller) + 4000.0, now_s(teller) + 5000.0
        assert found == pytest.approx(expected, abs=100.0)
        assert device.running.call.left_s == pytest.approx(600.0, abs=100.0)


@pytest.mark.slow
async def test_rules_that_change_hold_for_all() -> None:
    made = await lines("p", "q")
    await know(made, replace(entry("film", "p", 9000.0, begun=True), step_s=6.0, steps_left=100))
    await made.say("q", now_s("q"), [("rules", "", Rules(max_yields=0))])
    await know(made, entry("urgent", "q", 650.0))
    assert await made.hear("p") == []
    await made.say("p", now_s("p"), [("rules", "", Rules(hand_off_s=0.0))])
    await know(made, entry("urgent", "q", 650.0))
    assert [told.kind for told in await made.hear("p")] == ["stop"]


async def say_for_ever(made: Lines, teller: str) -> None:
    while True:
        await made.say(teller, now_s(teller), [])
        await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_who_is_silent_is_gone_with_its_calls_and_has_to_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made = await lines("p", "q")
    await know(made, entry("here", "q", 4000.0, begun=True))
    assert (await made.queue("q", HOME)).devices[0].running is not None
    monkeypatch.setattr("deployments.order.shared._SILENT_S", 0.0)
    with pytest.raises(LookupError, match="q has said nothing"):
        await asyncio.wait_for(say_for_ever(made, "q"), 120.0)
    with pytest.raises(LookupError):
        await made.hear("p")
    await made.hello("r", now_s("r"), Rules())
    assert (await made.queue("r", HOME)).devices[0].running is None
    assert await made.hear("r") == []
