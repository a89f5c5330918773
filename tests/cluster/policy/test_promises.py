"""Whether a deadline can be promised, under the order."""

from dataclasses import replace

from cluster.policy.calls import Call, Device, Queue, Rules, Running
from cluster.policy.promises import Stop, promise

RULES = Rules(safety=0.0)
LONG = Running(Call("long", 100.0, 1000.0, True, job="long"), 0.0, 10.0, 5.0, 10)


def stop(*waiting: Call, running: Running | None = LONG, own_s: float = 20.0, **about: object) -> Stop:
    devices = (Device("a", running),)
    return Stop(Queue(50.0, waiting, devices), [own_s], **about)  # type: ignore[arg-type]


def test_a_free_replica_promises_what_the_job_takes_and_safety_on_top() -> None:
    assert promise([stop(running=None)], 70.0, RULES).keeps
    refused = promise([stop(running=None)], 70.0, Rules(safety=0.1))
    assert (refused.keeps, refused.end_s) == (False, 72.0)
    assert not promise([stop(running=None)], 69.0, RULES).keeps


def test_a_running_call_that_would_yield_is_counted_on() -> None:
    told = promise([stop()], 100.0, RULES)
    assert (told.keeps, told.end_s) == (True, 50 + 5 + 0.5 + 20)
    stays = replace(LONG, step_s=0.0)
    assert promise([stop(running=stays)], 100.0, RULES).end_s == 170.0


def test_nothing_is_promised_that_would_break_an_earlier_promise() -> None:
    tight = replace(LONG, call=replace(LONG.call, left_s=100.0, deadline_s=155.0))
    assert not promise([stop(running=tight)], 120.0, RULES).keeps
    first = Call("first", 40.0, 195.0, True, job="first")
    late = promise([stop(first, running=replace(LONG, step_s=0.0))], 190.0, RULES)
    assert (late.keeps, late.late) == (False, frozenset({"first"}))


def test_later_stages_wait_for_those_that_are_on_their_way() -> None:
    before = Call("first", 30.0, 2000.0, True, job="first")
    coming = Call("first-2", 60.0, 2000.0, True, job="first")
    ahead = replace(LONG, call=before, step_s=0.0)
    way = [stop(running=ahead, after_s=5.0), stop(running=None, own_s=5.0, coming=[coming])]
    assert promise(way, 5000.0, RULES).end_s == 50 + 30 + 60 + 5  # ready 50 s after, behind what came before
    assert promise(way, 110.0, RULES).keeps is False


def test_a_call_that_comes_later_counts_on_what_will_yield_to_it() -> None:
    """LONG runs at the second stage now, and is free of it when the first one is done."""
    way = [stop(running=None, own_s=20.0, after_s=40.0), stop(running=LONG, own_s=40.0)]
    found = promise(way, 150.0, RULES)
    assert (found.keeps, found.end_s) == (True, 50 + 20 + 5 + 0.5 + 40)


def test_a_call_that_has_just_begun_will_yield_when_it_has_run_a_while() -> None:
    rules = replace(RULES, gain=10.0)  # not before 10 s
    new = replace(LONG, since_s=47.0)
    found = promise([stop(running=new)], 100.0, rules)
    assert (found.keeps, found.end_s) == (True, 50 + 7 + 5 + 0.5 + 20)
    assert promise([stop(running=new)], 80.0, rules).keeps is False


def test_a_stage_without_a_replica_promises_nothing() -> None:
    assert not promise([Stop(Queue(0.0), [1.0])], 1e9, RULES).keeps
    assert promise([], 5.0, RULES).keeps
