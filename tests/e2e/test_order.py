"""The order of calls on a real Ray: an urgent job has a running one stop, which goes on with what it had, whoever dies.

Replayed stages whose I2V takes seconds and can stop between two steps.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import ray

from deployments.settings.application import AppArgs, StorageArgs
from deployments.settings.variants import rehearsal
from stages.replay import ReplayProfile
from stages.types import StageName
from tests.e2e.rig import PROFILES, Rig, SecondApp, wait_for

pytestmark = pytest.mark.slow

I2V_S, STEPS = 10.0, 40
URGENT_S = 6.0  # more than an urgent job takes, and less than it takes behind a film that began five seconds ago
FILM: dict[str, Any] = {"seconds": "2", "seed": 5}
SHORT: dict[str, Any] = {"seconds": "2", "seed": 9, "steps": 3}
SHORT_S = 1.0


def slow_motion(args: AppArgs, folder: Any, *, motions: int = 1, **pipeline: Any) -> AppArgs:
    quick = {name: replace(profile, run_s=0.1) for name, profile in PROFILES.items()}
    profiles: dict[StageName, ReplayProfile] = {
        **quick,
        "i2v": replace(PROFILES["i2v"], run_s=I2V_S, steps=STEPS, state_bytes=1_400_000, by_steps={3: SHORT_S}),
    }
    made = rehearsal(args, profiles)
    storage = StorageArgs(database_url=f"sqlite:///{folder}/jobs.sqlite", artifacts_url=f"file://{folder}/files")
    stages = {**made.stages, "i2v": made.stages["i2v"].model_copy(update={"replicas": motions})}
    return made.model_copy(
        update={
            "storage": storage,
            "stages": stages,
            "order": made.order.model_copy(update={"hand_off_s": 0.2, "ahead_s": 0.3}),
            "keeper": made.keeper.model_copy(update={"state_every_s": 1.0}),
            "pipeline": made.pipeline.model_copy(update={"lease_s": 4.0, **pipeline}),
        }
    )


@pytest.fixture(scope="module")
def served(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondApp]:
    made = SecondApp(rig, "order", slow_motion(rig.args, tmp_path_factory.mktemp("order"), motions=2))
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(served: SecondApp) -> bytes:
    """The film for which nobody stopped; since then the server knows how long one takes."""
    film = served.create(**FILM)
    assert served.ended(film).error is None
    return content(served, film)


@pytest.fixture
def app(rig: Rig, served: SecondApp, undisturbed: bytes) -> SecondApp:
    """With one replica of I2V."""
    if served.args.stages["i2v"].replicas != 1:
        change(rig, served)
    return served


def change(rig: Rig, app: SecondApp, **settings: Any) -> None:
    app.args = slow_motion(
        rig.args, app.args.storage.artifacts_url.removeprefix("file://")[: -len("/files")], **settings
    )
    app.deploy()


def content(app: SecondApp, video_id: str) -> bytes:
    return app.http.get(f"/v1/videos/{video_id}/content").content


def computes(app: SecondApp, video_id: str) -> bool:
    """Whether its I2V has made a step."""
    stage = next(stage for stage in app.video(video_id).stages if stage.name == "i2v")
    return stage.status == "running" and stage.progress > 0


def film_with_urgent(app: SecondApp, tier: str = "priority") -> tuple[str, str]:
    """A film that was computing, and the urgent job for which it has stopped."""
    film = app.create(**FILM)
    wait_for("a step of the film", partial(computes, app, film))
    body = {"prompt": "a fox", **SHORT, "service_tier": tier, "deadline_s": URGENT_S}

    def accepted() -> str | None:
        """Once whoever promises has seen the film at work, which may yield: a moment after its first step."""
        answer = app.http.post("/v1/videos", json=body)
        assert answer.status_code in (200, 429), answer.text
        return str(answer.json()["id"]) if answer.status_code == 200 else None

    urgent = wait_for("a promise", accepted)
    wait_for("the film to stop", lambda: app.told(film, "stage_yielded", "i2v") or None)
    return film, urgent


def test_a_replica_that_is_called_off_hands_its_call_to_another(
    rig: Rig, served: SecondApp, undisturbed: bytes
) -> None:
    wait_for("two replicas", lambda: served.http.get("/healthz").json()["stages"]["i2v"] == 2)
    films = [served.create(**FILM), served.create(seconds="2", seed=6)]
    for film in films:
        wait_for("a step", partial(computes, served, film))
    change(rig, served, motions=1)
    for film in films:
        assert served.ended(film).error is None
    stopped = [one for film in films for one in served.told(film, "stage_yielded", "i2v")]
    assert len(stopped) == 1
    assert "wait_s" not in stopped[0]
    (resumed,) = [one for film in films for one in served.told(film, "stage_resumed", "i2v")]
    assert resumed["step"] == stopped[0]["step"]
    assert content(served, films[0]) == undisturbed


def test_an_urgent_job_takes_the_replica_and_the_film_goes_on_with_the_same_bytes(
    app: SecondApp, undisturbed: bytes
) -> None:
    film, urgent = film_with_urgent(app)
    said = wait_for("the sentence", lambda: app.video(film).waits_for)
    assert said.startswith("Paused for an urgent job; continues in about ")
    assert app.ended(urgent).error is None
    assert app.video(film).status == "in_progress"
    assert app.ended(film).error is None
    (stopped,) = app.told(film, "stage_yielded", "i2v")
    (resumed,) = app.told(film, "stage_resumed", "i2v")
    assert 0 < stopped["step"] == resumed["step"] < STEPS
    assert resumed["parked_s"] >= SHORT_S * 0.9
    assert content(app, film) == undisturbed != b""


def test_a_pipeline_that_is_killed_while_a_call_is_parked_goes_on_from_its_state(app: SecondApp) -> None:
    film, urgent = film_with_urgent(app)
    (stopped,) = app.told(film, "stage_yielded", "i2v")
    wait_for("its state to be kept", lambda: app.journal.get(film).states.get("i2v"))
    victim = Rig.replica("pipeline", app.name)
    assert victim is not None
    victim.kill()
    assert app.ended(film).error is None
    assert app.ended(urgent).error is None
    assert app.told(film, "stage_resumed", "i2v")[-1]["step"] >= stopped["step"] > 0
    assert app.journal.get(film).states == {}


def test_a_killed_replica_costs_what_it_did_since_its_last_state(app: SecondApp) -> None:
    film = app.create(**FILM)
    wait_for("a second state", lambda: app.journal.get(film).states.get("i2v", {}).get(0, {}).get("step", 0) > 10)
    victim = Rig.replica("i2v", app.name)
    assert victim is not None
    victim.kill()
    assert app.ended(film).error is None
    assert len(app.told(film, "stage_retried", "i2v")) == 1
    (resumed,) = app.told(film, "stage_resumed", "i2v")
    assert resumed["step"] > 10
    assert "parked_s" not in resumed


def actor() -> Any | None:
    """That orders the calls of several pipelines."""
    try:
        return ray.get_actor("order-order", namespace="magicvideo")
    except ValueError:
        return None


def test_two_pipelines_share_one_order_and_nothing_is_lost_when_its_actor_is_killed(rig: Rig, app: SecondApp) -> None:
    change(rig, app, replicas=2, max_jobs=1)  # so that each drives one of the two jobs
    first = wait_for("the actor", actor)
    film, urgent = film_with_urgent(app, "default")
    ray.kill(first)
    other = app.create(**{**SHORT, "seed": 11})
    made = [film, urgent, other]
    for job in made:
        assert app.ended(job).error is None
        kinds = [event.kind for event in app.journal.events(job)]
        assert (kinds.count("completed"), kinds.count("started"), kinds.count("released")) == (1, 1, 0)
        assert len(app.told(job, "stage_output", "i2v")) == 1
    owners = [next(e.data["owner"] for e in app.journal.events(job) if e.kind == "started") for job in made]
    assert owners[0] != owners[1]
    assert len(app.told(film, "stage_resumed", "i2v")) == 1
    wait_for("another actor", lambda: (found := actor()) is not None and found != first)
    _, urgent = film_with_urgent(app, "default")
    assert app.ended(urgent).error is None
