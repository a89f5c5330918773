"""The whole path through Ray Serve with replayed stages: order, overlap, cancellation, loss of a replica, memory."""

import io
from functools import partial
from itertools import pairwise

import av
import psutil
import pytest
from ray import serve

from client.schema import ErrorBody, Health
from deployments.app import APP_NAME
from tests.e2e.rig import PROFILES, WINDOWS, Rig, slowly, wait_for

pytestmark = pytest.mark.slow

STAGES = ("t2i", "i2v", "v2v", "vfi")


def kinds(rig: Rig, video_id: str) -> list[str]:
    return [f"{event.kind} {event.data.get('stage', '')}".strip() for event in rig.events(video_id)]


def ended_calls(stage: str) -> dict[str, int]:
    """What the only replica of a stage says about the calls that it has ended."""
    handle = serve.get_deployment_handle(stage, APP_NAME)
    counts: dict[str, int] = handle.ended.remote().result(timeout_s=120)
    return counts


def test_a_prompt_becomes_a_video_of_the_planned_frames(rig: Rig) -> None:
    video = rig.ended(rig.create(seed=7).id)
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    for stage in video.stages:
        assert (stage.status, stage.progress) == ("completed", 100)
        assert stage.queued_s is not None
        assert stage.run_s is not None
        assert stage.run_s >= PROFILES[next(name for name in PROFILES if name == stage.name)].run_s * 0.9
        assert stage.bytes_out
        assert stage.peak_memory_mb is None or stage.peak_memory_mb > 10  # of its process, where the kernel counts
    content = rig.http.get(f"/v1/videos/{video.id}/content")
    assert (content.status_code, content.headers["content-type"]) == (200, "video/mp4")
    with av.open(io.BytesIO(content.content)) as container:
        assert sum(1 for _ in container.decode(video=0)) == video.frames == 46
    part = rig.http.get(f"/v1/videos/{video.id}/content", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content.content[10:20])


def test_the_same_seed_gives_the_same_file(rig: Rig) -> None:
    ids = [rig.create(seed=11).id, rig.create(seed=11).id, rig.create(seed=12).id]
    assert [rig.ended(video_id).status for video_id in ids] == ["completed"] * 3
    same, again, other = (rig.http.get(f"/v1/videos/{video_id}/content").content for video_id in ids)
    assert same == again
    assert same != other


def test_stages_follow_each_other_and_vfi_starts_before_v2v_ends(rig: Rig) -> None:
    for _ in range(3):  # where the machine is busy, news of a start may take longer than a window does
        video_id = rig.create().id
        rig.ended(video_id)
        seen = kinds(rig, video_id)
        for before, after in pairwise(STAGES[:3]):
            assert seen.index(f"stage_completed {before}") < seen.index(f"stage_started {after}")
        if early := seen.index("stage_started vfi") < seen.index("stage_completed v2v"):
            break
    assert early
    assert seen.count("stage_output v2v") == seen.count("stage_output vfi") == WINDOWS
    assert (seen[0], seen[-1]) == ("queued", "completed")


def test_progress_only_grows_and_is_seen_on_the_way(rig: Rig) -> None:
    video_id = rig.create(**slowly("v2v")).id
    seen: list[int] = []

    def ended() -> bool:
        video = rig.retrieve(video_id)
        seen.append(video.progress)
        return video.status == "completed"

    wait_for("the video", ended)
    assert seen == sorted(seen)
    assert len(set(seen)) > 5


def test_a_cancel_stops_the_stage_and_the_next_job_has_it_at_once(rig: Rig) -> None:
    before = ended_calls("v2v").get("completed", 0)
    video_id = rig.create(**slowly("v2v")).id
    rig.running(video_id, "v2v")
    assert rig.http.delete(f"/v1/videos/{video_id}").json()["deleted"] is True
    video = rig.ended(video_id)
    assert video.error is not None
    assert (video.status, video.error.code) == ("failed", "cancelled")
    states = {stage.name: stage.status for stage in video.stages}
    assert (states["i2v"], states["v2v"]) == ("completed", "cancelled")
    conflict = rig.http.get(f"/v1/videos/{video_id}/content")
    assert conflict.status_code == 409
    assert rig.ended(rig.create().id).status == "completed"
    # the cancel may fall between two windows, so what is counted is windows that nobody wanted any more
    windows = ended_calls("v2v").get("completed", 0) - before
    assert WINDOWS <= windows < 2 * WINDOWS


