"""The living nodes of the Ray cluster as `cluster.pools.needs` wants them: the only file of this folder that imports
Ray.
"""

from typing import Any

import ray

from cluster.pools.needs import NodeOffer


def living_nodes() -> tuple[NodeOffer, ...]:
    """Labels and total resources of every living node. Ray must be connected."""
    nodes: list[dict[str, Any]] = ray.nodes()
    return tuple(
        NodeOffer(labels=dict(node.get("Labels") or {}), resources=dict(node.get("Resources") or {}))
        for node in nodes
        if node.get("Alive")
    )
