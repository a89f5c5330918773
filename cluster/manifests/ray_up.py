"""The same cluster on AWS without Kubernetes: the file of `ray up`.

Takes a `Site`, gives the document. A node type's `labels` are what `pool=...` is on Kubernetes. There is no Redis here:
where the head is lost, the cluster is, and jobs go on from the journal once it is up again.

Secrets stand in no file here. Ray's token is read from ~/.ray/auth_token of the machine that runs `ray up` and goes
along; workers are known to the object store by an instance profile.
"""

from typing import Any

from cluster.manifests.pods import KILL_S
from cluster.manifests.site import CONTROL, NAME, Site

REGION = "us-west-2"
CONFIG = "serve_config.yaml"
TOKEN = "~/.ray/auth_token"
PROFILE = f"{NAME}-worker"
_HEAD = "m6i.2xlarge"
_CONTROL = (("m6i.xlarge", 4), ("m6i.2xlarge", 8), ("m6i.4xlarge", 16), ("m6i.8xlarge", 32), ("m6i.24xlarge", 96))
_PORTS = "--object-manager-port=8076"


def lacking_instances(site: Site) -> list[str]:
    """Pools whose machines are not AWS's."""
    return [group.name for group in site.groups if group.machine.instance is None]


def ray_up(site: Site) -> dict[str, Any]:
    """The document; every pool needs an instance."""
    control = next((name for name, cpus in _CONTROL if cpus >= site.control_cpus), _CONTROL[-1][0])
    types: dict[str, Any] = {
        "head": {"resources": {"CPU": 0}, "node_config": _node(_HEAD)},
        CONTROL: {
            "min_workers": 1,
            "max_workers": 2,
            "resources": {},
            "labels": {"pool": CONTROL},
            "node_config": _worker(control),
        },
    }
    for group in site.groups:
        types[group.name] = {
            "min_workers": group.nodes_min,
            "max_workers": group.nodes_max,
            "resources": {"CPU": group.cpus, "GPU": group.gpus},
            "labels": dict(group.labels),
            "node_config": _worker(str(group.machine.instance), spot=group.notice_s is not None),
        }
    return {
        "cluster_name": NAME,
        "max_workers": 2 + sum(group.nodes_max for group in site.groups),
        "idle_timeout_minutes": 5,
        "provider": {"type": "aws", "region": REGION, "cache_stopped_nodes": False},
        "auth": {"ssh_user": "ubuntu"},
        "docker": {
            "image": site.image,
            "container_name": NAME,
            "pull_before_run": True,
            "run_options": [
                "--ulimit nofile=65536:65536",
                "--env RAY_AUTH_MODE=token",
                f"--env RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S={site.slowest_call_s}",
                f"--stop-timeout {site.slowest_call_s + KILL_S}",
            ],
        },
        "available_node_types": types,
        "head_node_type": "head",
        "file_mounts": {f"~/{CONFIG}": CONFIG, TOKEN: TOKEN},
        "head_start_ray_commands": [
            "ray stop",
            f"ray start --head --port=6379 {_PORTS} --autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": ["ray stop", f"ray start --address=$RAY_HEAD_IP:6379 {_PORTS}"],
    }


def _worker(instance: str, *, spot: bool = False) -> dict[str, Any]:
    market = {"InstanceMarketOptions": {"MarketType": "spot"}} if spot else {}
    return {**_node(instance), **market, "IamInstanceProfile": {"Name": PROFILE}}


def _node(instance: str) -> dict[str, Any]:
    disk = {"VolumeSize": 500, "VolumeType": "gp3"}
    return {"InstanceType": instance, "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}]}
