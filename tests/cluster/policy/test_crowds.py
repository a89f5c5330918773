"""The order of hundreds of calls: fair as its definition says, and decided with little work."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.policy import order
from cluster.policy.calls import Call, Device, Queue, Rules, Running, Tenant
from cluster.policy.forecast import ranked
from cluster.policy.order import decide
from cluster.policy.promises import Stop, promise
from cluster.policy.use import UseMeter


def shared(calls: Sequence[Call], had: dict[str, float], weights: dict[str, float]) -> list[str]:
    """As "shared fairly" is meant: of the tenants that have had at most a longest call more than the one that has had
    least, the earliest call.
    """
    left, quantum_s, made = sorted(calls, key=lambda call: call.deadline_s), max(call.left_s for call in calls), []
    while left:
        least = min(had[call.tenant] for call in left)
        call = next(call for call in left if had[call.tenant] <= least + quantum_s)
        left.remove(call)
        had[call.tenant] += call.left_s / weights[call.tenant]
        made.append(call.id)
    return made


@settings(max_examples=200, deadline=None)
@given(
    asked=st.lists(st.tuples(st.integers(1, 9), st.sampled_from("abcd")), min_size=1, max_size=30),
    used=st.tuples(*[st.integers(0, 40)] * 4),
    weights=st.tuples(*[st.sampled_from([1.0, 2.0, 4.0])] * 4),
)
def test_tenants_share_a_class(asked: list[tuple[int, str]], used: tuple[int, ...], weights: tuple[float, ...]) -> None:
    calls = [Call(f"{n:02d}", left_s, 100.0 + n, tenant=tenant) for n, (left_s, tenant) in enumerate(asked)]
    tenants = {name: Tenant(*about) for name, *about in zip("abcd", weights, map(float, used), strict=True)}
    had = {name: tenant.used_s / tenant.weight for name, tenant in tenants.items()}
    expected = shared(calls, had, dict(zip("abcd", weights, strict=True)))
    assert [call.id for call in ranked(Queue(0.0, calls, (), tenants), calls, Rules())] == expected


def crowd(count: int, replicas: int = 8) -> Queue:
    """Calls of several tenants, many of which are in danger, before replicas that could be taken away."""
    calls = [
        Call(f"{n:04d}", 5.0, 108.0 + n % 40, n % 2 == 0, 5 * (n % 3 == 0), f"t{n % 7}", f"job-{n}")
        for n in range(count)
    ]
    running = [Running(Call(f"r{n}", 60.0, 900.0 + n, priority=-5), 0.0, 1.0, 0.5, 60) for n in range(replicas)]
    return Queue(100.0, calls, [Device(f"d{n}", one) for n, one in enumerate(running)])


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls were sorted, each time."""
    seen: list[int] = []

    def counted(queue: Queue, calls: Sequence[Call], *about: object) -> list[Call]:
        seen.append(len(calls))
        return ranked(queue, calls, *about)  # type: ignore[arg-type]

    monkeypatch.setattr(order, "ranked", counted)
    return seen


def test_what_a_decision_tries_it_tries_with_the_calls_that_start_soonest(looked_at: list[int]) -> None:
    assert decide(crowd(500), Rules()).yields != ()
    assert sum(size >= 500 for size in looked_at) <= 2  # the whole line, before and after
    assert all(size <= 60 for size in looked_at if size < 500)


def test_so_does_a_promise_with_its_own_calls_beside_them(looked_at: list[int]) -> None:
    queue = crowd(500)
    short = Call("", 0.05, 0.0, tenant="t0")
    before = [replace(short, id=call.id, deadline_s=165.0 + n / 1000) for n, call in enumerate(queue.waiting)]
    found = promise([Stop(replace(queue, waiting=before), [8.0])], 170.0, Rules(safety=0.0), tenant="t0")
    assert found.keeps  # behind all of them it ends at 171 s
    assert sum(size >= 500 for size in looked_at) <= 6
    assert all(size <= 60 for size in looked_at if size < 500)


def test_who_came_once_is_forgotten() -> None:
    use = UseMeter(half_life_s=10.0)
    for number in range(1000):
        use.add(f"tenant-{number}", 5.0, 0.0)
    use.add("here", 5.0, 300.0)
    assert use.read(300.0).keys() == {"here"}
    assert use._used.keys() == {"here"}
