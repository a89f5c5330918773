"""Checks and practice with a known answer: who always says the same is found, and a rater learns what was meant."""

from typing import Any

import numpy as np
from scipy import stats

from client.schema_studies import CHOICES, Choice, Criterion, Rating
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
        "failed 6 of 14 checks: told 0 of 8 identical pairs apart, missed 6 of 6 spoiled videos"
    ] * 3
    honest, _ = vote_all(plan, Crowd(reliability=1.0))
    assert [(rater.missed, rater.spoiled, rater.excluded) for rater in judge_raters(plan, honest)] == [(0, 6, None)] * 3


def test_who_looks_is_left_out_once_in_a_hundred_at_most() -> None:
    plan = plan_for(prompts=8, raters=1, criteria=None)
    places = [n for n, trial in enumerate(plan.raters[0]) if trial.kind in ("identical", "spoiled")]

    def left_out(failures: int, questions: int = 3) -> bool:
        """Whether one is who fails so many checks by so many of three questions."""
        ballots = []
        for number, trial in enumerate(plan.raters[0]):
            known: Choice = "same" if number in places else CHOICES[number % 3]
            said = {each.name: known for each in plan.criteria} | plan.expected(trial)
            if number in places[:failures]:
                wrong: Choice = "left" if trial.kind == "identical" else "same"
                said |= dict.fromkeys(list(said)[:questions], wrong)
            ballots.append(Ballot("0", 0, number, trial, said, 4.0, 0, 0.0))
        [rater] = judge_raters(plan, ballots)
        assert (rater.checks, rater.failed) == (14, failures if questions > 1 else 0)
        return rater.excluded is not None

    assert [left_out(failures) for failures in range(15)] == [False] * 5 + [True] * 10
    assert stats.binom.sf(4, 14, plan.exclusion.lapses) < plan.exclusion.error < stats.binom.sf(3, 14, 0.1)
    assert not left_out(14, questions=1)  # who is unsure of one question has looked


def test_practice_and_checks_favour_no_system() -> None:
    plan = plan_for(prompts=8, raters=40)
    assert sorted(plan.sound(pair) // len(plan.items) for pair in plan.spoiled) == [0, 0, 1, 1]
    for small in (plan_for(prompts=2, seed=seed) for seed in (0, 1)):
        assert [small.sound(pair) // 2 for pair in small.spoiled] == [small.seed]  # one copy, of either
    for trial in (trial for trials in plan.raters for trial in trials if plan.is_spoiled(trial)):
        sides = {plan.side(trial, side): side for side in CHOICES if side != "same"}
        assert sides.keys() == {plan.sound(trial.pair), plan.copy_of(trial.pair)}
        assert set(plan.expected(trial).values()) == {sides[plan.sound(trial.pair)]}


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
    assert rows.count(", spoiled") == 1 + 3
    assert rows.count('"layout": "stacked"') == 9
    results = (await rig.http.get(f"/v1/studies/{study.id}/results")).json()
    assert "4 of 4 votes were given on a narrow screen" in results["notes"][-1]
    book, plan = StudyBook(rig.database), StudyBook(rig.database).get(study.id).plan
    key = book.shown(study.id)[plan.copy_of(plan.spoiled[0])]["key"]
    shown = [one.pixels() for one in video_frames(b"".join(rig.store.read(key, 0, rig.store.size(key))))]
    assert len(shown) == 46
