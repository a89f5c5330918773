"""What the routers of this process share: which replicas each knows of, and a quieter log.

Apart from `deployments.on_ray.routing`, because Serve pickles a router's module by value: what stands there is a copy
of its own for every router, and nobody else sees what it counts.
"""

import logging
from collections.abc import Callable, Iterable

_known: dict[str, dict[str, frozenset[str]]] = {}  # application -> deployment -> running replicas, as Serve names them
_listeners: list[Callable[[], object]] = []


def replicas_of(app_name: str) -> dict[str, frozenset[str]]:
    """Running replicas of the deployments that this process has called, as its routers know them."""
    return dict(_known.get(app_name, {}))


def know(app_name: str, deployment: str, replicas: Iterable[str]) -> None:
    """These run now."""
    _known.setdefault(app_name, {})[deployment] = frozenset(replicas)
    for listener in _listeners:
        listener()


def listen(listener: Callable[[], object]) -> None:
    """Call it, from a router's thread, whenever replicas come or go."""
    _listeners.append(listener)


def quiet() -> None:
    """Have Serve warn of no call because it waits behind full replicas."""
    logging.getLogger("ray.serve").addFilter(_no_queue)


def _no_queue(record: logging.LogRecord) -> bool:
    """Serve warns again and again of a call behind full replicas; of one that does not answer it warns beside that."""
    return not str(record.msg).startswith("Failed to route request after")
