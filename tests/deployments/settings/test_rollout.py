"""A roll-out restarts what changed: by version and `user_config` of each deployment, as Ray Serve compares them."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pytest
import yaml
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.deployment_state import DeploymentVersion

from deployments.app import build
from deployments.settings.reading import CONFIG_PATH, load_config, parse_args
from deployments.settings.rollout import live, with_live
from stages.types import STAGE_NAMES

CONTROL = {"ingress", "pipeline", "keeper"}
ALL = {*CONTROL, *STAGE_NAMES}


def shipped() -> dict[str, Any]:
    args: dict[str, Any] = yaml.safe_load(CONFIG_PATH.read_text())["applications"][0]["args"]
    return args


def versions(args: Mapping[str, Any]) -> dict[str, DeploymentVersion]:
    """Of each deployment, after Serve gave all of them one and sent them to its controller."""
    ingress = build(args)._bound_deployment
    pipeline = ingress.init_args[1]._bound_deployment
    found = [ingress, pipeline, *(app._bound_deployment for app in pipeline.init_kwargs.values())]
    made = {}
    for one in found:
        config = one.options(name=one.name)._deployment_config  # Serve makes such a copy
        config.version = repr(args)
        sent = DeploymentConfig.from_proto_bytes(config.to_proto_bytes())
        made[one.name] = DeploymentVersion(sent.version, sent, one.ray_actor_options)
    return made


@pytest.mark.parametrize(
    ("path", "value", "restarted", "told"),
    [
        ("ingress.retry_after_s", 16, set(), {"ingress", "pipeline"}),
        ("limits.per_minute", 7, set(), {"ingress", "pipeline"}),
        ("pipeline.max_jobs", 33, set(), {"ingress", "pipeline"}),
        ("retention.events_s", 60, set(), {"ingress", "pipeline"}),
        ("scaling.budget_gpus", 20, set(), {"ingress", "pipeline"}),
        ("stages.v2v.run_timeout_s", 2500, set(), {"ingress", "pipeline"}),
        ("stages.v2v.autoscaling.max_replicas", 12, set(), {"ingress", "pipeline"}),
        ("stages.v2v.stall_limit_s", 200, set(), {"ingress", "pipeline", "v2v"}),
        ("stages.v2v.graceful_shutdown_timeout_s", 1300, set(), {"ingress", "pipeline"}),
        ("observability.log_level", "DEBUG", set(), ALL),
        ("stages.t2i.options", {"tiles": 2}, {"t2i"}, {"ingress", "pipeline"}),
        ("stages.t2i.num_gpus", 0.5, {"t2i"}, {"ingress", "pipeline"}),
        ("stages.t2i.speed", {"offload": "model"}, {"t2i"}, {"ingress", "pipeline"}),
        ("stages.v2v.gpu", "1", {"v2v"}, {"ingress", "pipeline"}),
        ("stages.i2v.pool", "other", {"i2v"}, {"ingress", "pipeline"}),
        ("ingress.num_cpus", 2, {"ingress"}, {"pipeline"}),
        ("storage.database_url", "env:ANOTHER_URL", {"ingress", "pipeline"}, set()),
        ("storage.artifacts_url", "s3://bucket/magicvideo", {*CONTROL, "vfi"}, set()),
        ("webhooks.secret", "env:WEBHOOK_SECRET", {"ingress", "pipeline"}, set()),
        ("preset", "tiny", ALL - {"keeper"}, set()),
    ],
)
def test_only_what_a_change_concerns_is_restarted(path: str, value: Any, restarted: set[str], told: set[str]) -> None:
    before = shipped()
    after = deepcopy(before)
    *folders, key = path.split(".")
    place = after
    for name in folders:
        place = place.setdefault(name, {})
    assert place.get(key) != value
    place[key] = value
    old, new = versions(before), versions(after)
    assert set(new) == ALL
    assert {name for name in ALL if old[name].requires_actor_restart(new[name])} == restarted
    if restarted != ALL - {"keeper"}:
        assert {name for name in ALL if old[name].requires_actor_reconfigure(new[name])} - restarted == told


def test_what_is_told_is_what_the_file_says_and_names_no_secret() -> None:
    given = shipped()
    given["storage"]["database_url"] = "env:GEHEIM"
    given["webhooks"] = {"secret": "file:/geheim"}
    given["limits"] = {"max_running": 3}
    args = parse_args(given)
    assert with_live(args, live(args)) == args
    assert with_live(args, live(args)).limits_for("studio") == args.limits_for("studio")
    assert "geheim" not in repr(live(args)).lower()
    told = {**live(load_config()), "ingress": {**live(args)["ingress"], "retry_after_s": 99}}
    taken = with_live(args, told)
    assert (taken.ingress.retry_after_s, taken.storage, taken.webhooks) == (99, args.storage, args.webhooks)
