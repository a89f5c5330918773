"""The routes of videos, pools and health over HTTP, and every error in the API's shape."""

import pytest

from client.schema import ErrorBody, JobError, Pools, StageState, Video, VideoList
from cluster.policy.reports import from_floats
from deployments.jobs.values import Update
from deployments.pipeline.demand import Demand
from deployments.settings.application import AppArgs, PreviewArgs
from tests.deployments.rig import Rig, error_of


async def test_a_full_queue_says_when_to_come_back(rig: Rig) -> None:
    for _ in range(3):
        await rig.create()
    answer = await rig.http.post("/v1/videos", json={"prompt": "a fox"})
    error = error_of(answer, 429)
    assert (error.type, error.code, answer.headers["retry-after"]) == ("rate_limit_error", "queue_full", "7")
    assert "the limit is 3" in error.message


async def test_progress_and_stages_are_shown_while_it_runs(rig: Rig) -> None:
    video = await rig.create()
    claim = rig.claim()
    states = (
        StageState(name="t2i", status="completed", progress=100, queued_s=0.1, run_s=2.0, bytes_out=3000),
        StageState(name="i2v", status="running", progress=50),
    )
    rig.leases.record([Update(claim, states)])
    shown = Video.model_validate((await rig.http.get(f"/v1/videos/{video.id}")).json())
    assert shown.status == "in_progress"
    assert shown.stages[:2] == list(states)
    assert 0 < shown.progress < 100


async def test_a_failed_video_says_why_and_has_no_content(rig: Rig) -> None:
    video = await rig.create()
    rig.leases.finish(Update(rig.claim()), "failed", error=JobError(code="stage_failed", message="Stage v2v failed."))
    answer = await rig.http.get(f"/v1/videos/{video.id}")
    shown = Video.model_validate_json(answer.content)
    assert (shown.status, shown.error) == ("failed", JobError(code="stage_failed", message="Stage v2v failed."))
    assert "openai-poll-after-ms" not in answer.headers
    refused = error_of(await rig.http.get(f"/v1/videos/{video.id}/content"), 409)
    assert "Stage v2v failed." in refused.message


async def test_pages_are_walked_with_after(rig: Rig) -> None:
    empty = VideoList.model_validate((await rig.http.get("/v1/videos")).json())
    assert (empty.data, empty.first_id, empty.has_more) == ([], None, False)
    ids = [(await rig.create()).id for _ in range(3)]
    first = VideoList.model_validate((await rig.http.get("/v1/videos", params={"limit": 2})).json())
    assert ([video.id for video in first.data], first.has_more) == ([ids[2], ids[1]], True)
    rest = await rig.http.get("/v1/videos", params={"limit": 2, "after": str(first.last_id)})
    assert ([video["id"] for video in rest.json()["data"]], rest.json()["has_more"]) == ([ids[0]], False)
    oldest = await rig.http.get("/v1/videos", params={"limit": 1, "order": "asc"})
    assert oldest.json()["first_id"] == ids[0]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"limit": "0"}, "limit is '0'; it must be between 1 and 100."),
        ({"limit": "101"}, "limit is '101'; it must be between 1 and 100."),
        ({"limit": "ten"}, "limit is 'ten'; it must be between 1 and 100."),
        ({"limit": "9" * 5000}, f"limit is '{'9' * 79}...; it must be between 1 and 100."),
        ({"order": "newest"}, "order is 'newest'; it must be one of: asc, desc."),
        ({"after": "video_nobody"}, "No video has the id 'video_nobody'; GET /v1/videos lists those there are."),
    ],
)
async def test_a_page_that_does_not_exist_is_refused(rig: Rig, query: dict[str, str], says: str) -> None:
    error = error_of(await rig.http.get("/v1/videos", params=query), 404 if "after" in query else 400)
    assert (error.param, error.message) == (next(iter(query)), says)
    assert error.code == ("video_not_found" if "after" in query else "invalid_parameter")


