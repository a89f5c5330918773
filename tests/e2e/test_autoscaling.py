"""The look-ahead policy inside Serve's controller: V2V grows while all jobs are in T2I, goes to zero, comes back."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import ray
from ray import serve

from deployments.on_ray.ray_internals import end_ghosts
from deployments.server import declare
from deployments.settings.application import AppArgs, AutoscalingArgs, ScalingArgs, StorageArgs
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop, rehearsal
from tests.e2e import rig as rigs
from tests.e2e.rig import PROFILES, Rig, SecondApp

pytestmark = pytest.mark.slow

NAME = "scaled"
wait_for = partial(rigs.wait_for, every_s=0.25)  # `serve.status` is a tenth of a second of CPU
BUDGET = 6
LOAD_S = 1.5  # of V2V: a job that finds none waits for long enough to be told
T2I_S = 3.0  # a burst is in it for many seconds, so V2V's replicas can be seen to come before its work


class Declared(SecondApp):
    """Deployed by a config, as the policy of a whole application has to be."""

    def __init__(self, rig: Rig, args: AppArgs) -> None:
        host, port = rig.url.removeprefix("http://").split(":")
        self._where = (host, int(port))
        super().__init__(rig, NAME, args)

    def deploy(self) -> None:
        host, port = self._where
        declare(self.args, host=host, port=port, name=self.name, route_prefix=f"/{self.name}")

    def replicas(self, stage: str) -> int:
        """Replicas that run or start."""
        states = serve.status().applications[self.name].deployments[stage].replica_states
        return sum(count for state, count in states.items() if state in ("RUNNING", "STARTING"))

    def stopped(self, stage: str) -> bool:
        return not sum(serve.status().applications[self.name].deployments[stage].replica_states.values())


@pytest.fixture(scope="module")
def app(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Declared]:
    folder = tmp_path_factory.mktemp("scaled")
    t2i, v2v = replace(PROFILES["t2i"], run_s=T2I_S), replace(PROFILES["v2v"], load_s=LOAD_S)
    args = rehearsal(laptop(load_config(), data_dir=folder), {**PROFILES, "t2i": t2i, "v2v": v2v})
    one, some = AutoscalingArgs(min_replicas=1, max_replicas=1), AutoscalingArgs(min_replicas=0, max_replicas=3)
    stages = {
        name: stage.model_copy(update={"autoscaling": some if name == "v2v" else one})
        for name, stage in args.stages.items()
    }
    scaling = ScalingArgs(
        budget_gpus=BUDGET,
        call_s={"t2i": T2I_S, "i2v": 0.4, "v2v": 1.0, "vfi": 0.1},
        start_up_s=dict.fromkeys(args.stages, 30.0),  # so everything in T2I is demand in V2V at once
        report_s=0.2,
        arrivals_window_s=3.0,  # what has not come for so long is not expected, and V2V may go to zero
        policy={"min_keep_s": 2.0, "keep_idle": 0.0, "goal_s": 2.0},
    )
    storage = StorageArgs(database_url=f"sqlite:///{folder}/jobs.sqlite", artifacts_url=f"file://{folder}/files")
    made = Declared(rig, args.model_copy(update={"stages": stages, "scaling": scaling, "storage": storage}))
    yield made
    made.close()


class Unplaceable:
    """No node has a place for it."""


def test_a_replica_that_was_called_off_before_it_had_a_place_is_ended(rig: Rig) -> None:
    options: dict[str, Any] = {"ray_actor_options": {"num_cpus": 1000}, "graceful_shutdown_timeout_s": 600}

    def deploy(replicas: int) -> None:
        alone: Any = serve.deployment(num_replicas=replicas, **options)(Unplaceable)
        serve._run(alone.bind(), name="ghosts", route_prefix="/ghosts", _blocking=False)

    def states() -> dict[str, int]:
        found = serve.status().applications["ghosts"].deployments.get("Unplaceable")
        return {} if found is None else {str(state): count for state, count in found.replica_states.items()}

    deploy(2)
    wait_for("replicas that start", lambda: states() == {"STARTING": 2})
    deploy(1)
    wait_for("one to be called off", lambda: states() == {"STARTING": 1, "STOPPING": 1})
    assert end_ghosts("ghosts") == 1
    wait_for("its end", lambda: states() == {"STARTING": 1})
    serve.delete("ghosts", _blocking=False)
    wait_for("the other to be called off", lambda: serve.status().applications["ghosts"].status == "DELETING")
    for actor in ray.util.list_named_actors(all_namespaces=True):  # else it would hold up the end of all tests
        if "ghosts" in actor["name"]:
            ray.kill(ray.get_actor(**actor))
    wait_for("the end of it all", lambda: "ghosts" not in serve.status().applications)


def test_v2v_grows_for_jobs_that_are_still_in_t2i_then_falls_to_zero_and_comes_back(rig: Rig, app: Declared) -> None:
    wait_for("V2V to fall to zero without jobs", lambda: app.stopped("v2v"))
    jobs = [app.create(seed=seed) for seed in range(4)]

    wait_for("a replica of V2V for jobs in T2I", lambda: app.replicas("v2v") >= 1)
    assert not any(app.told(job, "stage_queued", "v2v") for job in jobs)  # Serve's own rule would start none before

    assert {app.ended(job).status for job in jobs} == {"completed"}
    wait_for("V2V to fall to zero after the burst", lambda: app.stopped("v2v"))
    assert [app.replicas(stage) for stage in ("t2i", "i2v", "vfi")] == [1, 1, 1]
    remixed = app.http.post(f"/v1/videos/{jobs[0]}/remix", json={"from_stage": "v2v", "seed": 10}).json()["id"]
    assert app.ended(remixed).status == "completed"
    reasons = [event.data["reason"] for event in app.journal.events(remixed) if event.kind == "waiting"]
    assert reasons == ["Stage v2v has no replica that runs; the job waits for one."]
    assert app.video(remixed).waits_for is None