def test_a_queued_job_that_is_cancelled_never_reaches_a_stage(rig: Rig) -> None:
    many = [rig.create().id for _ in range(rig.args.pipeline.max_jobs + 8)]  # a few may end while these are created
    for video_id in reversed(many):
        rig.http.delete(f"/v1/videos/{video_id}")  # cancels, or forgets what has ended already
    assert rig.ended(many[-1]).status == "failed"
    assert kinds(rig, many[-1]) == ["queued", "cancelled"]

    def over(video_id: str) -> bool:
        answer = rig.http.get(f"/v1/videos/{video_id}")
        return answer.status_code == 404 or answer.json()["status"] in ("failed", "completed")  # it may have been done

    for video_id in many:
        wait_for(f"the end of {video_id}", partial(over, video_id))


@pytest.mark.parametrize("stage", ["i2v", "v2v"])
def test_a_stage_whose_replica_is_killed_runs_again_and_the_job_completes(rig: Rig, stage: str) -> None:
    wait_for(f"a healthy {stage}", lambda: rig.http.get("/healthz").json()["stages"][stage] == 1)
    video_id = rig.create(seed=3, **slowly(stage)).id
    rig.running(video_id, "i2v" if stage == "i2v" else "v2v")
    victim = wait_for(f"the process of {stage}", lambda: rig.replica(stage))
    if stage == "v2v":
        wait_for("a first window", lambda: "stage_output v2v" in kinds(rig, video_id))
    victim.kill()
    video = rig.ended(video_id)
    assert (video.status, video.error) == ("completed", None)
    seen = kinds(rig, video_id)
    assert f"stage_retried {stage}" in seen
    assert seen.count("stage_completed t2i") == seen.count("stage_output t2i") == 1
    assert seen.count("stage_output v2v") == WINDOWS
    undisturbed = rig.ended(rig.create(seed=3, **slowly(stage)).id)
    files = [rig.http.get(f"/v1/videos/{name}/content").content for name in (video_id, undisturbed.id)]
    assert files[0] == files[1] != b""


def test_nothing_stays_in_the_object_store(rig: Rig) -> None:
    before = rig.spilled_bytes()
    ids = [rig.create().id for _ in range(6)]
    cancelled = rig.create().id
    rig.http.delete(f"/v1/videos/{cancelled}")
    assert {rig.ended(video_id).status for video_id in ids} == {"completed"}
    wait_for("an empty store", lambda: rig.store_mib() < 1.0)
    assert rig.spilled_bytes() == before


def test_neither_ingress_nor_pipeline_has_loaded_torch(rig: Rig) -> None:
    rig.ended(rig.create().id)
    for name in ("ingress", "pipeline"):
        process = wait_for(f"the process of {name}", partial(rig.replica, name))
        loaded = [mapped.path for mapped in process.memory_maps()]
        assert any("numpy" in path or "libpython" in path or "_raylet" in path for path in loaded)
        assert not [path for path in loaded if "libtorch" in path]


def test_health_counts_the_replicas_of_every_stage(rig: Rig) -> None:
    def healthy() -> Health | None:
        health = Health.model_validate(rig.http.get("/healthz").json())
        return health if health.status == "ok" else None

    health = wait_for("a healthy server", healthy)
    assert (health.model, health.stages, health.problems) == ("tiny", dict.fromkeys(STAGES, 1), [])


def test_a_bad_request_over_real_http_is_one_sentence(rig: Rig) -> None:
    answer = rig.http.post("/v1/videos", json={"prompt": "a fox", "seed": -1})
    error = ErrorBody.model_validate_json(answer.content).error
    assert (answer.status_code, error.param) == (400, "seed")
    assert "-1" in error.message
    unknown = rig.http.get("/v1/videos/video_nobody")
    assert (unknown.status_code, ErrorBody.model_validate_json(unknown.content).error.code) == (404, "video_not_found")


def test_a_repeated_post_with_one_key_makes_one_video(rig: Rig) -> None:
    answers = [
        rig.http.post("/v1/videos", json={"prompt": "a fox"}, headers={"idempotency-key": "once"}) for _ in range(2)
    ]
    first, second = (answer.json() for answer in answers)
    assert (first["id"], first["seed"]) == (second["id"], second["seed"])
    assert rig.ended(first["id"]).status == "completed"


def test_every_process_belongs_to_this_session(rig: Rig) -> None:
    found = {name: rig.replica(name) for name in ("ingress", "pipeline", *STAGES)}
    assert all(isinstance(process, psutil.Process) for process in found.values()), found
