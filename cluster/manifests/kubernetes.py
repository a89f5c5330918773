"""The RayService for KubeRay 1.5 and later: a head, nodes without GPUs, and one worker group per pool.

    head       the GCS, whose state is in Redis, and the autoscaler; nothing is placed on it
    control    ingress, pipeline and keeper
    <pool>     stages; on Kubernetes nodes that carry magicvideo/pool=<pool>

A group's `labels` become `ray start --labels` and what the autoscaler decides by; the same under `rayStartParams` is
refused by KubeRay and ignored by the autoscaler. Takes a `Site`, gives the documents of each file. Passwords are in a
secret that the operator makes; `cluster/README.md` has the command.
"""

from collections.abc import Mapping
from typing import Any

from cluster.manifests.image import HUB, UID
from cluster.manifests.site import CONTROL, NAME, Group, Site

Json = dict[str, Any]

REDIS_PORT = 6379
AGENT_PORT = 52365  # of Ray's agent on each node; /api/healthz looks at raylet and, on the head, GCS
METRICS_PORT = 8080
POOL_LABEL = f"{NAME}/pool"
_PUBLISHED = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/managed-by": "cluster-render"}


def ray_service(site: Site, serve_config: str) -> Json:
    """The application and its cluster; `serve_config` is handed to Ray Serve as it is."""
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": NAME, "labels": _PUBLISHED},
        "spec": {
            "serveConfigV2": serve_config,
            # After an upgrade the old cluster stays until its longest call may have ended.
            "rayClusterDeletionDelaySeconds": site.slowest_call_s,
            "rayClusterConfig": {
                "rayVersion": site.ray_version,
                "enableInTreeAutoscaling": True,
                "autoscalerOptions": {
                    "version": "v2",
                    "upscalingMode": "Default",
                    "idleTimeoutSeconds": 300,
                    "resources": _resources(cpu=1, memory_gib=1),
                },
                "gcsFaultToleranceOptions": {
                    "redisAddress": f"{NAME}-redis:{REDIS_PORT}",
                    "redisPassword": _secret("redis-password"),
                },
                "headGroupSpec": {
                    "rayStartParams": {"num-cpus": "0"},
                    "template": _pod(
                        site, "ray-head", "head", resources=_resources(cpu=4, memory_gib=16), ready=_http(AGENT_PORT)
                    ),
                },
                "workerGroupSpecs": [_control(site), *(_pool(site, group) for group in site.groups)],
            },
        },
    }


def budgets(site: Site) -> list[Json]:
    """A PodDisruptionBudget for each group: a drain never takes the last node, and of `nodes_min` at most one.

    `minAvailable` as a number, for RayCluster has no scale that `maxUnavailable` could be counted from.
    """
    least = {CONTROL: 1} | {group.name: max(1, group.nodes_min - 1) for group in site.groups}
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": f"{NAME}-{name}", "labels": _PUBLISHED},
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
        "rayStartParams": {},
        "template": _pod(
            site,
            "ray-worker",
            CONTROL,
            resources=_resources(cpu=site.control_cpus, memory_gib=site.control_memory_gib),
            ready=_serving(site.port),
        ),
    }


def _pool(site: Site, group: Group) -> Json:
    resources = _resources(cpu=group.cpus, memory_gib=group.memory_gib, gpus=group.gpus)
    template = _pod(site, "ray-worker", group.name, resources=resources, ready=_serving(site.port))
    template["spec"]["nodeSelector"] = {POOL_LABEL: group.name}
    template["spec"]["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    return {
        "groupName": group.name,
        "replicas": group.nodes_min,
        "minReplicas": group.nodes_min,
        "maxReplicas": group.nodes_max,
        "labels": dict(group.labels),
        "rayStartParams": {"num-cpus": str(group.cpus), "num-gpus": str(group.gpus)},
        "template": template,
    }


def _pod(site: Site, container: str, name: str, *, resources: Json, ready: Json) -> Json:
    """One Ray node. `ready` decides whether the Service sends it requests; not alive, it is replaced."""
    volumes, mounts = _volumes(site)
    return {
        "metadata": {"labels": {"app.kubernetes.io/name": NAME, POOL_LABEL: name}},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "runAsUser": UID, "runAsGroup": UID, "fsGroup": UID},
            "containers": [
                {
                    "name": container,
                    "image": site.image,
                    "imagePullPolicy": "IfNotPresent",
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "env": _environment(site),
                    "ports": _ports(site, name),
                    "resources": resources,
                    "livenessProbe": {
                        **_http(AGENT_PORT),
                        "initialDelaySeconds": 30,
                        "periodSeconds": 5,
                        "timeoutSeconds": 5,
                        "failureThreshold": 60,
                    },
                    "readinessProbe": {
                        **ready,
                        "initialDelaySeconds": 10,
                        "periodSeconds": 5,
                        "timeoutSeconds": 5,
                        "failureThreshold": 3,
                    },
                    "volumeMounts": [{"name": "ray-logs", "mountPath": "/tmp/ray"}, *mounts],
                }
            ],
            "volumes": [{"name": "ray-logs", "emptyDir": {}}, *volumes],
        },
    }


