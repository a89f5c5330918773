"""The lines that several pipeline replicas share, as their actor has them; tests/e2e has the actor."""

import asyncio
import time
from typing import Any

import pytest

from cluster.policy.calls import Call, Rules
from deployments.order.shared import Lines
from deployments.order.words import Entry, Told

HOME = "i2v"
NOW_S = time.time()


def entry(name: str, teller: str, due_s: float, **about: Any) -> Entry:
    return Entry(Call(name, 600.0, NOW_S + due_s, True), teller, NOW_S, **about)


async def lines(*tellers: str) -> Lines:
    made = Lines(Rules())
    for teller in tellers:
        await made.hello(teller)
        await made.say(teller, [("see", HOME, frozenset({"a"}))])
    return made


async def test_calls_of_all_pipelines_are_in_one_line_and_each_hears_of_its_own() -> None:
    made = await lines("p", "q")
    await made.say("p", [("know", HOME, entry("late", "p", 5000.0))])
    await made.say("q", [("know", HOME, entry("early", "q", 4000.0))])
    assert await made.hear("q") == [Told("go", "early", "a")]
    await made.say("q", [("know", HOME, entry("early", "q", 4000.0, replica="a", begun_s=NOW_S))])
    assert await made.hear("p") == []
    await made.say("q", [("forget", HOME, "early")])
    assert await made.hear("p") == [Told("go", "late", "a")]


async def test_who_is_silent_is_gone_with_its_calls_and_has_to_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.order.shared._SILENT_S", 0.0)
    made = await lines("p", "q")
    await made.say("q", [("know", HOME, entry("here", "q", 4000.0, replica="a", begun_s=NOW_S))])
    assert len((await made.queue(HOME)).devices) == 1
    await asyncio.sleep(1.2)
    assert (await made.queue(HOME)).devices[0].running is None
    with pytest.raises(LookupError, match="q has said nothing"):
        await made.say("q", [])
    with pytest.raises(LookupError):
        await made.hear("p")
    await made.hello("p")
    assert await made.hear("p") == []
