"""What `/healthz` says: running replicas of each stage, and what is missing, in sentences.

Asks Ray Serve's controller and the cluster at most once a second, however often it is asked itself. Takes the typed
arguments; knows nothing of HTTP.
"""

import threading
import time

from ray import serve

from client.schema import Health
from cluster.pools import StageNeed, find_lacks
from cluster.ray_nodes import living_nodes
from deployments import __version__
from deployments.config import AppArgs
from stages.types import STAGE_NAMES

_FRESH_S = 1.0


def stage_needs(args: AppArgs) -> tuple[StageNeed, ...]:
    """What each stage asks of the cluster at start; one that lives with another asks nothing of its own."""
    return tuple(
        StageNeed(
            stage=name,
            labels=args.stages[name].labels,
            resources={"CPU": args.stages[name].num_cpus, "GPU": args.stages[name].num_gpus},
            replicas=args.stages[name].least_replicas,
        )
        for name in STAGE_NAMES
        if args.home(name) == name
    )


def running_replicas(app_name: str, args: AppArgs) -> dict[str, int]:
    """Running replicas of each stage, or of that with which it lives; a stage that Serve does not know has 0."""
    application = serve.status().applications.get(app_name)
    deployments = application.deployments if application is not None else {}
    return {
        name: int(deployments[home].replica_states.get("RUNNING", 0)) if home in deployments else 0
        for name, home in ((name, args.home(name)) for name in STAGE_NAMES)
    }


class Watch:
    """Lives in an ingress replica."""

    def __init__(self, args: AppArgs) -> None:
        self._args = args
        self._lock = threading.Lock()
        self._known: Health | None = None
        self._asked = 0.0

    def health(self) -> Health:
        """The state of the application, at most a second old. Blocks: call it in a thread."""
        with self._lock:
            if self._known is None or time.monotonic() - self._asked > _FRESH_S:
                self._known = self._ask()
                self._asked = time.monotonic()
            return self._known

    def _ask(self) -> Health:
        replicas = running_replicas(serve.get_replica_context().app_name, self._args)
        problems = [lack.sentence for lack in find_lacks(stage_needs(self._args), living_nodes())]
        problems += [
            f"Stage {name} has {replicas[name]} running replicas, it needs {self._args.stages[name].least_replicas}; "
            "look into its log if this lasts."
            for name in STAGE_NAMES
            if self._args.home(name) == name and replicas[name] < self._args.stages[name].least_replicas
        ]
        return Health(
            status="degraded" if problems else "ok",
            model=self._args.preset,
            version=__version__,
            stages=replicas,
            problems=problems,
        )
