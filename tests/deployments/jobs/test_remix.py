"""From a job and its changes to a new job: where it begins, what it takes over, what is refused."""

from dataclasses import replace
from typing import Any

import pytest

from client.schema import CreateVideo, ExtendVideo, RemixVideo
from deployments.errors import InvalidRequestError, VideoNotReadyError
from deployments.jobs.judging import judge
from deployments.jobs.plans import plan_of, planned_of, windows_of
from deployments.jobs.remix import asked_of, extend, remix
from deployments.jobs.values import Job, JobRequest, Source

REQUEST = JobRequest(prompt="a fox", model="tiny", size="256x256", seconds="2", seed=7)
PICTURE = Source(key="uploads/a/source.png", sha256="00", kind="picture", enters="i2v", width=64, height=64)
FILM = Source(
    key="uploads/b/source.mp4", sha256="11", kind="video", enters="v2v", width=65, height=48, frames=24, fps=24.0
)
TAIL = FILM.model_copy(update={"enters": "i2v"})
WINDOWS = range(windows_of(plan_of(REQUEST)))


def job(request: JobRequest = REQUEST, **values: Any) -> Job:
    result, planned = {"key": "videos/a/1.mp4", "sha256": "00"}, planned_of(request, plan_of(request))
    made = Job("video_a", "succeeded", request, 0.0, 1.0, None, result, False, 1, (), planned)
    return replace(made, **values)


@pytest.mark.parametrize(
    ("change", "start", "needs"),
    [
        ({"prompt": "a cat"}, "t2i", {}),
        ({"seed": 8}, "t2i", {}),
        ({"factor": 2}, "vfi", {"v2v": WINDOWS}),
        ({"prompt": "a cat", "from_stage": "i2v"}, "i2v", {"t2i": [0]}),
        ({"prompt": "a cat", "from_stage": "v2v"}, "v2v", {"t2i": [0], "i2v": [0]}),
        ({"from_stage": "v2v"}, "v2v", {"t2i": [0], "i2v": [0]}),
    ],
)
def test_a_remix_begins_at_the_first_stage_that_changes(change: Any, start: str, needs: Any) -> None:
    child = remix(job(), RemixVideo(**change))
    assert (child.request.enter, child.needs) == (start, needs)
    assert child.request.prompt == change.get("prompt", "a fox")
    assert child.request.seed == change.get("seed", 7)


ALL = {"size": "256x256", "seconds": "1", "steps": 3, "guidance": 2.5, "factor": 4, "negative_prompt": "rain"}


@pytest.mark.parametrize(
    "said",
    [
        {},
        ALL,
        {"until": "t2i"},
        {"until": "i2v", "size": "256x256"},  # whose video has another size
        {"until": "v2v"},
        {"pause_after": "t2i", "candidates": 3},
        {"pause_after": "v2v", **ALL},
    ],
)
def test_what_was_asked_makes_the_same_job(said: Any) -> None:
    request = judge(CreateVideo(prompt="a fox", seed=7, **said), "tiny")
    assert judge(CreateVideo(prompt="a fox", seed=7, **asked_of(request)), "tiny") == request


@pytest.mark.parametrize(
    "made",
    [
        {"source": PICTURE, "enter": "i2v"},
        {"source": FILM, "enter": "v2v", "steps": 3},
        {"source": TAIL, "extends": TAIL, "enter": "i2v"},
        {"enter": "vfi", "factor": 4},
        {"enter": "v2v", "until": "v2v", "guidance": 2.0},
        {"enter": "i2v", "pause_after": "v2v"},
        {"candidates": 3, "candidate": 2},  # which one was chosen, no body says
    ],
)
def test_what_began_with_something_is_made_again_as_its_remix(made: Any) -> None:
    request = REQUEST.model_copy(update=made)
    again = remix(job(request), RemixVideo(**asked_of(request)))
    begins = {"enter": "i2v", "candidates": 1, "candidate": 0} if "candidate" in made else {}
    assert again.request == request.model_copy(update=begins)
    if "candidate" in made:
        assert again.needs == {"t2i": [2]}


def test_a_prompt_needs_a_subject_only_where_a_picture_is_drawn() -> None:
    assert remix(job(), RemixVideo(prompt="a wolf in the snow", from_stage="i2v")).request.enter == "i2v"
    drawn = CreateVideo(prompt="it walks in the snow")
    with pytest.raises(InvalidRequestError):
        judge(drawn, "tiny")
    assert judge(drawn, "tiny", PICTURE).prompt == drawn.prompt