@pytest.mark.parametrize(
    ("path", "headers", "says"),
    [
        ("/remix", {"Idempotency-Key": ""}, "has 0 characters; it must have between 1 and 255."),
        ("/extend", {"Idempotency-Key": "k" * 256}, "has 256 characters; it must have between 1 and 255."),
        ("/remix", {"Idempotency-Key": "schlüssel"}, "holds signs that are not printable ASCII; use letters"),
        ("/events", {"Last-Event-ID": "-1"}, "is '-1'; it must be between 0 and 999999999999999999."),
        ("/events", {"Last-Event-ID": "last"}, "is 'last'; it must be between 0 and"),
    ],
)
async def test_a_header_that_cannot_be_is_named(rig: Rig, path: str, headers: dict[str, str], says: str) -> None:
    sent = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    method = "GET" if path == "/events" else "POST"
    error = error_of(await rig.http.request(method, f"/v1/videos/video_x{path}", headers=sent), 400)
    assert (error.param, error.code) == (next(iter(headers)), "invalid_header")
    assert f"{error.param} {says}" in error.message


@pytest.mark.parametrize("video_id", ["video_nobody", "%2e%2e%2fetc", "' OR 1=1 --", "x" * 2000])
async def test_an_unknown_id_is_not_found(rig: Rig, video_id: str) -> None:
    for method, path in (("GET", ""), ("GET", "/content"), ("POST", "/cancel"), ("DELETE", "")):
        answer = await rig.http.request(method, f"/v1/videos/{video_id}{path}")
        assert answer.status_code == 404
        ErrorBody.model_validate_json(answer.content)


async def test_cancel_stops_what_has_not_ended_and_says_so_otherwise(rig: Rig) -> None:
    queued = await rig.create()
    for _ in range(2):
        answer = await rig.http.post(f"/v1/videos/{queued.id}/cancel")
        video = Video.model_validate(answer.json())
        assert (answer.status_code, video.status) == (200, "failed")
        assert video.error is not None
        assert video.error.code == "cancelled"
    running = await rig.create()
    held = rig.claim()
    nudges = rig.nudges
    asked = Video.model_validate((await rig.http.post(f"/v1/videos/{running.id}/cancel")).json())
    assert (asked.status, rig.journal.get(running.id).cancel_requested) == ("in_progress", True)
    assert rig.nudges == nudges + 1
    rig.leases.finish(Update(held), "succeeded", result={"key": "k", "size_bytes": 1, "sha256": "s"})
    ended = error_of(await rig.http.post(f"/v1/videos/{running.id}/cancel"), 409)
    assert (ended.code, "is completed; only an unfinished one" in ended.message) == ("video_ended", True)


async def test_delete_cancels_what_runs_and_forgets_what_ended(rig: Rig) -> None:
    queued = await rig.create()
    gone = {"id": queued.id, "object": "video.deleted", "deleted": True}
    assert (await rig.http.delete(f"/v1/videos/{queued.id}")).json() == gone
    cancelled = Video.model_validate((await rig.http.get(f"/v1/videos/{queued.id}")).json())
    assert cancelled.status == "failed"
    assert cancelled.error is not None
    assert cancelled.error.code == "cancelled"
    running = await rig.create()
    claim, nudges = rig.claim(), rig.nudges
    await rig.http.delete(f"/v1/videos/{running.id}")
    assert rig.journal.get(running.id).cancel_requested
    assert rig.nudges == nudges + 1
    rig.leases.finish(Update(claim), "cancelled", error=cancelled.error)
    done = await rig.finished()
    key = (rig.journal.get(done).result or {})["key"]
    assert rig.store.exists(key)
    await rig.http.delete(f"/v1/videos/{done}")
    assert not rig.store.exists(key)
    error_of(await rig.http.get(f"/v1/videos/{done}"), 404)


async def test_a_list_is_searched_by_words_and_by_status(rig: Rig) -> None:
    done = await rig.finished()
    fox, owl = (await rig.create(prompt="a FOX in the snow")).id, (await rig.create(prompt="an owl in the snow")).id
    for query, ids in {
        "q=fox": [fox, done],
        "q=in+snow": [owl, fox],
        "q=fox&status=completed": [done],
        "status=completed&status=queued": [owl, fox, done],
        "status=failed": [],
        "q=fox&limit=1": [fox],
    }.items():
        page = (await rig.http.get(f"/v1/videos?{query}")).json()
        assert [video["id"] for video in page["data"]] == ids, query
        assert page["has_more"] is ("limit" in query)
    assert [v["id"] for v in (await rig.http.get(f"/v1/videos?q=fox&after={fox}")).json()["data"]] == [done]
    for query, param in {"q=": "q", f"q={'a' * 201}": "q", "status=done": "status", "q=a&after=x": "after"}.items():
        assert error_of(await rig.http.get(f"/v1/videos?{query}"), 404 if param == "after" else 400).param == param
    said = error_of(await rig.http.get("/v1/videos?status=done"), 400).message
    assert said == "status is 'done'; it must be one of: queued, in_progress, paused, completed, failed."


