"""Checks and practice with a known answer: who always says the same is found, and a rater learns what was meant."""

from typing import Any

import numpy as np

from client.schema_studies import Criterion, Rating
from deployments.studies.book import StudyBook
from deployments.studies.counting import judge_raters
from deployments.studies.crowd import Crowd, vote_all
from deployments.studies.spoiling import spoiled
from deployments.studies.votes import Ballot
from stages.media.videos import video_frames
from tests.deployments.rig import Rig
from tests.deployments.studies.making import clip, links, rater, ready, standing, vote
from tests.deployments.studies.plans import plan_for


def test_who_always_says_the_same_is_left_out_by_the_plans_rule() -> None:
    plan = plan_for(prompts=8, raters=3)
    ballots = [
        Ballot(f"{slot}", slot, number, trial, {"overall": "same"}, 4.0, 0, 0.0)
        for slot, trials in enumerate(plan.raters)
        for number, trial in enumerate(trials)
    ]
    assert [rater.excluded for rater in judge_raters(plan, ballots)] == [
        "did not see the spoiled video in 4 of 4 answers"
    ] * 3
    honest, _ = vote_all(plan, Crowd(reliability=1.0))
    assert [(rater.missed, rater.spoiled, rater.excluded) for rater in judge_raters(plan, honest)] == [(0, 4, None)] * 3


def test_questions_of_ones_own_have_no_known_answer() -> None:
    plan = plan_for(prompts=4, criteria=[Criterion(name="bluer", question="Which is bluer?")])
    assert plan.spoiled == ()
    assert {trial.kind for trial in plan.raters[0]} == {"counted", "training", "identical", "swapped"}
    mixed = plan_for(prompts=4, criteria=[*plan.criteria, Criterion(name="overall", question="Which is better?")])
    known = [mixed.expected(trial) for trial in mixed.raters[0] if trial.kind == "spoiled"]
    assert {tuple(one) for one in known} == {("overall",)}


def test_a_spoiled_copy_has_the_same_shape_and_holds_its_pictures() -> None:
    frames = clip(40)
    made = spoiled(frames, 24.0)
    assert (made.shape, made.dtype) == (frames.shape, frames.dtype)
    assert (made[:8] == made[0]).all()
    assert np.abs(made.astype(int) - frames).mean() > 3


async def test_practice_says_what_was_known_and_checks_do_not(rig: Rig) -> None:
    study = await ready(rig, training=2, identical=0, swapped=0, spoiled=3)
    assert (study.checks, study.prepared, study.videos) == (3, 10, 10)
    person = rater(rig, (await links(rig.http, study.id, count=1))[0])
    told = await standing(person)
    feedback: list[Any] = []
    while told.next is not None:
        answer = await vote(person, told.next.id, layout="stacked")
        assert answer.content == (await vote(person, told.next.id, layout="beside")).content
        told = Rating.model_validate_json(answer.content)
        feedback.append(told.feedback)
    assert [one is not None for one in feedback] == [True, *[False] * 8]
    assert feedback[0].expected["overall"] in ("left", "right")
    assert "spoiled on purpose" in feedback[0].reason
    assert (await standing(person)).feedback is None
    rows = (await rig.http.get(f"/v1/studies/{study.id}/export")).text
    assert rows.count("steps14, spoiled") == 1 + 3
    assert rows.count('"layout": "stacked"') == 9
    results = (await rig.http.get(f"/v1/studies/{study.id}/results")).json()
    assert "4 of 4 votes were given on a narrow screen" in results["notes"][-1]
    book, plan = StudyBook(rig.database), StudyBook(rig.database).get(study.id).plan
    key = book.shown(study.id)[plan.copy_of(plan.spoiled[0])]["key"]
    shown = [one.pixels() for one in video_frames(b"".join(rig.store.read(key, 0, rig.store.size(key))))]
    assert len(shown) == 46
