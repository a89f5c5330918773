"""Studies over HTTP, as who asks sees them: made, refused, resumed, read, deleted."""

import asyncio
import csv
import io
import json
import time
from dataclasses import replace
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest

from client.schema_numbers import StudyNumbers
from client.schema_studies import Power, Study, StudyResults
from deployments.settings.application import AppArgs, IngressArgs
from deployments.studies.book import StudyBook
from deployments.studies.preparing import choose, probe, resized
from stages.measures.plugs import MeasureError, plugged
from tests.deployments.rig import Rig, create, error_of
from tests.deployments.studies.making import PROMPTS, clip, links, mp4, prepared, rater, ready, standing, systems, vote

pytestmark = pytest.mark.slow


def loudness(frames: Any, fps: float, prompt: str) -> dict[str, float]:
    """A measure of a user's own."""
    return {"red": float(frames[..., 0].mean()), "letters": len(prompt) * fps, "broken": float("nan")}


async def all_votes(rig: Rig, study: Study, choice: str = "left") -> None:
    for link in await links(rig.http, study.id):
        person = rater(rig, link)
        told = await standing(person)
        while told.next is not None:
            assert (await vote(person, told.next.id, choice)).status_code == 200
            told = await standing(person)


async def test_a_study_from_plan_to_results(rig: Rig) -> None:
    study = await ready(rig, raters=4, training=1, identical=3, swapped=1)
    assert (study.state, study.systems, study.prepared, study.note) == ("ready", ["steps14", "steps6"], 9, None)
    again = await ready(rig, systems=await systems(rig), raters=4, training=1, identical=3, swapped=1)
    assert again.digest != study.digest  # of other videos
    await all_votes(rig, study)
    answer = await rig.http.get(f"/v1/studies/{study.id}/results")
    results = StudyResults.model_validate_json(answer.content)
    assert results.digest == study.digest
    assert (results.votes, results.raters) == (0, 0)  # all of them told identical pairs apart
    assert {rater.excluded for rater in results.quality} == {
        "failed 3 of 3 checks: told 3 of 3 identical pairs apart, missed 0 of 0 spoiled videos"
    }
    [found] = results.comparisons
    assert (found.verdict, found.missing, found.p_value) == ("too few votes", 30, None)
    assert {"motion_energy", "flicker", "sharpness"} <= {one.number for one in results.numbers}
    lines = (await rig.http.get(f"/v1/studies/{study.id}/export")).text.splitlines()
    first = json.loads(lines[0])
    assert len(lines) == 4 * 9
    assert first["a_id"].startswith("video_")
    assert (first["a"], first["choice_overall"], first["counts"]) == ("steps14", "left", False)
    assert first["a_seed"] == first["b_seed"]
    table = list(csv.DictReader(io.StringIO((await rig.http.get(f"/v1/studies/{study.id}/export?format=csv")).text)))
    assert [row["trial"] for row in table] == [str(json.loads(line)["trial"]) for line in lines]
    assert error_of(await rig.http.get(f"/v1/studies/{study.id}/plots/bars"), 409).code == "no_votes"
    assert error_of(await rig.http.get(f"/v1/studies/{study.id}/plots/pie"), 400).code == "invalid_parameter"


async def test_three_systems_are_ranked_and_drawn(rig: Rig) -> None:
    study = await ready(rig, systems=await systems(rig, ("x", "y", "$z$")), raters=4, identical=0, swapped=0)
    assert study.pairs == 12
    await all_votes(rig, study, "same")
    results = StudyResults.model_validate((await rig.http.get(f"/v1/studies/{study.id}/results")).json())
    assert [one.verdict for one in results.comparisons] == ["too few votes"] * 3
    assert [(one.same, one.missing) for one in results.comparisons] == [(16, 14)] * 3
    for name in ("bars", "ranking"):
        answer = await rig.http.get(f"/v1/studies/{study.id}/plots/{name}")
        assert answer.headers["content-type"] == "image/png"
        with PIL.Image.open(io.BytesIO(answer.content)) as picture:
            assert 900 <= picture.size[0] <= 1100  # 8 inches, and what stands beside the bars


