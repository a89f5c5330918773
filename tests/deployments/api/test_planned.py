"""What a job will give is settled when it is accepted, and answered from its row: no answer makes a plan."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import null, update

from client.schema import Health
from deployments.api.ingress import create_app
from deployments.files.keeper import Keeper
from deployments.files.store import ArtifactStore
from deployments.jobs.plans import plan_of, planned_of, windows_of
from deployments.jobs.values import JobRequest, NewJob, Planned, Source, Update
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.journal.tables import jobs
from deployments.settings.application import AppArgs
from stages.presets import RequestError
from tests.deployments.journal.job_acts import LONG_S, REQUEST, claim, submit

PICTURE = Source(key="uploads/a/source.png", sha256="00", kind="picture", enters="i2v", width=64, height=64)
FILM = PICTURE.model_copy(update={"kind": "video", "enters": "v2v", "frames": 24, "fps": 24.0})
TAIL = FILM.model_copy(update={"enters": "i2v"})


def client(journal: Journal, folder: Path) -> httpx.AsyncClient:
    store = ArtifactStore(f"file://{folder}/artifacts")

    async def nudge() -> None:
        pass

    health = Health(status="ok", model="tiny", version="1", stages={"t2i": 1})
    app = create_app(AppArgs(), journal, store, nudge=nudge, health=lambda: health, show=Keeper(store.url).show)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


async def answers(http: httpx.AsyncClient, video_id: str) -> list[dict[str, Any]]:
    """Of the routes that show a job."""
    one, page = [await http.get(path) for path in (f"/v1/videos/{video_id}", "/v1/videos")]
    return [one.raise_for_status().json(), *page.raise_for_status().json()["data"]]


def forget_the_preset(journal: Journal) -> None:
    """From now on no preset serves what the jobs were accepted with."""
    asked = REQUEST.model_copy(update={"size": "2x2"})
    with pytest.raises(RequestError):
        plan_of(asked)
    with journal.database.write() as connection:
        connection.execute(update(jobs).values(request=asked.model_dump()))


async def test_a_job_is_shown_as_it_was_accepted_though_it_could_not_be_planned_now(
    journal: Journal, leases: Leases, tmp_path: Path
) -> None:
    async with client(journal, tmp_path) as http:
        created = (
            (await http.post("/v1/videos", json={"prompt": "a fox in Paris", "seconds": "2"})).raise_for_status().json()
        )
        assert created["note"], "the tiny preset says which words it does not know"
        forget_the_preset(journal)
        shown = [{name: said[name] for name in ("size", "frames", "fps", "note")} for said in [created]]
        for said in await answers(http, created["id"]):
            assert {name: said[name] for name in shown[0]} == shown[0]
        held, job = claim(leases)
        leases.finish(Update(held), "succeeded", result={})
        cancelled = await http.post(f"/v1/videos/{job.id}/cancel")
        assert cancelled.status_code == 409
        assert len(await answers(http, job.id)) == 2


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"until": "t2i"},
        {"until": "i2v"},
        {"until": "v2v"},
        {"factor": 2},
        {"pause_after": "t2i", "candidates": 3},
        {"source": PICTURE, "enter": "i2v"},
        {"source": FILM, "enter": "v2v"},
        {"source": TAIL, "extends": TAIL, "enter": "i2v"},
        {"enter": "vfi", "factor": 8},
    ],
)
def test_what_was_planned_stands_with_the_job_wherever_it_is_read(
    journal: Journal, leases: Leases, change: dict[str, Any]
) -> None:
    request = JobRequest.model_validate({**REQUEST.model_dump(), **change})
    steps = plan_of(request)
    planned = planned_of(request, steps)
    assert planned.windows == windows_of(steps)
    job = journal.submit(NewJob(request))[0]
    again = journal.get(job.id)
    claimed = leases.claim("a", LONG_S)
    assert claimed is not None
    assert [planned] * 4 == [job.planned, again.planned, journal.page()[0][0].planned, claimed[1].planned]


def test_a_job_that_goes_on_with_a_candidate_gives_what_was_planned(journal: Journal, leases: Leases) -> None:
    request = REQUEST.model_copy(update={"pause_after": "t2i", "candidates": 2})
    planned = journal.submit(NewJob(request))[0].planned
    held, _ = claim(leases)
    leases.pause(Update(held), "t2i")
    assert journal.go_on(held.job_id, 1).planned == planned


def test_an_extension_gives_the_frames_before_it_too() -> None:
    alone = planned_of(REQUEST, plan_of(REQUEST))
    longer = REQUEST.model_copy(update={"source": TAIL, "extends": TAIL, "enter": "i2v"})
    assert planned_of(longer, plan_of(longer)).frames == TAIL.frames + alone.frames


def test_a_job_from_before_plans_were_kept_is_planned_when_it_is_read(journal: Journal) -> None:
    job_id = submit(journal)
    planned: Planned = journal.get(job_id).planned
    with journal.database.write() as connection:
        connection.execute(update(jobs).values(planned=null()))
    assert journal.get(job_id).planned == planned


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"factor": 4, "until": "i2v"}, "factor 4 is VFI's"),
        ({"factor": 4, "until": "v2v"}, "ends after v2v"),
        (
            {"source": FILM.model_copy(update={"enters": "vfi"}), "enter": "vfi", "steps": 4},
            "steps: VFI denoises nothing",
        ),
        ({"seconds": "8", "until": "t2i"}, "seconds 8"),
        ({"factor": 4}, ""),
        ({"steps": 4, "until": "t2i"}, ""),
    ],
)
def test_what_was_asked_for_and_makes_no_difference_is_told(change: dict[str, Any], says: str) -> None:
    request = JobRequest.model_validate({**REQUEST.model_dump(), **change})
    note = planned_of(request, plan_of(request)).note
    assert says in note
    assert bool(says) == ("no difference" in note)
