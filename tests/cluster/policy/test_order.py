"""What the order of calls promises of any snapshot and any sequence, and what it does on known ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.policy.calls import Call, Device, Moves, Queue, Rules, Running, Tenant, Yield, soft_deadline_s
from cluster.policy.forecast import has_promise, level, ranked
from cluster.policy.order import decide
from cluster.policy.types import PolicyError
from cluster.policy.use import UseMeter

SLACK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@dataclass
class Work:
    """A call as the test drives it."""

    name: str
    arrives_s: float
    steps: int
    step_s: float
    call: Call
    left: int = 0
    began_s: float = 0.0
    device: str | None = None
    yields_s: float | None = None
    yielded_to: list[str | None] = field(default_factory=list)
    ended_s: float = math.inf


@dataclass
class Play:
    """A small server of one stage: it applies every decision, and checks each as it comes."""

    work: list[Work]
    devices: Sequence[str]
    rules: Rules
    tenants: dict[str, Tenant] = field(default_factory=dict)
    use: UseMeter = field(default_factory=UseMeter)
    now_s: float = -1.0
    started: list[str] = field(default_factory=list)

    def run(self) -> "Play":
        for _ in range(10_000):
            moments = [work.arrives_s for work in self.work if work.arrives_s > self.now_s]
            moments += [self._leaves(work) for work in self.work if work.device is not None]
            if not moments:
                break
            self.now_s = min(moments)
            for work in self.work:
                if work.device is not None and self._leaves(work) <= self.now_s:
                    self._leave(work)
            self._decide()
        return self

    def _leaves(self, work: Work) -> float:
        if work.yields_s is not None:
            return work.yields_s + self.rules.hand_off_s / 2
        return work.began_s + work.left * work.step_s

    def _leave(self, work: Work) -> None:
        self.use.add(work.call.tenant, self.now_s - work.began_s, self.now_s)
        if work.yields_s is None:
            work.ended_s, work.left = self.now_s, 0
        else:
            work.left -= round((work.yields_s - work.began_s) / work.step_s)
            work.call = replace(work.call, parked=True)
            for own in self.work:
                if own.call.job == work.call.job:
                    own.call = replace(own.call, yields=own.call.yields + 1)
        work.device = work.yields_s = None

    def queue(self) -> Queue:
        on = {work.device: self._running(work) for work in self.work if work.device is not None}
        used = self.use.read(self.now_s)
        names = {**dict.fromkeys(used, Tenant()), **self.tenants}
        tenants = {name: Tenant(tenant.weight, used.get(name, 0.0)) for name, tenant in names.items()}
        waiting = tuple(replace(work.call, left_s=work.left * work.step_s) for work in self._waiting())
        return Queue(self.now_s, waiting, tuple(Device(name, on.get(name)) for name in self.devices), tenants)

    def _waiting(self) -> list[Work]:
        there = [work for work in self.work if work.arrives_s <= self.now_s and work.ended_s == math.inf]
        return [work for work in there if work.device is None]

    def _running(self, work: Work) -> Running:
        made = max(0.0, (self.now_s - work.began_s) / work.step_s)
        boundary_s = work.began_s + math.ceil(made - 1e-9) * work.step_s if work.yields_s is None else work.yields_s
        left_s = work.began_s + work.left * work.step_s - self.now_s
        return Running(
            replace(work.call, left_s=left_s),
            work.began_s,
            work.step_s if work.steps > 1 else 0.0,
            max(0.0, boundary_s - self.now_s),
            work.left - math.floor(made + 1e-9),
            work.yields_s is not None,
        )

    def _decide(self) -> None:
        queue = self.queue()
        moves = decide(queue, self.rules)
        check(queue, moves, self.rules)
        named = {work.name: work for work in self.work}
        for told in moves.yields:
            work = named[told.call]
            work.yields_s = self.now_s + self._running(work).stop_in_s
            work.yielded_to.append(told.to)
        busy = {work.device for work in self.work}
        for device, name in moves.next.items():
            if device not in busy and named[name].device is None:
                work = named[name]
                work.device = device
                work.began_s = self.now_s + (self.rules.hand_off_s / 2 if work.call.parked else 0.0)
                self.started.append(name)


def check(queue: Queue, moves: Moves, rules: Rules) -> None:
    """What holds of every decision."""
    now_s, waiting = queue.now_s, {call.id: call for call in queue.waiting}
    free = {device.name for device in queue.devices if device.running is None}
    begin = {device: name for device, name in moves.next.items() if device in free}
    assert len(begin) == min(len(free), len(waiting))  # nobody idles while a call waits
    assert len(set(moves.next.values())) == len(moves.next)
    passed = [level(call, now_s, rules) for name, call in waiting.items() if name not in begin.values()]
    assert all(level(waiting[name], now_s, rules) >= max(passed, default=-math.inf) for name in begin.values())
    running = {device.name: device.running for device in queue.devices if device.running is not None}
    for told in moves.yields:
        victim = running[told.device]
        assert victim.call.id == told.call
        assert not victim.yielding
        assert victim.step_s > 0
        assert victim.steps_left > max(1, rules.last_steps)
        assert victim.call.yields < rules.max_yields
        assert now_s - victim.since_s >= rules.gain * rules.hand_off_s
        assert max(level(call, now_s, rules) for call in waiting.values()) >= level(victim.call, now_s, rules)
    mirrored = replace(queue, waiting=tuple(reversed(queue.waiting)), devices=tuple(reversed(queue.devices)))
    assert decide(mirrored, rules) == moves


@st.composite
def works(draw: st.DrawFn) -> list[Work]:
    found = []
    for number in range(draw(st.integers(1, 14))):
        arrives_s = float(draw(st.integers(0, 120)))
        steps, step_s = draw(st.integers(1, 20)), draw(st.sampled_from([0.5, 1.0, 5.0]))
        call = Call(
            f"{number:02d}",
            steps * step_s,
            arrives_s + steps * step_s * draw(st.sampled_from([1.2, 2.0, 6.0])),
            promised=draw(st.booleans()),
            priority=draw(st.integers(-1, 1)),
            tenant=draw(st.sampled_from(["a", "b"])),
            job=draw(st.sampled_from([f"{number:02d}", "shared"])),
        )
        found.append(Work(call.id, arrives_s, steps, step_s, call, steps))
    return found


orders = st.builds(
    Rules,
    age_s=st.sampled_from([50.0, 600.0]),
    hand_off_s=st.sampled_from([0.0, 0.5, 3.0]),
    margin=st.sampled_from([0.0, 0.25, 1.0]),
    max_yields=st.integers(0, 3),
    last_steps=st.integers(0, 4),
)


@SLACK
@given(works(), st.integers(1, 3), orders)
def test_whatever_comes_every_call_ends_and_nobody_yields_in_turn(made: list[Work], count: int, rules: Rules) -> None:
    play = Play(made, [f"gpu-{number}" for number in range(count)], rules).run()
    assert all(work.ended_s < math.inf for work in play.work)
    assert all(work.call.yields <= rules.max_yields for work in play.work)
    assert sum(len(work.yielded_to) for work in play.work) == sum(
        {w.call.job: w.call.yields for w in play.work}.values()
    )
    pairs = {(work.name, to) for work in play.work for to in work.yielded_to}
    assert not pairs & {(to, name) for name, to in pairs}
    assert all(to is not None for _, to in pairs)
    if rules.max_yields == 0:
        assert not pairs


@SLACK
@given(works(), st.integers(1, 3), orders)
def test_the_same_calls_give_the_same_run(made: list[Work], count: int, rules: Rules) -> None:
    names = [f"gpu-{number}" for number in range(count)]
    first, second = (Play([replace(work) for work in made], names, rules).run() for _ in range(2))
    assert [work.ended_s for work in first.work] == [work.ended_s for work in second.work]


@SLACK
@given(works(), st.integers(1, 2))
def test_where_nobody_is_urgent_nobody_yields(made: list[Work], count: int) -> None:
    for work in made:
        work.call = replace(work.call, promised=False, priority=0)
    play = Play(made, [f"gpu-{number}" for number in range(count)], Rules()).run()
    assert not [to for work in play.work for to in work.yielded_to]


def lone(name: str, arrives_s: float, seconds: float, due_s: float, **about: object) -> Work:
    steps = max(1, round(seconds))
    known = {"promised": True, **about}
    call = Call(name, seconds, arrives_s + due_s, job=name, **known)  # type: ignore[arg-type]
    return Work(name, arrives_s, steps, seconds / steps, call, steps)


def test_nobody_starves_under_endless_urgent_calls() -> None:
    urgent = [lone(f"u{number:03d}", 10.0 * number, 10.0, 40.0, priority=2) for number in range(200)]
    low = lone("low", 1.0, 10.0, 30.0, promised=False)
    play = Play([*urgent, low], ["gpu"], Rules(age_s=100.0)).run()
    assert 200 <= low.ended_s <= 31 + 3 * 100 + 20  # by the third class it has risen it is above them
    assert all(work.ended_s < math.inf for work in play.work)


def test_a_broken_promise_goes_behind_those_that_can_be_kept_and_comes_back_by_age() -> None:
    lost = lone("lost", 0.0, 50.0, 40.0)
    others = [lone(f"o{number:02d}", 20.0 * number, 20.0, 30.0) for number in range(20)]
    play = Play([lost, *others], ["gpu"], Rules(age_s=100.0, max_yields=0)).run()
    assert play.started[0] == "o00"
    assert 140 <= lost.ended_s <= 40 + 100 + 20 + 50


@pytest.mark.parametrize(("weight", "low", "high"), [(1.0, 0.4, 0.6), (3.0, 0.65, 0.85)])
def test_tenants_share_a_stage_by_weight_however_much_one_asks_for(weight: float, low: float, high: float) -> None:
    flood = [lone(f"f{number:03d}", 0.0, 5.0, 20.0 + number, tenant="flood", promised=False) for number in range(100)]
    other = [lone(f"o{number:03d}", 0.0, 5.0, 900.0 + number, tenant="other", promised=False) for number in range(100)]
    tenants = {"flood": Tenant(), "other": Tenant(weight)}
    play = Play([*flood, *other], ["gpu-0", "gpu-1"], Rules(), tenants).run()
    early = play.started[:80]
    assert low <= sum(name.startswith("o") for name in early) / 80 <= high


def test_the_earlier_deadline_goes_first_and_a_class_before_it() -> None:
    calls = [lone("late", 0, 10, 90), lone("soon", 0, 10, 60), lone("high", 0, 10, 900, priority=1, promised=False)]
    play = Play([lone("first", 0, 10, 15), *(replace(work, arrives_s=1.0) for work in calls)], ["gpu"], Rules()).run()
    assert play.started == ["first", "high", "soon", "late"]


def running(call: Call, *, since_s: float = 0.0, step_s: float = 10.0, stop_in_s: float = 4.0) -> Running:
    return Running(call, since_s, step_s, stop_in_s, math.ceil(call.left_s / step_s) if step_s else 1)


LONG = Call("long", 800.0, 5000.0, promised=True)
SHORT = Call("short", 40.0, 160.0, promised=True)


def at_100(*devices: Device, waiting: Sequence[Call] = (SHORT,)) -> Queue:
    return Queue(100.0, tuple(waiting), devices)


def test_an_urgent_call_takes_the_device_of_one_that_still_keeps_its_own() -> None:
    moves = decide(at_100(Device("a", running(LONG))), Rules())
    assert moves == Moves({"a": "short"}, (Yield("a", "long", "short"),))


@pytest.mark.parametrize(
    "device",
    [
        Device("a", running(LONG, step_s=0.0)),  # cannot stop
        Device("a", running(replace(LONG, left_s=15.0), step_s=10.0)),  # in its last steps, and soon free
        Device("a", running(replace(LONG, yields=4))),  # its job has yielded enough
        Device("a", running(LONG, since_s=99.5)),  # has just begun
        Device("a", running(replace(LONG, deadline_s=930.0))),  # would be late
        Device("a", running(LONG, stop_in_s=30.0)),  # too late for the urgent one
        Device("a", running(replace(LONG, priority=1))),  # of a higher class
    ],
)
def test_who_may_not_be_stopped_is_not(device: Device) -> None:
    assert decide(at_100(device), Rules()).yields == ()


def test_a_call_without_a_promise_or_with_a_broken_one_yields_first() -> None:
    kept, soft = running(LONG), running(replace(LONG, id="soft", promised=False, deadline_s=300.0))
    lost = running(replace(LONG, id="lost", deadline_s=500.0))
    overdue = running(replace(LONG, id="overdue", promised=False, deadline_s=90.0))
    for other in (soft, lost, overdue):
        (told,) = decide(at_100(Device("a", kept), Device("b", other)), Rules()).yields
        assert told == Yield("b", other.call.id, "short")


def test_it_waits_where_that_is_in_time_or_where_yielding_saves_less_than_it_costs() -> None:
    soon = Device("b", running(replace(LONG, id="soon", left_s=8.0)))
    assert decide(at_100(Device("a", running(LONG)), soon), Rules(margin=0.0)).yields == ()
    late = replace(SHORT, deadline_s=145.5)  # in danger: in time on `a` from 104.5 on, not on `b` at 108
    assert decide(at_100(Device("a", running(LONG)), soon, waiting=[late]), Rules()).yields != ()
    assert decide(at_100(Device("a", running(LONG)), soon, waiting=[late]), Rules(gain=4.0)).yields == ()


def test_a_class_without_promises_takes_the_device_of_a_lower_one_alone() -> None:
    urgent = replace(SHORT, promised=False, priority=1)
    low = Device("a", running(replace(LONG, promised=False)))
    assert decide(at_100(low, waiting=[urgent]), Rules()).yields != ()
    assert decide(at_100(low, waiting=[replace(urgent, priority=0)]), Rules()).yields == ()


def test_a_call_in_danger_goes_before_one_that_can_wait_for_it() -> None:
    tight = Call("tight", 500.0, 604.0, promised=True)
    loose = Call("loose", 40.0, 200.0, promised=True)
    soon = Device("b", running(replace(LONG, id="soon", left_s=8.0)))
    assert decide(at_100(Device("a"), soon, waiting=[tight, loose]), Rules(max_yields=0)).next["a"] == "tight"
    assert decide(at_100(Device("a"), waiting=[tight, loose]), Rules(max_yields=0)).next["a"] == "loose"


def test_a_replica_that_is_about_to_be_free_is_told_what_comes_and_nothing_is_bound() -> None:
    soon, sooner = (Device(name, running(replace(LONG, id=name, left_s=s))) for name, s in (("a", 0.9), ("b", 0.5)))
    assert decide(at_100(soon, sooner), Rules()).next == {"b": "short"}
    fetched, other = replace(SHORT, at="b"), replace(SHORT, id="other", deadline_s=150.0)
    assert decide(at_100(soon, sooner, waiting=[fetched, other]), Rules()).next == {"a": "other", "b": "short"}
    assert decide(at_100(Device("a"), sooner, waiting=[fetched]), Rules()).next == {"a": "short"}
    assert decide(at_100(Device("c", running(replace(LONG, left_s=1.5)))), Rules(max_yields=0)).next == {}


def test_what_runs_on_a_replica_that_leaves_goes_on_elsewhere() -> None:
    leaving = Device("a", running(replace(LONG, yields=99)), leaving=True)
    assert decide(at_100(leaving, waiting=[]), Rules()).yields == ()  # there is no other
    moves = decide(at_100(leaving, Device("b"), waiting=[]), Rules())
    assert moves.yields == (Yield("a", "long", None),)
    assert decide(at_100(leaving, Device("b")), Rules()).next["b"] == "short"


def test_a_decision_over_a_thousand_calls_looks_at_few_of_them() -> None:
    many = [replace(SHORT, id=f"{number:04d}", deadline_s=150.0 + number) for number in range(1000)]
    devices = [Device(f"d{number:03d}", running(replace(LONG, id=f"l{number}"))) for number in range(50)]
    moves = decide(at_100(*devices, waiting=many), Rules())
    assert 1 <= len(moves.yields) <= 8


def test_a_broken_promise_ranks_behind_its_class_and_before_a_lower_one() -> None:
    broken, low = replace(SHORT, id="broken", deadline_s=120.0), replace(SHORT, id="low", priority=-1, deadline_s=141.0)
    for urgent in (set[str](), {"low"}):
        order = ranked(at_100(), [low, broken, SHORT], Rules(), urgent)
        assert [call.id for call in order] == ["short", "broken", "low"]


def test_of_tenants_that_have_had_alike_the_earlier_deadline_goes_first() -> None:
    soon, late = replace(SHORT, id="soon", tenant="z"), replace(SHORT, id="late", tenant="a", deadline_s=170.0)
    assert [call.id for call in ranked(at_100(), [late, soon], Rules())] == ["soon", "late"]
    had = replace(at_100(), tenants={"z": Tenant(used_s=50.0)})
    assert [call.id for call in ranked(had, [late, soon], Rules())] == ["late", "soon"]


def test_no_call_yields_to_a_later_deadline_of_its_class() -> None:
    soon = Device("b", Running(replace(LONG, id="soon", left_s=10.0), 0.0, steps_left=1))
    late, victim = Call("late", 200.0, 308.0, promised=True), replace(LONG, left_s=100.0, deadline_s=305.0)
    assert decide(at_100(Device("a", running(victim)), soon, waiting=[late]), Rules()).yields == ()
    victim = replace(victim, deadline_s=315.0)
    assert decide(at_100(Device("a", running(victim)), soon, waiting=[late]), Rules()).yields != ()


def test_windows_of_a_job_have_its_yields_together() -> None:
    windows = [replace(LONG, id=name, job="film", yields=3) for name in ("one", "two")]
    devices = [Device(call.id, running(call)) for call in windows]
    waiting = [SHORT, replace(SHORT, id="other")]
    assert len(decide(at_100(*devices, waiting=waiting), Rules(max_yields=4)).yields) == 1
    assert len(decide(at_100(*devices, waiting=waiting), Rules(max_yields=5)).yields) == 2


def test_promises_bind_until_nothing_can_keep_them() -> None:
    assert has_promise(SHORT, 120.0, Rules())
    assert not has_promise(SHORT, 120.1, Rules())
    assert not has_promise(replace(SHORT, parked=True), 120.0, Rules())
    assert not has_promise(replace(SHORT, promised=False), 0.0, Rules())


def test_soft_deadlines_are_declared_or_learnt() -> None:
    assert soft_deadline_s(10.0, 20.0) == 70.0
    assert soft_deadline_s(10.0, 20.0, 5.0) == 15.0


def test_old_use_fades() -> None:
    use = UseMeter(half_life_s=100.0)
    use.add("a", 8.0, 0.0)
    use.add("a", 2.0, 100.0)
    use.add("b", 1.0, 100.0)
    assert use.read(200.0) == pytest.approx({"a": 3.0, "b": 0.5})


def test_senseless_rules_are_refused() -> None:
    for make, words in (
        (lambda: Rules(age_s=0), "age_s above 0, got 0"),
        (lambda: Rules(hand_off_s=-1), "hand_off_s of 0 or more, got -1"),
        (lambda: Tenant(weight=0), "weight above 0, got 0"),
    ):
        with pytest.raises(PolicyError, match=words):
            make()


def test_an_idle_replica_comes_before_one_whose_call_can_stop_at_once() -> None:
    low = Running(Call("low", 10.0, 92.0, priority=-1), 38.0, 5.0, 0.0, 2)
    calls = [Call("late", 0.5, 44.6, priority=1), Call("soon", 0.5, 73.6)]
    devices = [Device("a", low), Device("b"), Device("c", Running(Call("stays", 2.5, 90.0), 0.5))]
    rules = Rules(age_s=50.0, hand_off_s=0.0, margin=0.0, last_steps=0)
    assert decide(Queue(73.0, calls, devices), rules).next["b"] == "late"
