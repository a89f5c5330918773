"""What jobs ask of the stages, and speeds that are found again in the seconds of jobs."""

import random
from typing import Any

import pytest

from deployments.jobs.values import JobRequest
from deployments.jobs.work import Load, loads_of, speed_of
from stages.types import STAGE_NAMES, StageName

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)


def asked(**changes: Any) -> dict[StageName, Load]:
    return dict(loads_of(REQUEST.model_copy(update=changes)))


def test_a_job_asks_what_its_request_says() -> None:
    whole = asked()
    assert tuple(whole) == STAGE_NAMES
    assert [whole[name].calls for name in STAGE_NAMES] == [1, 1, 2, 2]
    assert whole["t2i"] == Load(0.256**2, 0.256**2 * 14 * 2, 1)
    assert asked(steps=7)["t2i"].work == whole["t2i"].work / 2
    assert asked(guidance=1.0)["i2v"].work == whole["i2v"].work / 2
    assert asked(steps=30)["v2v"].work == whole["v2v"].work * 9 / 3  # strength 0.3 of 30 steps, and of 12
    assert asked(factor=5)["vfi"].work == whole["vfi"].work * 2
    assert asked(seconds="8")["i2v"].work > 4 * whole["i2v"].work  # windows overlap
    assert asked(candidates=3)["t2i"].calls == 3
    assert asked(prompt="a whale", seed=1) == whole


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"until": "t2i"}, ["t2i"]),
        ({"until": "v2v"}, ["t2i", "i2v", "v2v", "vfi"]),  # VFI joins the windows
        ({"enter": "v2v"}, ["v2v", "vfi"]),
        ({"enter": "vfi"}, ["vfi"]),
        ({"pause_after": "i2v"}, ["t2i", "i2v"]),
        ({"model": "gone"}, []),
    ],
)
def test_only_the_stages_that_it_runs_until_it_pauses_or_ends(changes: dict[str, str], stages: list[str]) -> None:
    assert list(asked(**changes)) == stages


def test_joining_alone_is_no_work() -> None:
    assert asked(until="v2v")["vfi"].work == 0


def test_speeds_are_found_again_in_mixed_jobs_one_of_which_was_slow() -> None:
    chance = random.Random(3)
    done = []
    for _ in range(15):
        size = chance.choice((1.0, 2.0, 4.0))
        load = Load(size, size * chance.randint(2, 40))
        done.append((load, (3.0 * load.size + 0.5 * load.work) * chance.uniform(0.95, 1.05)))
    done.append((done[0][0], 9 * done[0][1]))
    found = speed_of("i2v", done)
    assert found.work_s == pytest.approx(0.5, rel=0.1)
    assert found.rest_s == pytest.approx(3.0, rel=0.25)


@pytest.mark.parametrize("times", [28.0, 0.0])
def test_jobs_of_one_kind_foretell_the_next_of_that_kind(times: float) -> None:
    load = Load(2.0, 2.0 * times)
    found = speed_of("t2i", [(load, seconds) for seconds in (6.0, 7.0, 20.0)])
    assert found.seconds(load) == pytest.approx(7.0)
    assert found.median_s == 7.0
    assert found.seconds(Load(1.0, times)) == pytest.approx(3.5)


def test_no_job_takes_less_than_nothing() -> None:
    loads = [Load(1.0, 10.0), Load(1.0, 20.0)]
    for seconds in ((1.0, 9.0), (9.0, 1.0)):
        found = speed_of("t2i", list(zip(loads, seconds, strict=True)))
        assert min(found.rest_s, found.work_s) >= 0
