"""A wish of the autoscaler that no node can meet: pools show it and the calls that wait, and the alert would fire."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from client.schema import Pools, PoolState
from cluster.manifests.alerts import ALERTS
from deployments.settings.application import AutoscalingArgs, StorageArgs
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop, rehearsal
from tests.e2e.rig import PROFILES, WINDOWS, Rig, SecondApp, wait_for

pytestmark = pytest.mark.slow

V2V_S = 20.0  # of a replayed clip: its calls are there while the test looks
CPUS = 2.2  # of the rig's four: one replica finds a place, two do not


@pytest.fixture(scope="module")
def app(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecondApp]:
    folder = tmp_path_factory.mktemp("wish")
    args = rehearsal(laptop(load_config(), data_dir=folder), {**PROFILES, "v2v": replace(PROFILES["v2v"], run_s=V2V_S)})
    wishing = AutoscalingArgs(min_replicas=1, max_replicas=3, upscale_delay_s=0.0, metrics_interval_s=0.2)
    v2v = args.stages["v2v"].model_copy(update={"autoscaling": wishing, "num_cpus": CPUS})
    storage = StorageArgs(database_url=f"sqlite:///{folder}/jobs.sqlite", artifacts_url=f"file://{folder}/files")
    made = SecondApp(rig, "wish", args.model_copy(update={"stages": {**args.stages, "v2v": v2v}, "storage": storage}))
    yield made
    made.close()


def pool(app: SecondApp) -> PoolState:
    """V2V's."""
    pools = Pools.model_validate_json(app.http.get("/v1/pools").content)
    return next(one for one in pools.stages if one.stage == "v2v")


def firing(app: SecondApp, alert: str) -> set[str]:
    """The stages for which the expression of an alert, of the form `a < b`, holds at one scrape."""
    families = text_string_to_metric_families(app.http.get("/metrics").text)
    numbers = {(s.name, s.labels.get("stage", "")): s.value for family in families for s in family.samples}
    expression = re.fullmatch(r"(\w+) < (\w+)", next(one.expr for one in ALERTS if one.name == alert))
    assert expression is not None
    small, large = expression.groups()
    return {stage for name, stage in numbers if name == small and numbers[small, stage] < numbers[large, stage]}


def test_a_wish_that_cannot_be_placed_is_shown_beside_the_calls_that_want_it(app: SecondApp) -> None:
    assert (pool(app).replicas, pool(app).wanted, firing(app, "MagicvideoReplicasMissing")) == (1, 1, set())
    assert app.http.get("/healthz").status_code == 200
    jobs = [app.create(seed=seed) for seed in range(2)]
    calls = wait_for(
        "the calls of both jobs", lambda: found if (found := pool(app)).queued + found.running == 2 * WINDOWS else None
    )
    assert calls.running == 1  # a replica computes one at a time
    wished = wait_for("a wish for more", lambda: found if (found := pool(app)).wanted > 1 else None)
    assert (wished.replicas, wished.utilisation) == (1, 1.0)
    wait_for("the alert", lambda: firing(app, "MagicvideoReplicasMissing") == {"v2v"})
    health = app.http.get("/healthz")
    assert (health.status_code, health.json()["wanted"]["v2v"], health.json()["stages"]["v2v"]) == (
        200,
        wished.wanted,
        1,
    )
    for job in jobs:
        app.http.delete(f"/v1/videos/{job}")
