"""Raters over HTTP: what a link opens, what is never told, votes that count once and are on the disk."""

import io
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from client.schema_studies import RaterLinks, Rating
from deployments.journal.backup import back_up, restore
from deployments.studies.book import StudyBook
from deployments.studies.votes import RaterBook
from tests.deployments.rig import Rig, error_of
from tests.deployments.studies.making import links, mp4, rater, ready, standing, systems, vote


async def test_a_rater_votes_on_all_trials_and_goes_on_where_they_stopped(rig: Rig) -> None:
    study = await ready(rig, raters=2, training=1, identical=1, swapped=1)
    assert (study.pairs, study.trials, study.checks, study.training, study.media is not None) == (4, 4, 2, 1, True)
    first, second = await links(rig.http, study.id)
    person = rater(rig, first)
    told = await standing(person)
    assert (told.progress.total, told.progress.done, told.next and told.next.training) == (7, 0, True)
    for number in range(7):
        assert told.next is not None
        assert told.next.number == number + 1
        answer = await vote(person, told.next.id)
        told = Rating.model_validate_json(answer.content)
        elsewhere = await standing(rater(rig, first))  # another device
        assert elsewhere == told.model_copy(update={"feedback": None})
    assert (told.complete, told.next, told.after) == (True, None, None)
    assert (await standing(rater(rig, second))).progress.done == 0
    listed = RaterLinks.model_validate((await rig.http.get(f"/v1/studies/{study.id}/links")).json()).data
    assert [(link.rater, link.done, link.total) for link in listed] == [(1, 7, 7), (2, 0, 7)]


@pytest.mark.slow
async def test_a_vote_that_is_sent_twice_counts_once_and_another_one_is_refused(rig: Rig) -> None:
    study = await ready(rig)
    person = rater(rig, (await links(rig.http, study.id, count=1))[0])
    told = await standing(person)
    assert told.next is not None
    assert told.after is not None
    once, again = await vote(person, told.next.id), await vote(person, told.next.id)
    assert once.content == again.content
    assert error_of(await vote(person, told.next.id, "right"), 409).code == "vote_differs"
    assert len(RaterBook(rig.database).ballots(study.id)) == 1
    after = (await standing(person)).after
    assert after is not None
    ahead = error_of(await vote(person, after.id), 409)
    assert (ahead.code, ahead.message) == (
        "trial_not_next",
        "Trial 3 is not your next one, trial 2 is; open your link again.",
    )


@pytest.mark.parametrize(
    ("change", "status", "code", "words"),
    [
        ({"choices": {}}, 400, "invalid_field", "choices answers nothing; this study asks 'overall'."),
        ({"choices": {"overall": "up"}}, 400, "invalid_field", "choices.overall is 'up'"),
        ({"choices": {"overall": "left", "x": "left"}}, 400, "invalid_field", "'overall', 'x'"),
        ({"watched_s": 1.0}, 400, "watched_too_short", "for 1 s; vote after 2 s."),
        ({"watched_s": "long"}, 400, "invalid_field", "watched_s is 'long'"),
        ({"trial": "t1_000000000000"}, 404, "trial_not_found", "is none of your trials"),
        ({"trial": "t99_000000000000"}, 404, "trial_not_found", "is none of your trials"),
        ({"side": "left"}, 400, "invalid_field", "Field side"),
    ],
)
async def test_a_bad_vote_is_one_sentence_and_nothing_is_written(
    rig: Rig, change: dict[str, Any], status: int, code: str, words: str
) -> None:
    study = await ready(rig, systems=await systems(rig, prompts=("a fox",)), min_watch_s=2.0)
    person = rater(rig, (await links(rig.http, study.id, count=1))[0])
    told = await standing(person)
    assert told.next is not None
    body = {"trial": told.next.id, "choices": {"overall": "left"}, "watched_s": 3.0, **change}
    error = error_of(await person.post("/v1/rate/votes", json=body), status)
    assert error.code == code
    assert words in error.message
    assert RaterBook(rig.database).ballots(study.id) == []


async def test_a_vote_for_a_trial_of_another_rater_is_refused(rig: Rig) -> None:
    study = await ready(rig, raters=2)
    first, second = [rater(rig, link) for link in await links(rig.http, study.id)]
    theirs = (await standing(second)).next
    assert theirs is not None
    assert error_of(await vote(first, theirs.id), 404).code == "trial_not_found"
    assert error_of(await first.get(theirs.left), 404).code == "trial_not_found"


async def test_a_link_that_is_expired_revoked_foreign_or_none_opens_nothing(rig: Rig) -> None:
    study = await ready(rig, raters=3)
    kept, revoked = await links(rig.http, study.id, count=2)
    [short] = await links(rig.http, study.id, days=1e-9)
    assert error_of(await rig.http.post(f"/v1/studies/{study.id}/links", json={}), 409).code == "no_raters_left"
    assert (await rig.http.delete(f"/v1/studies/{study.id}/links/{revoked['id']}")).json()["data"][0]["url"] is None
    found = [error_of(await rater(rig, link).get("/v1/rate"), 403) for link in (revoked, short)]
    assert [error.code for error in found] == ["link_revoked", "link_expired"]
    foreign = {"url": kept["url"][:-1] + ("A" if kept["url"][-1] != "A" else "B")}
    assert error_of(await rater(rig, foreign).get("/v1/rate"), 403).code == "invalid_link"
    for text in ("", "mv_000000000000_x", kept["url"].partition("#")[2][:-2]):
        assert error_of(await rater(rig, {"url": f"#{text}"}).get("/v1/rate"), 401).code == "invalid_link"
    assert error_of(await rig.http.get("/v1/rate"), 401).code == "invalid_link"
    [again] = await links(rig.http, study.id)  # the place of the revoked one
    assert again["rater"] == revoked["rater"]
    await rig.http.delete(f"/v1/studies/{study.id}")
    assert error_of(await rater(rig, kept).get("/v1/rate"), 404).code == "study_not_found"


