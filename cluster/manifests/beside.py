"""What stands beside the cluster: the volumes that its nodes share, and the Redis that keeps the head's state.

Redis comes with the image of the nodes, so that one digest names all that runs.
"""

from cluster.manifests.pods import (
    CONFINED,
    PUBLISHED,
    REDIS_PORT,
    SCRATCH,
    SECURITY,
    Json,
    resources,
    scratch,
    secret,
    volumes_of,
)
from cluster.manifests.site import NAME, Site


def storage(site: Site) -> list[Json]:
    """Volumes that all nodes share, and the job that fills the one of the weights."""
    sizes = {"weights": "200Gi", "artifacts": "1Ti"}
    volumes, mounts = volumes_of(site)
    documents: list[Json] = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": f"{NAME}-{volume['name']}", "labels": PUBLISHED},
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
        "securityContext": CONFINED,
        "env": [{"name": "HOME", "value": SCRATCH["mountPath"]}],
        "resources": resources(cpu=2, memory_gib=8),
        "volumeMounts": [SCRATCH, *mounts[:1]],
    }
    pod = {
        "restartPolicy": "OnFailure",
        "automountServiceAccountToken": False,
        "securityContext": SECURITY,
        "containers": [container],
        "volumes": [scratch(), *volumes[:1]],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{NAME}-weights", "labels": PUBLISHED},
        # gone when it is done: the next image is another template, which no Job takes
        "spec": {"backoffLimit": 10, "ttlSecondsAfterFinished": 600, "template": {"spec": pod}},
    }
    return [*documents, job]


def redis(site: Site) -> list[Json]:
    """One Redis that writes every change to its volume. The head needs it to come back as it was."""
    labels = {"app.kubernetes.io/name": f"{NAME}-redis"}
    metadata = {"name": f"{NAME}-redis", "labels": {**PUBLISHED, **labels}}
    container = {
        "name": "redis",
        "image": site.image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": CONFINED,
        "command": ["redis-server"],
        "args": ["--appendonly", "yes", "--dir", "/data", "--requirepass", "$(REDIS_PASSWORD)"],
        "env": [{"name": "REDIS_PASSWORD", **secret("redis-password")}],
        "ports": [{"name": "redis", "containerPort": REDIS_PORT}],
        "resources": resources(cpu=1, memory_gib=2),
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
                        "automountServiceAccountToken": False,
                        "securityContext": SECURITY,
                        "containers": [container],
                    },
                },
                "volumeClaimTemplates": [claim],
            },
        },
    ]
