"""What a pipeline replica knows of the work at each stage."""

import pytest

from cluster.policy.reports import Report, from_floats
from cluster.pools.stage_args import BatchArgs, StageArgs
from deployments.errors import ConfigError
from deployments.jobs.values import JobRequest, NewJob
from deployments.journal.journal import Journal
from deployments.pipeline.demand import Demand
from deployments.settings.application import AppArgs, ScalingArgs
from deployments.settings.reading import parse_args

ARGS = AppArgs(
    stages={"v2v": StageArgs(num_gpus=0.5)},
    scaling=ScalingArgs(budget_gpus=8, call_s={"v2v": 10.0}, start_up_s={"v2v": 60.0}, policy={"margin": 0.1}),
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def read(demand: Demand, running_jobs: int = 0) -> Report:
    report = from_floats(demand.read(running_jobs))
    assert report is not None
    return report


def test_calls_wait_run_and_leave_however_they_end(journal: Journal) -> None:
    clock = Clock()
    demand = Demand(ARGS, journal.database, clock)
    with demand.call("v2v") as first, demand.call("v2v"):
        demand.began(first)
        clock.now += 4.0
        v2v = read(demand).stages["v2v"]
        assert (v2v.waiting, v2v.running) == (1, 1)
        assert v2v.remaining_s == pytest.approx(6.0)
        clock.now += 60.0
        assert read(demand).stages["v2v"].remaining_s == 0.0  # late, but no debt
    with pytest.raises(RuntimeError), demand.call("v2v"):
        raise RuntimeError("its replica died")
    v2v = read(demand).stages["v2v"]
    assert (v2v.waiting, v2v.running, v2v.call_s) == (0, 0, 10.0)


def test_seconds_of_calls_are_measured_and_replace_what_was_said(journal: Journal) -> None:
    demand = Demand(ARGS, journal.database)
    assert read(demand).stages["t2i"].call_s == 0.0
    for stage in ("t2i", "v2v"):
        with demand.call(stage) as call:
            call.run_s = 5.0
    stages = read(demand).stages
    assert stages["t2i"].call_s == 5.0
    assert 5.0 < stages["v2v"].call_s < 10.0
    for _ in range(40):
        demand.expect("v2v", 3)
    assert read(demand).stages["v2v"].calls == pytest.approx(3.0)


def test_calls_of_a_batch_share_a_replica_and_its_seconds(journal: Journal) -> None:
    clock = Clock()
    args = AppArgs(stages={"t2i": StageArgs(batch=BatchArgs(size=4))}, scaling=ScalingArgs(call_s={"t2i": 2.0}))
    demand = Demand(args, journal.database, clock)
    with demand.call("t2i") as first, demand.call("t2i") as second:
        for call in (first, second):
            demand.began(call, 2)
            call.run_s = 1.5
        clock.now += 1.0
        t2i = read(demand).stages["t2i"]
        assert (t2i.running, t2i.busy, t2i.batch, t2i.batch_s) == (2, 1.0, 4, 0.0)
        assert t2i.remaining_s == pytest.approx(1.0)
    t2i = read(demand).stages["t2i"]
    assert t2i.call_s == 2.0
    assert t2i.batch_s == pytest.approx(6.0)  # four would take six seconds at most
    with demand.call("t2i") as third:
        demand.began(third)
        third.run_s = 2.0
    assert read(demand).stages["t2i"].batch_s == pytest.approx(6.0)


async def test_stages_that_jobs_do_not_reach_are_wanted_less(journal: Journal) -> None:
    """Seven of ten end as pictures; one begins behind T2I, with a video that was sent."""
    demand = Demand(ARGS, journal.database)
    await demand.look()
    assert {stage.share for stage in read(demand).stages.values()} == {1.0}
    asked = {"prompt": "a fox", "model": "tiny", "size": "256x256", "seconds": "2"}
    for seed in range(10):
        own = {"until": "t2i"} if seed < 7 else {"enter": "v2v"} if seed == 7 else {}
        journal.submit(NewJob(JobRequest.model_validate({**asked, **own, "seed": seed})))
    await demand.look()
    shares = {name: stage.share for name, stage in read(demand).stages.items()}
    assert shares == pytest.approx({"t2i": 0.9, "i2v": 0.2, "v2v": 0.3, "vfi": 0.3})


async def test_it_counts_what_waits_in_the_journal_and_what_arrives(journal: Journal) -> None:
    demand = Demand(ARGS, journal.database)
    await demand.look()
    assert (read(demand).queued_jobs, read(demand).arrivals_per_s) == (0, 0.0)
    for seed in range(3):
        journal.submit(NewJob(JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=seed)))
    await demand.look()
    await demand.look()  # nothing is counted twice
    report = read(demand, running_jobs=2)
    assert (report.queued_jobs, report.running_jobs) == (3, 2)
    assert 0 < report.arrivals_per_s <= 3 / 15  # no less than a twentieth of the window counts


def test_how_long_replicas_load_is_what_they_say_and_replaces_what_was_said(journal: Journal) -> None:
    demand = Demand(ARGS, journal.database)
    demand.loaded("v2v", 41.0)
    assert (read(demand).stages["v2v"].start_up_s, read(demand).stages["t2i"].start_up_s) == (41.0, 0.0)


def test_the_settings_travel_with_it(journal: Journal) -> None:
    report = read(Demand(ARGS, journal.database))
    assert (report.budget_gpus, report.options, report.max_jobs) == (8, {"margin": 0.1}, ARGS.pipeline.max_jobs)
    assert (report.stages["v2v"].gpus, report.stages["v2v"].start_up_s) == (0.5, 60.0)
    assert list(report.stages) == ["t2i", "i2v", "v2v", "vfi"]


@pytest.mark.parametrize(
    ("policy", "said"), [({"speed": 1.0}, "no such option; it has goal_s"), ({"stickiness": 0.5}, "1 or more, got 0.5")]
)
def test_options_that_the_policy_does_not_have_are_refused_at_the_start(policy: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_args({"scaling": {"policy": policy}})