async def test_a_step_that_is_drawn_is_shown_while_it_runs(rig: Rig) -> None:
    video = (await rig.create()).id
    rig.glimpses[video] = b"RIFF"
    path = f"/v1/videos/{video}/glimpse"
    assert (await rig.http.get(path)).status_code == 204  # it waits
    claim = rig.claim()
    answer = await rig.http.get(path)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"RIFF", "image/webp")
    assert answer.headers["cache-control"] == "no-store"
    rig.app = rig.served(AppArgs(previews=PreviewArgs(every_steps=0)))
    assert (await rig.client().get(path)).status_code == 204
    rig.glimpses.clear()
    assert (await rig.http.get(path)).status_code == 204
    rig.leases.release([claim])
    error_of(await rig.http.get("/v1/videos/nobody/glimpse"), 404)


async def test_routes_methods_and_failures_that_are_not_ours_have_the_same_shape(rig: Rig) -> None:
    error_of(await rig.http.get("/v1/films"), 404)
    error_of(await rig.http.put("/v1/videos"), 405)

    async def broken() -> None:
        raise RuntimeError("hunter2")

    rig.app.add_api_route("/broken", broken)
    error = error_of(await rig.http.get("/broken"), 500)
    assert (error.type, error.code) == ("server_error", "internal_error")
    assert "RuntimeError" in error.message
    assert "hunter2" not in error.message


async def test_a_remix_of_nothing_and_of_nobody_is_refused(rig: Rig) -> None:
    video_id = await rig.finished()
    assert error_of(await rig.http.post(f"/v1/videos/{video_id}/remix"), 400).param == "prompt"
    assert error_of(await rig.http.post("/v1/videos/nobody/remix", json={"seed": 1}), 404).code == "video_not_found"
    unknown = error_of(await rig.http.post(f"/v1/videos/{video_id}/remix", json={"style": "x"}), 400)
    assert (unknown.param, unknown.code) == ("style", "unknown_field")
    gone = error_of(await rig.http.post(f"/v1/videos/{video_id}/remix", json={"seed": 1, "from_stage": "i2v"}), 409)
    assert gone.code == "outputs_gone"
    made = await rig.http.post(
        f"/v1/videos/{video_id}/remix", json={"prompt": "a cat"}, headers={"idempotency-key": "k"}
    )
    again = await rig.http.post(
        f"/v1/videos/{video_id}/remix", json={"prompt": "a cat"}, headers={"idempotency-key": "k"}
    )
    assert made.json()["id"] == again.json()["id"]
    assert made.json()["remixed_from_video_id"] == video_id


async def test_pools_say_the_calls_at_every_stage_and_the_replicas_that_are_wanted(rig: Rig) -> None:
    for _ in range(3):
        await rig.create()
    rig.claim()
    demand = Demand(AppArgs(), rig.database)
    rig.health = rig.health.model_copy(update={"stages": {"t2i": 1, "v2v": 4}, "wanted": {"t2i": 1, "v2v": 9}})
    with demand.call("t2i") as first, demand.call("t2i"), demand.call("v2v"), demand.call("v2v"):  # of one job
        demand.began(first)
        rig.calls = from_floats(demand.read(running_jobs=1))
    pools = Pools.model_validate_json((await rig.http.get("/v1/pools")).content)
    shown = {pool.stage: (pool.replicas, pool.wanted, pool.queued, pool.running) for pool in pools.stages}
    assert shown == {"t2i": (1, 1, 1, 1), "i2v": (0, 1, 0, 0), "v2v": (4, 9, 2, 0), "vfi": (0, 1, 0, 0)}
    assert [pool.utilisation for pool in pools.stages] == [1.0, 0.0, 0.0, 0.0]
    assert pools.jobs == {"running": 1, "queued": 2}


async def test_pools_answer_while_no_pipeline_says_what_it_has_sent(rig: Rig) -> None:
    rig.calls = None
    pools = Pools.model_validate_json((await rig.http.get("/v1/pools")).content)
    assert [pool.queued + pool.running for pool in pools.stages] == [0, 0, 0, 0]