async def test_sets_that_differ_are_encoded_alike_and_the_study_says_so(rig: Rig) -> None:
    files = []
    for number, data in enumerate((mp4(rig, 1), mp4(rig, 2, frames=23, side=96, fps=12.0))):
        form = {"file": (f"secret-{number}.mp4", data, "video/mp4")}
        files.append((await rig.http.post("/v1/files", files=form)).json()["id"])
    sets = [{"name": name, "videos": [{"prompt": "p", "file_id": files[n]}]} for n, name in enumerate("ab")]
    study = await ready(rig, systems=sets)
    assert study.media is not None
    assert (study.media.width, study.media.fps, study.media.frames) == (96, 24.0, 46)
    assert study.note is not None
    assert study.note.startswith("All videos were encoded anew, to 96x96, 24 fps, 46 frames and ")
    assert "differ in size, frame rate, length" in study.note
    for number in range(2):
        key = StudyBook(rig.database).shown(study.id)[number]["key"]
        with av.open(io.BytesIO(b"".join(rig.store.read(key, 0, rig.store.size(key))))) as film:
            stream = film.streams.video[0]
            assert (stream.width, stream.height, stream.frames, float(stream.average_rate or 0)) == (96, 96, 46, 24.0)
    for file in files:
        await rig.http.delete(f"/v1/files/{file}")
    person = rater(rig, (await links(rig.http, study.id, count=1))[0])
    told = await standing(person)
    assert told.next is not None
    assert (await person.get(told.next.left)).status_code == 200  # the study has copies of its own


async def test_a_video_that_cannot_be_decoded_fails_the_study_with_its_name(rig: Rig) -> None:
    sets = await systems(rig, prompts=("a fox",))
    broken = (await create(rig.http, prompt="a fox", seed=1)).id
    rig.finish(mp4(rig, 3)[:700])
    sets[1]["videos"] = [{"prompt": "a fox", "video_id": broken}]
    answer = await rig.http.post("/v1/studies", json={"systems": sets})
    study = await prepared(rig.http, answer.json()["id"])
    assert study.state == "failed"
    assert study.error is not None
    assert f"The video of 'a fox', take 0, of 'steps6' ({broken}) cannot be decoded" in study.error
    [link] = await links(rig.http, study.id, count=1)
    assert error_of(await rater(rig, link).get("/v1/rate"), 409).code == "study_failed"  # nobody waits for it


async def test_bad_bodies_are_one_sentence(rig: Rig) -> None:
    sets = await systems(rig)
    less = [sets[0], {**sets[1], "videos": sets[1]["videos"][:-1]}]
    twice = [sets[0], {**sets[1], "videos": [*sets[1]["videos"], sets[1]["videos"][0]]}]
    waiting = (await create(rig.http, prompt="a fox")).id
    unfinished = [sets[0], {**sets[1], "videos": [*sets[1]["videos"][:-1], {"prompt": "a robot", "video_id": waiting}]}]
    missing = [sets[0], {**sets[1], "videos": [*sets[1]["videos"][:-1], {"prompt": "a robot", "video_id": "video_0"}]}]
    neither = [sets[0], {**sets[1], "videos": [{"prompt": "a fox"}]}]
    rows: list[tuple[dict[str, Any], int, str]] = [
        ({"systems": less}, 400, "The sets do not pair: 'steps6' lacks 1 of the 4 videos of 'steps14', the first"),
        ({"systems": twice}, 400, "has two videos of take 0 of 'a fox'; number them by take."),
        ({"systems": [sets[0], {**sets[1], "name": "steps14"}]}, 400, "Two systems are called 'steps14'"),
        ({"systems": sets[:1]}, 400, "systems is"),
        ({"systems": unfinished}, 409, f"Video {waiting} is queued; a study takes completed ones"),
        ({"systems": missing}, 404, "No video has the id 'video_0'"),
        ({"systems": neither}, 400, "A video of 'a fox' needs one of video_id and file_id."),
        ({"systems": sets, "raters": 1000, "trials": 4, "identical": 50, "training": 20, "x": 1}, 400, "Field x is 1"),
        ({"systems": sets, "title": "a\x00b"}, 400, "holds the sign NUL"),
        ({}, 400, "Field systems is missing."),
    ]
    for body, status, words in rows:
        assert words in error_of(await rig.http.post("/v1/studies", json=body), status).message
    assert "The body is not JSON" in error_of(await rig.http.post("/v1/studies", content="{"), 400).message
    assert (await rig.http.get("/v1/studies")).json()["data"] == []


async def test_videos_of_two_lengths_are_refused_with_both(rig: Rig) -> None:
    form = {"file": ("a.mp4", mp4(rig, 1, frames=24), "video/mp4")}
    file = (await rig.http.post("/v1/files", files=form)).json()["id"]
    sets = await systems(rig, prompts=("a fox",))
    sets[1]["videos"] = [{"prompt": "a fox", "file_id": file}]
    said = error_of(await rig.http.post("/v1/studies", json={"systems": sets}), 400).message
    assert said.startswith("The video of 'a fox' (take 0) of 'steps6' lasts 1.00 s and one of 'steps14' 1.92 s; all")


