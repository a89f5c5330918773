"""What the routers of this process share: how many replicas each knows of, and a quieter log.

Apart from `deployments.on_ray.routing`, because Serve pickles a router's module by value: what stands there is a copy
of its own for every router, and nobody else sees what it counts.
"""

import logging

_counted: dict[str, dict[str, int]] = {}  # application -> deployment -> running replicas


def replicas_of(app_name: str) -> dict[str, int]:
    """Running replicas of the deployments that this process has called, as its routers know them."""
    return dict(_counted.get(app_name, {}))


def count(app_name: str, deployment: str, replicas: int) -> None:
    """So many run now."""
    _counted.setdefault(app_name, {})[deployment] = replicas


def quiet() -> None:
    """Have Serve warn of no call because it waits behind full replicas."""
    logging.getLogger("ray.serve").addFilter(_no_queue)


def _no_queue(record: logging.LogRecord) -> bool:
    """Serve warns again and again of a call behind full replicas; of one that does not answer it warns beside that."""
    return not str(record.msg).startswith("Failed to route request after")