def _ports(site: Site, name: str) -> list[Json]:
    ports = {"serve": site.port, "metrics": METRICS_PORT}
    if name == "head":
        ports = {"gcs": REDIS_PORT, "dashboard": 8265, "client": 10001, **ports}
    return [{"name": key, "containerPort": port} for key, port in ports.items()]


def _http(port: int) -> Json:
    return {"httpGet": {"path": "/api/healthz", "port": port}}


def _serving(port: int) -> Json:
    """A worker without a replica has no proxy of Ray Serve; it is alive, and not ready for requests."""
    check = "wget --tries 1 -T 2 -q -O- http://localhost:{}/{} > /dev/null"
    both = " && ".join((check.format(AGENT_PORT, "api/healthz"), check.format(port, "-/healthz")))
    return {"exec": {"command": ["bash", "-c", both]}}


def _environment(site: Site) -> list[Json]:
    """`DATABASE_URL` wins over the config; a config with SQLite cannot do without it, for nodes share no such file."""
    return [
        {"name": "DATABASE_URL", **_secret_value("database-url", optional=site.database_in_config)},
        {"name": "MAGICVIDEO_WEBHOOK_SECRET", **_secret_value("webhook-secret", optional=True)},
    ]


def _volumes(site: Site) -> tuple[list[Json], list[Json]]:
    shared: dict[str, str] = {} if site.preset == "tiny" else {"weights": HUB}
    if site.artifacts_path is not None:
        shared["artifacts"] = site.artifacts_path
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": f"{NAME}-{name}"}} for name in shared]
    return volumes, [{"name": name, "mountPath": path} for name, path in shared.items()]


def storage(site: Site) -> list[Json]:
    """Volumes that all nodes share, and the job that fills the one of the weights."""
    sizes = {"weights": "200Gi", "artifacts": "1Ti"}
    volumes, mounts = _volumes(site)
    documents: list[Json] = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": f"{NAME}-{volume['name']}", "labels": _PUBLISHED},
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": sizes[volume["name"]]}},
            },
        }
        for volume in volumes
    ]
    if site.preset == "tiny":
        return documents
    container = {
        "name": "pull",
        "image": site.image,
        "command": ["python", "-m", "stages", "weights", "--preset", site.preset, "--pull"],
        "resources": _resources(cpu=2, memory_gib=8),
        "volumeMounts": mounts[:1],
    }
    pod = {
        "restartPolicy": "OnFailure",
        "securityContext": {"runAsNonRoot": True, "runAsUser": UID, "runAsGroup": UID, "fsGroup": UID},
        "containers": [container],
        "volumes": volumes[:1],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{NAME}-weights", "labels": _PUBLISHED},
        "spec": {"backoffLimit": 10, "template": {"spec": pod}},
    }
    return [*documents, job]


def redis() -> list[Json]:
    """One Redis that writes every change to its volume. The head needs it to come back as it was."""
    labels = {"app.kubernetes.io/name": f"{NAME}-redis"}
    metadata = {"name": f"{NAME}-redis", "labels": {**_PUBLISHED, **labels}}
    container = {
        "name": "redis",
        "image": "redis:7.4",
        "args": ["redis-server", "--appendonly", "yes", "--dir", "/data", "--requirepass", "$(REDIS_PASSWORD)"],
        "env": [{"name": "REDIS_PASSWORD", **_secret("redis-password")}],
        "ports": [{"name": "redis", "containerPort": REDIS_PORT}],
        "resources": _resources(cpu=1, memory_gib=2),
        "readinessProbe": {"tcpSocket": {"port": REDIS_PORT}, "periodSeconds": 5},
        "livenessProbe": {"tcpSocket": {"port": REDIS_PORT}, "initialDelaySeconds": 30, "periodSeconds": 10},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "4Gi"}}},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"name": "redis", "port": REDIS_PORT}]},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": metadata,
            "spec": {
                "serviceName": f"{NAME}-redis",
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "securityContext": {"runAsNonRoot": True, "runAsUser": 999, "fsGroup": 999},
                        "containers": [container],
                    },
                },
                "volumeClaimTemplates": [claim],
            },
        },
    ]


def _resources(*, cpu: int, memory_gib: int, gpus: int = 0) -> Json:
    amounts: Mapping[str, str] = {"cpu": str(cpu), "memory": f"{memory_gib}Gi"}
    if gpus:
        amounts = {**amounts, "nvidia.com/gpu": str(gpus)}
    return {"requests": dict(amounts), "limits": dict(amounts)}


def _secret(key: str) -> Json:
    return _secret_value(key, optional=False)


def _secret_value(key: str, *, optional: bool) -> Json:
    reference: Json = {"name": NAME, "key": key}
    if optional:
        reference["optional"] = True
    return {"valueFrom": {"secretKeyRef": reference}}
