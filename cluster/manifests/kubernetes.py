"""The RayService for KubeRay 1.7 and later: a head, nodes without GPUs, and one worker group per pool.

    head       the GCS, whose state is in Redis, and the autoscaler; nothing is placed on it
    control    ingress, pipeline and keeper; its label is the config's `control_pool`
    <pool>     stages; on Kubernetes nodes that carry magicvideo/pool=<pool>

A group's `labels` become `ray start --labels` and what the autoscaler decides by; the same under `rayStartParams` is
refused by KubeRay and ignored by the autoscaler. Takes a `Site`, gives the documents of each file. Passwords are in a
secret that the operator makes; `cluster/README.md` has the command.
"""

from cluster.manifests.pods import (
    AGENT_PORT,
    CONFINED,
    POOL_LABEL,
    PUBLISHED,
    REDIS_PORT,
    SCRATCH,
    Json,
    http,
    pod,
    resources,
    secret,
    serving,
)
from cluster.manifests.site import CONTROL, HEAD, NAME, Group, Site

_SPOT = ("cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority")  # how clouds taint such nodes
_DRAIN_S = 30  # of nodes without stages: Serve's own 20 s for requests under way, and some


def ray_service(site: Site, serve_config: str) -> Json:
    """The application and its cluster; `serve_config` is handed to Ray Serve as it is."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": NAME, "labels": PUBLISHED},
        "spec": {
            "serveConfigV2": serve_config,
            # After an upgrade the old cluster stays until its longest call may have ended.
            "rayClusterDeletionDelaySeconds": site.slowest_call_s,
            "rayClusterConfig": {
                "rayVersion": site.ray_version,
                "authOptions": {"mode": "token", "secretName": NAME},  # its key is auth_token
                "enableInTreeAutoscaling": True,
                "autoscalerOptions": {
                    "version": "v2",
                    "upscalingMode": "Default",
                    "idleTimeoutSeconds": 300,
                    "resources": resources(cpu=1, memory_gib=1),
                    "securityContext": CONFINED,
                    "volumeMounts": [SCRATCH],
                },
                "gcsFaultToleranceOptions": {
                    "redisAddress": f"{NAME}-redis:{REDIS_PORT}",
                    "redisPassword": secret("redis-password"),
                },
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},
                    "template": pod(
                        site,
                        "ray-head",
                        HEAD,
                        resources=resources(cpu=4, memory_gib=16),
                        ready=http(AGENT_PORT),
                        drain_s=_DRAIN_S,
                    ),
                },
                "workerGroupSpecs": [_control(site), *(_pool(site, group) for group in site.groups)],
            },
        },
    }


def budgets(site: Site) -> list[Json]:
    """Of a group that always has several nodes a drain takes one after the other. Of one node there is no budget: it
    would block the drain for ever.

    `minAvailable` below the least that stand, for RayCluster has no scale that `maxUnavailable` could be counted from.
    """
    least = {group.name: group.nodes_min - 1 for group in site.groups if group.nodes_min > 1}
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": f"{NAME}-{name}", "labels": PUBLISHED},
            "spec": {
                "minAvailable": count,
                "selector": {"matchLabels": {"app.kubernetes.io/name": NAME, POOL_LABEL: name}},
            },
        }
        for name, count in least.items()
    ]


def _control(site: Site) -> Json:
    return {
        "groupName": CONTROL,
        "replicas": 1,
        "minReplicas": 1,
        "maxReplicas": 2,
        "labels": {"pool": CONTROL},
        "rayStartParams": {},
        "template": pod(
            site,
            "ray-worker",
            CONTROL,
            resources=resources(cpu=site.control_cpus, memory_gib=site.control_memory_gib),
            ready=serving(site.port),
            drain_s=_DRAIN_S,
        ),
    }


def _pool(site: Site, group: Group) -> Json:
    amounts = resources(cpu=group.cpus, memory_gib=group.memory_gib, gpus=group.gpus)
    ready = serving(site.port)
    template = pod(site, "ray-worker", group.name, resources=amounts, ready=ready, drain_s=group.drain_s)
    template["spec"]["nodeSelector"] = {POOL_LABEL: group.name}
    template["spec"]["tolerations"] = [
        {"key": key, "operator": "Exists", "effect": "NoSchedule"}
        for key in ("nvidia.com/gpu", *(_SPOT if group.notice_s is not None else ()))
    ]
    if group.notice_s is not None:  # what is not over by then is killed with the node
        template["spec"]["terminationGracePeriodSeconds"] = max(1, group.notice_s)
    return {
        "groupName": group.name,
        "replicas": group.nodes_min,
        "minReplicas": group.nodes_min,
        "maxReplicas": group.nodes_max,
        "labels": dict(group.labels),
        "rayStartParams": {"num-cpus": str(group.cpus), "num-gpus": str(group.gpus)},
        "template": template,
    }
