"""Who may reach which pod, and as whom the workers are known: NetworkPolicies and a service account.

    the server's port                  everybody; API keys judge who may do what
    dashboard                          KubeRay's operator, which hands the config over, and our own nodes
    all other ports of Ray's nodes     our own nodes
    Redis                              the head alone; Redis itself reaches nobody

Takes a `Site`, gives the documents. They hold where the cluster's network keeps NetworkPolicies.
"""

from cluster.manifests.pods import DASHBOARD_PORT, POOL_LABEL, PUBLISHED, REDIS_PORT, Json
from cluster.manifests.site import HEAD, NAME, Site

_OURS = {"app.kubernetes.io/name": NAME}
_HEAD = {**_OURS, POOL_LABEL: HEAD}
_OPERATOR = {"app.kubernetes.io/name": "kuberay-operator"}


def access(site: Site) -> list[Json]:
    """The account, which a cloud's workload identity is bound to, and the policies."""
    account = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": NAME, "labels": PUBLISHED},
        "automountServiceAccountToken": False,
    }
    operator = {"namespaceSelector": {}, "podSelector": {"matchLabels": _OPERATOR}}
    nodes = [{"from": [_pods(_OURS)]}, {"ports": [_tcp(site.port)]}]
    return [
        account,
        _policy("nodes", _OURS, ["Ingress"], ingress=nodes),
        _policy("dashboard", _HEAD, ["Ingress"], ingress=[{"from": [operator], "ports": [_tcp(DASHBOARD_PORT)]}]),
        _policy(
            "redis",
            {"app.kubernetes.io/name": f"{NAME}-redis"},
            ["Ingress", "Egress"],
            ingress=[{"from": [_pods(_HEAD)], "ports": [_tcp(REDIS_PORT)]}],
        ),
    ]


def _policy(name: str, pods: dict[str, str], kinds: list[str], *, ingress: list[Json]) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": f"{NAME}-{name}", "labels": PUBLISHED},
        "spec": {"podSelector": {"matchLabels": pods}, "policyTypes": kinds, "ingress": ingress},
    }


def _pods(labels: dict[str, str]) -> Json:
    return {"podSelector": {"matchLabels": labels}}


def _tcp(port: int) -> Json:
    return {"protocol": "TCP", "port": port}
