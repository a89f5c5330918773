"""One pod: what a Ray node runs as, listens on, mounts, and is told, and the small pieces other pods are made of.

Every pod keeps the rules of Kubernetes' restricted level and has a root that cannot be written. Each is told no secret
but its own: the database's where jobs are read or the application is built (control, head), the object store's where
files are written (control, the pools of the last stage). Takes a `Site` and what differs from node to node; gives a
pod's template. Knows nothing of groups.
"""

from collections.abc import Mapping
from typing import Any

from cluster.manifests.image import HUB, UID
from cluster.manifests.site import CONTROL, HEAD, NAME, Site

Json = dict[str, Any]

REDIS_PORT = 6379
AGENT_PORT = 52365  # of Ray's agent on each node; /api/healthz looks at raylet and, on the head, GCS
METRICS_PORT = 8080
DASHBOARD_PORT = 8265
POOL_LABEL = f"{NAME}/pool"
KILL_S = 30  # between the end of a drain and the kill
SECURITY: Mapping[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": UID,
    "runAsGroup": UID,
    "fsGroup": UID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONFINED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
SCRATCH: Mapping[str, Any] = {"name": "scratch", "mountPath": "/tmp"}
PUBLISHED = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/managed-by": "cluster-render"}


def pod(site: Site, container: str, name: str, *, resources: Json, ready: Json, drain_s: int) -> Json:
    """One Ray node. `ready` decides whether the Service sends it requests; not alive, it is replaced.

    Told to stop, it takes nothing new and lets calls end for `drain_s`.
    """
    volumes, mounts = volumes_of(site)
    return {
        "metadata": {"labels": {"app.kubernetes.io/name": NAME, POOL_LABEL: name}},
        "spec": {
            **_account(name),
            "terminationGracePeriodSeconds": drain_s + KILL_S,
            "securityContext": SECURITY,
            "containers": [
                {
                    "name": container,
                    "image": site.image,
                    "imagePullPolicy": "IfNotPresent",
                    "securityContext": CONFINED,
                    "env": environment(site, name, drain_s),
                    "ports": _ports(site, name),
                    "resources": resources,
                    "livenessProbe": {
                        **http(AGENT_PORT),
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
                    "volumeMounts": [SCRATCH, {"name": "ray-logs", "mountPath": "/tmp/ray"}, *mounts],
                }
            ],
            "volumes": [scratch(), {"name": "ray-logs", "emptyDir": {}}, *volumes],
        },
    }


def _account(name: str) -> Json:
    """KubeRay gives the head, whose autoscaler asks Kubernetes, an account of its own."""
    return {} if name == HEAD else {"serviceAccountName": NAME, "automountServiceAccountToken": False}


def _ports(site: Site, name: str) -> list[Json]:
    ports = {"serve": site.port, "metrics": METRICS_PORT}
    if name == HEAD:
        ports = {"gcs": REDIS_PORT, "dashboard": DASHBOARD_PORT, **ports}
    return [{"name": key, "containerPort": port} for key, port in ports.items()]


def http(port: int) -> Json:
    return {"httpGet": {"path": "/api/healthz", "port": port}}


def serving(port: int) -> Json:
    """A worker without a replica has no proxy of Ray Serve; it is alive, and not ready for requests."""
    check = "wget --tries 1 -T 2 -q -O- http://localhost:{}/{} > /dev/null"
    both = " && ".join((check.format(AGENT_PORT, "api/healthz"), check.format(port, "-/healthz")))
    return {"exec": {"command": ["bash", "-c", both]}}


def environment(site: Site, name: str, drain_s: int) -> list[Json]:
    """`DATABASE_URL` wins over the config; a config with SQLite cannot do without it, for nodes share no such file.

    Without the keys of the object store its client asks the cloud who the pod is: workload identity.
    """
    told = [
        {"name": "HOME", "value": SCRATCH["mountPath"]},
        {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": str(drain_s)},
    ]
    if name in (HEAD, CONTROL):
        told.append({"name": "DATABASE_URL", **secret_value("database-url", optional=site.database_in_config)})
        told.append({"name": "MAGICVIDEO_WEBHOOK_SECRET", **secret_value("webhook-secret", optional=True)})
    if site.artifacts_path is None and name in (CONTROL, *site.writers):
        told.append({"name": "AWS_ACCESS_KEY_ID", **secret_value("aws-access-key-id", optional=True)})
        told.append({"name": "AWS_SECRET_ACCESS_KEY", **secret_value("aws-secret-access-key", optional=True)})
    return told


def scratch() -> Json:
    """The volume of `SCRATCH`."""
    return {"name": "scratch", "emptyDir": {}}


def volumes_of(site: Site) -> tuple[list[Json], list[Json]]:
    shared: dict[str, str] = {} if site.preset == "tiny" else {"weights": HUB}
    if site.artifacts_path is not None:
        shared["artifacts"] = site.artifacts_path
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": f"{NAME}-{name}"}} for name in shared]
    return volumes, [{"name": name, "mountPath": path} for name, path in shared.items()]


def resources(*, cpu: int, memory_gib: int, gpus: int = 0) -> Json:
    amounts: Mapping[str, str] = {"cpu": str(cpu), "memory": f"{memory_gib}Gi"}
    if gpus:
        amounts = {**amounts, "nvidia.com/gpu": str(gpus)}
    return {"requests": dict(amounts), "limits": dict(amounts)}


def secret(key: str) -> Json:
    return secret_value(key, optional=False)


def secret_value(key: str, *, optional: bool) -> Json:
    reference: Json = {"name": NAME, "key": key}
    if optional:
        reference["optional"] = True
    return {"valueFrom": {"secretKeyRef": reference}}