def test_a_job_that_ended_early_goes_on_from_there() -> None:
    child = remix(job(REQUEST.model_copy(update={"until": "i2v"})), RemixVideo())
    assert (child.request.enter, child.request.until, child.needs) == ("v2v", "vfi", {"t2i": [0], "i2v": [0]})


def test_the_chosen_candidate_is_the_one_that_is_taken_over() -> None:
    child = remix(job(REQUEST.model_copy(update={"candidates": 4, "candidate": 2})), RemixVideo(from_stage="i2v"))
    assert (child.needs, child.request.candidate, child.request.candidates) == ({"t2i": [2]}, 0, 1)


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({}, "prompt", "Nothing would change"),
        ({"prompt": "a fox"}, "prompt", "Nothing would change"),
        ({"prompt": "a wolf"}, "prompt", "Like 'wolf' it knows 'fox' and 'dog'"),
        ({"prompt": "a cat", "from_stage": "vfi"}, "prompt", "prompt changes nothing at vfi; begin at t2i"),
        ({"from_stage": "v2v", "until": "i2v"}, "until", "until is 'i2v', but this job begins at v2v"),
        ({"from_stage": "v2v", "pause_after": "t2i"}, "pause_after", "pause_after is 't2i'"),
        ({"factor": 9}, "factor", "factor is 9; it must be between 2 and 8"),
        ({"steps": 0}, "steps", "steps is 0"),
    ],
)
def test_a_remix_that_cannot_be_is_refused_in_one_sentence(change: Any, param: str, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as caught:
        remix(job(), RemixVideo(**change))
    assert caught.value.param == param


def test_a_given_picture_stays_unless_it_is_drawn_anew() -> None:
    parent = job(REQUEST.model_copy(update={"source": PICTURE, "enter": "i2v"}))
    again = remix(parent, RemixVideo(prompt="a cat"))
    assert (again.request.enter, again.request.source, again.needs) == ("i2v", PICTURE, {"t2i": [0]})
    drawn = remix(parent, RemixVideo(prompt="a cat", from_stage="t2i"))
    assert (drawn.request.enter, drawn.request.source, drawn.needs) == ("t2i", None, {})


def test_a_video_that_was_sent_keeps_its_length_in_a_remix() -> None:
    parent = job(REQUEST.model_copy(update={"source": FILM, "enter": "v2v"}))
    steps = plan_of(parent.request)
    assert (steps.i2v.frames, steps.frames, steps.fps) == (9, 24, 24.0)  # as many frames as came
    child = remix(parent, RemixVideo(factor=2))
    for factor, frames in ((2, 16), (8, 64)):
        other = plan_of(child.request.model_copy(update={"factor": factor}))
        assert (other.i2v.frames, other.frames) == (9, frames)
    alone = plan_of(parent.request.model_copy(update={"until": "v2v"}))
    assert (alone.i2v.frames, alone.frames, alone.fps) == (9, 8, 8.0)
    assert child.needs == {"v2v": range(windows_of(steps))}


def test_a_video_for_vfi_keeps_its_rate_and_its_size_made_even() -> None:
    film = FILM.model_copy(update={"enters": "vfi"})
    request = REQUEST.model_copy(update={"source": film, "enter": "vfi", "factor": 2})
    result = planned_of(request, plan_of(request))
    assert (result.frames, result.fps, result.size) == (47, 48.0, (64, 48))


def test_an_extension_begins_with_the_old_video_and_its_last_frame() -> None:
    child = extend(job(), ExtendVideo(prompt="it jumps"))
    request = child.request
    assert (request.enter, request.prompt, request.seed) == ("i2v", "it jumps", 8)
    assert request.source == request.extends
    assert request.source is not None
    assert (request.source.key, request.source.frames, request.source.fps) == ("videos/a/1.mp4", 46, 24.0)
    assert planned_of(request, plan_of(request)).frames == 92
    twice = extend(job(request), ExtendVideo())
    assert planned_of(twice.request, plan_of(twice.request)).frames == 138


def test_what_cannot_be_extended_says_why() -> None:
    with pytest.raises(VideoNotReadyError, match="is not completed"):
        extend(job(result=None), ExtendVideo())
    for change in ({"until": "t2i"}, {"until": "i2v"}, {"source": FILM.model_copy(update={"enters": "vfi"})}):
        with pytest.raises(InvalidRequestError, match="cannot be extended"):
            extend(job(REQUEST.model_copy(update=change)), ExtendVideo())
