"""What a job is told while its call lies in Serve's queue."""

from deployments.on_ray.streams import Info
from deployments.pipeline.lacking import Lacking
from deployments.pipeline.progress import JobProgress

SAID = "Stage v2v has no replica that runs; the job waits for one."


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def said(progress: JobProgress) -> str | None:
    return progress.waits_for


def test_a_call_without_a_replica_says_so_until_there_is_one() -> None:
    clock, progress = Clock(), JobProgress(Clock())
    lacking = Lacking(clock)
    with lacking.call("v2v", progress) as call:
        lacking.look({"t2i": 1, "v2v": 0})
        assert said(progress) is None  # a router that is new may not have heard of them yet
        clock.now = 2.0
        lacking.look({"t2i": 1})
        assert said(progress) is None  # nobody knows
        lacking.look({"v2v": 0})
        assert said(progress) == SAID
        lacking.look({"v2v": 0})
        lacking.look({"v2v": 1})
        assert said(progress) is None  # the queue works, however long
        lacking.look({"v2v": 0})
        lacking.began(call)
        progress.info("v2v", Info(kind="started", last=False))
        lacking.look({"v2v": 0})
        assert said(progress) is None
    assert [data["reason"] for kind, data in progress.take()[1] if kind == "waiting"] == [SAID, SAID]


def test_what_something_else_lacks_stays_said() -> None:
    clock, progress = Clock(), JobProgress(Clock())
    lacking = Lacking(clock)
    with lacking.call("v2v", progress):
        clock.now = 2.0
        progress.waits("v2v", "The artifact store is full.")
        lacking.look({"v2v": 3})
        assert said(progress) == "The artifact store is full."
    lacking.look({"v2v": 0})
    assert said(progress) == "The artifact store is full."