async def test_a_link_is_worth_what_the_keys_of_its_tenant_are(rig: Rig) -> None:
    maker, other = rig.tenant("studio"), rig.tenant("other")
    study = await ready(rig, maker, systems=await _sent(rig, maker))
    assert error_of(await other.get(f"/v1/studies/{study.id}"), 404).code == "study_not_found"
    assert (await other.get("/v1/studies")).json()["data"] == []
    [link] = await links(maker, study.id, count=1)
    person = rig.client("10.9.9.9", authorization=f"Bearer {link['url'].partition('#')[2]}")
    assert (await standing(person)).next
    assert error_of(await person.get("/v1/videos"), 401).code == "invalid_api_key"
    for key in rig.keys.all():
        rig.keys.revoke(key.id)
    assert error_of(await person.get("/v1/rate"), 403).code == "link_revoked"


async def _sent(rig: Rig, client: Any) -> Any:
    made = []
    for number, name in enumerate(("one", "two")):
        form = {"file": (f"{name}.mp4", mp4(rig, 30 * number), "video/mp4")}
        file = (await client.post("/v1/files", files=form)).json()
        made.append({"name": name, "videos": [{"prompt": "a fox", "file_id": file["id"]}]})
    return made


async def test_a_browser_is_told_nothing_of_systems_jobs_prompts_or_files(rig: Rig) -> None:
    study = await ready(rig)
    person = rater(rig, (await links(rig.http, study.id, count=1))[0])
    answers = [await person.get("/v1/rate")]
    told = await standing(person)
    while told.next is not None:
        answers += [await person.get(told.next.left), await person.get(told.next.right)]
        answers.append(await vote(person, told.next.id))
        told = Rating.model_validate_json(answers[-1].content)
    assert len(answers) == 1 + 3 * (2 + 4 + 8 + 2)
    assert len({answer.headers["content-length"] for answer in answers if _is_film(answer)}) == 1  # nor does its size
    secret = [b"steps14", b"steps6", b"a fox", b"tiny", b"secret words", b"video_", b"x264", study.id.encode()]
    for answer in answers:
        assert answer.status_code == 200
        said = b"".join(name + value for name, value in answer.headers.raw) + answer.content
        assert not [word for word in secret if word in said]
        assert not {"etag", "content-disposition", "last-modified"} & set(answer.headers)
    with av.open(io.BytesIO(answers[1].content)) as film:
        assert film.metadata.keys() <= {"major_brand", "minor_version", "compatible_brands", "encoder"}
        assert sum(1 for _ in film.decode(video=0)) == 46


def _is_film(answer: httpx.Response) -> bool:
    return answer.headers["content-type"] == "video/mp4"


async def test_a_link_holds_when_the_journal_is_restored_elsewhere(rig: Rig, tmp_path: Path) -> None:
    study = await ready(rig)
    link = (await links(rig.http, study.id, count=1))[0]
    first = (await standing(rater(rig, link))).next
    assert first is not None
    await vote(rater(rig, link), first.id)
    back_up(rig.database, tmp_path / "journal.gz")
    (tmp_path / "other").mkdir()
    other = Rig(tmp_path / "other")
    assert error_of(await rater(other, link).get("/v1/rate"), 403).code == "invalid_link"  # and nothing is written
    restore(other.database, tmp_path / "journal.gz")
    assert (await standing(rater(other, link))).progress.done == 1
    assert (await links_of(other, study.id)) == [link["id"]]
    await other.close()


async def test_videos_are_shown_when_their_turn_comes(rig: Rig) -> None:
    study = await ready(rig, training=0, identical=0, swapped=0)
    person = rater(rig, (await links(rig.http, study.id, count=1))[0])
    seat = RaterBook(rig.database).seat((await links_of(rig, study.id))[0], closed=False)
    assert [(await person.get(f"v1/rate/trials/{seat.name(n)}/left")).status_code for n in range(3)] == [200, 200, 409]
    assert error_of(await person.get(f"v1/rate/trials/{seat.name(0)}/middle"), 404).code == "trial_not_found"
    rig.store.delete(StudyBook(rig.database).shown(study.id)[seat.plan.side(seat.trials[0], "left")]["key"])
    assert error_of(await person.get(f"v1/rate/trials/{seat.name(0)}/left"), 410).code == "study_video_gone"


async def links_of(rig: Rig, study_id: str) -> list[str]:
    return [link["id"] for link in (await rig.http.get(f"/v1/studies/{study_id}/links")).json()["data"]]