async def test_the_same_key_makes_one_study_and_what_was_left_is_taken_up(rig: Rig) -> None:
    body = {"systems": await systems(rig), "seed": 3}
    key = {"Idempotency-Key": "mine"}
    first, second = [(await rig.http.post("/v1/studies", json=body, headers=key)).json() for _ in range(2)]
    assert first["id"] == second["id"]
    other = await rig.http.post("/v1/studies", json={**body, "seed": 4}, headers=key)
    assert error_of(other, 409).code == "idempotency_key_reused"
    await prepared(rig.http, first["id"])
    book = StudyBook(rig.database)
    assert not book.take(first["id"])  # it is ready
    unused = await rig.http.delete(f"/v1/studies/{first['id']}")
    assert unused.json()["deleted"]
    assert list(rig.store.files("studies")) == []
    assert error_of(await rig.http.get(f"/v1/studies/{first['id']}/results"), 404).code == "study_not_found"


@pytest.mark.slow
async def test_numbers_that_take_a_model_are_measured_beside_the_votes(rig: Rig) -> None:
    sets = await systems(rig, prompts=PROMPTS[:2])
    study = await ready(rig, systems=sets, training=0, identical=0, swapped=0, raters=3)
    await all_votes(rig, study)
    numbers = StudyNumbers.model_validate((await rig.http.get(f"/v1/studies/{study.id}/numbers")).json())
    assert (numbers.state, "warp_error" in numbers.videos[0].numbers) == ("pixels", False)
    numbers = StudyNumbers.model_validate((await rig.http.post(f"/v1/studies/{study.id}/numbers")).json())
    end = time.monotonic() + 300
    while numbers.state == "measuring":
        assert time.monotonic() < end, "waited 300 s for the numbers"
        await asyncio.sleep(0.2)
        numbers = StudyNumbers.model_validate((await rig.http.get(f"/v1/studies/{study.id}/numbers")).json())
    assert numbers.state == "complete", numbers
    assert not any("Nothing was measured" in note for note in numbers.notes), numbers.notes
    assert [(one.system, one.prompt) for one in numbers.videos] == [
        (system, prompt) for system in ("steps14", "steps6") for prompt in PROMPTS[:2]
    ]
    assert all(one.numbers["warp_error"] >= 0 and one.numbers["motion_energy"] > 0 for one in numbers.videos)
    assert any("our judges are not trained" in note or "Frechet" in note for note in numbers.notes) or numbers.sets
    results = StudyResults.model_validate((await rig.http.get(f"/v1/studies/{study.id}/results")).json())
    assert {"warp_error", "motion_energy"} <= {one.number for one in results.numbers}
    assert {(one.pairs, one.correlation) for one in results.numbers} == {(2, None)}  # too few pairs for one
    row = json.loads((await rig.http.get(f"/v1/studies/{study.id}/export")).text.splitlines()[0])
    assert row["a_warp_error"] == pytest.approx(numbers.videos[PROMPTS.index(row["prompt"])].numbers["warp_error"])
    assert (await rig.http.delete(f"/v1/studies/{study.id}")).status_code == 200
    assert list(rig.store.files("studies")) == []


async def test_power_is_told_before(rig: Rig) -> None:
    found = Power.model_validate((await rig.http.get("/v1/studies/power?difference=0.2&ties=0.25")).json())
    assert found.independent_votes > 100
    assert found.designs
    assert "must be between" in error_of(await rig.http.get("/v1/studies/power?difference=7"), 400).message


async def test_a_measure_of_ones_own_stands_beside_the_votes(rig: Rig) -> None:
    path = f"{__name__}:loudness"
    rig.app = rig.served(AppArgs(ingress=IngressArgs(study_measures=(path,))))
    study = await ready(rig, rig.client())
    measured = StudyBook(rig.database).numbers(study.id)
    assert set(measured[0]) == {"motion_energy", "flicker", "sharpness", "contrast", "loop_jump", "red", "letters"}
    with pytest.raises(MeasureError, match="names no measure"):
        plugged("nowhere.at.all:clip")


def test_two_encoders_are_told_by_their_files_and_so_all_is_encoded_anew(rig: Rig) -> None:
    ours, theirs = mp4(rig, 1), io.BytesIO()
    with av.open(theirs, "w", format="mp4") as film:
        stream = film.add_stream("libx264", rate=24, options={"profile": "baseline", "crf": "30"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for frame in clip(1):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        film.mux(stream.encode())
    facts = [probe(data, "it") for data in (ours, theirs.getvalue())]
    facts = [replace(one, kbit_s=100.0) for one in facts]
    assert choose([facts[:1], facts[:1]]).why == ""
    assert "because the sets differ in coding" in choose([facts[:1], facts[1:]]).why


def test_another_shape_is_shown_whole_in_the_middle() -> None:
    wide = np.full((40, 80, 3), 200, np.uint8)
    shown = resized(wide, (64, 64))
    assert shown.shape == (64, 64, 3)
    assert (shown[16:48].min(), shown[:16].max(), shown[48:].max()) == (200, 0, 0)
