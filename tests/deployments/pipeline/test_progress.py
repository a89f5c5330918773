"""From the infos of stage calls to what a client is shown."""

from typing import Any

from client.schema import StageState
from deployments.jobs.values import overall
from deployments.on_ray.streams import Info
from deployments.pipeline.progress import JobProgress


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def output(index: int, last: bool, nbytes: int = 10, run_s: float = 1.0) -> Info:
    return Info(kind="output", last=last, index=index, bytes=nbytes, run_s=run_s, replica="node:7")


def step(step: int, total: int) -> Info:
    return Info(kind="progress", last=False, step=step, total=total)


STARTED = Info(kind="started", last=False)


def state_of(progress: JobProgress, name: str) -> StageState:
    return next(state for state in progress.take()[0] if state.name == name)


def test_a_stage_is_queued_then_runs_then_is_completed() -> None:
    clock = Clock()
    progress = JobProgress(clock)
    progress.sent("t2i")
    assert state_of(progress, "t2i").status == "queued"
    clock.now = 1.5
    progress.info("t2i", STARTED)
    progress.info("t2i", step(5, 10))
    half = state_of(progress, "t2i")
    assert (half.status, half.progress, half.queued_s) == ("running", 50, 1.5)
    progress.info("t2i", output(0, last=True))
    assert state_of(progress, "t2i").progress == 99  # complete is what the pipeline says it is
    progress.completed("t2i")
    done = state_of(progress, "t2i")
    assert (done.status, done.progress, done.run_s, done.bytes_out) == ("completed", 100, 1.0, 10)


def test_a_step_that_is_shown_is_there_until_its_stage_is_done_and_is_not_written() -> None:
    progress = JobProgress(Clock())
    progress.sent("t2i")
    progress.info("t2i", Info(**{**step(2, 4), "glimpse": b"RIFF"}))
    progress.info("t2i", step(3, 4))
    assert progress.glimpse == b"RIFF"
    assert "RIFF" not in repr(progress.take())
    progress.completed("t2i")
    assert progress.glimpse is None


def test_a_stage_says_the_most_memory_of_its_calls() -> None:
    progress = JobProgress(Clock())
    progress.sent("vfi")
    for peak in ({"peak_memory_mb": 300.5}, {"peak_memory_mb": 120.0}, {}):
        progress.info("vfi", Info(**{**output(0, last=False), **peak}))  # type: ignore[typeddict-item]
    progress.info("t2i", output(0, last=True))
    states = {state.name: state.peak_memory_mb for state in progress.take()[0]}
    assert states == {"t2i": None, "vfi": 300.5}
    progress.restarted(2, "an output is gone")
    assert state_of(progress, "vfi").peak_memory_mb is None


def test_an_output_says_with_how_many_it_was_computed() -> None:
    progress = JobProgress(Clock())
    for batch in ({}, {"batch": 3}):
        progress.info("t2i", Info(**{**output(0, last=True), **batch}))  # type: ignore[typeddict-item]
    made = [data for kind, data in progress.take()[1] if kind == "stage_output"]
    assert [data.get("batch") for data in made] == [None, 3]


def test_a_stage_with_many_calls_adds_them_up_and_never_goes_back() -> None:
    progress = JobProgress(Clock())
    progress.expect_calls("vfi", 2)
    seen = []
    for _ in range(4):
        progress.sent("vfi")
        progress.info("vfi", STARTED)
        progress.info("vfi", output(0, last=True, nbytes=5))
        seen.append(state_of(progress, "vfi"))
    percents = [state.progress for state in seen]
    assert percents[0] == 50
    assert percents == sorted(percents)
    assert (seen[-1].bytes_out, seen[-1].run_s) == (20, 4.0)


def test_only_changes_are_handed_out_and_events_keep_their_order() -> None:
    progress = JobProgress(Clock())
    assert not progress.dirty
    progress.sent("t2i")
    progress.info("t2i", STARTED)
    progress.completed("t2i")
    states, events, _ = progress.take()
    assert [state.name for state in states] == ["t2i"]
    assert [kind for kind, _ in events] == ["stage_queued", "stage_started", "stage_completed"]
    assert progress.take() == ((), (), {})


def test_a_retry_and_a_restart_are_told_and_begin_again() -> None:
    progress = JobProgress(Clock())
    progress.sent("i2v")
    progress.info("i2v", STARTED)
    progress.info("i2v", step(9, 10))
    progress.take()
    progress.retried("i2v", 1, "ActorDiedError", lost_s=0.25)
    states, events, _ = progress.take()
    assert states[0].progress == 0
    told = {"stage": "i2v", "index": 0, "attempt": 1, "reason": "ActorDiedError", "lost_s": 0.25}
    assert events == (("stage_retried", told),)
    progress.restarted(1, "lost")
    states, _, _ = progress.take()
    assert [(state.name, state.status) for state in states] == [("i2v", "waiting")]


def test_a_retry_of_one_window_leaves_the_others_as_far_as_they_are() -> None:
    progress = JobProgress(Clock())
    progress.expect_calls("v2v", 4)
    for number in range(3):
        progress.sent("v2v")
        progress.info("v2v", STARTED, number)
    progress.info("v2v", output(0, last=True), 0)
    progress.info("v2v", step(8, 10), 1)
    progress.info("v2v", step(6, 10), 2)
    assert state_of(progress, "v2v").progress == 60
    progress.retried("v2v", 1, "ActorDiedError", 2)
    states, events, _ = progress.take()
    assert states[0].progress == 45
    assert events[-1][1]["index"] == 2


def test_the_whole_is_between_nothing_and_everything() -> None:
    def whole(**percents: Any) -> int:
        return overall(tuple(StageState(name=name, progress=percent) for name, percent in percents.items()))

    assert whole(t2i=0, i2v=0, v2v=0, vfi=0) == 0
    assert whole(t2i=100, i2v=100, v2v=100, vfi=100) == 100
    assert 0 < whole(t2i=100, i2v=0, v2v=0, vfi=0) < whole(t2i=100, i2v=50, v2v=0, vfi=0) < 100
