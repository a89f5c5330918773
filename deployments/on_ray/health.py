"""Whether a new job can be made, and what is missing, in sentences: what the cluster adds to `/healthz`.

It can while every stage has a running replica, or may have none until there is work, and so have the pipeline and the
keeper. Fewer replicas than the configuration asks for are a problem to tell, but no reason to turn jobs away.

Asks Ray Serve's controller and the cluster at most once a second, however often it is asked itself. Takes the typed
arguments; knows nothing of HTTP and nothing of the journal.
"""

import threading
import time
from collections.abc import Mapping

from ray import serve

from client.schema import Health
from cluster.pools.needs import Lack, StageNeed, find_lacks
from cluster.pools.ray_nodes import living_nodes
from cluster.pools.stage_args import labels_of
from deployments import __version__
from deployments.on_ray.ray_internals import Replicas, replicas_of_app
from deployments.settings.application import AppArgs
from stages.types import STAGE_NAMES

_FRESH_S = 1.0
_NONE = Replicas(running=0, wanted=0)
_MAX_CHARS = 500
_LOOK = "look into its log if this lasts."


def stage_needs(args: AppArgs) -> tuple[StageNeed, ...]:
    """What each stage asks of the cluster at start; one that lives with another asks nothing of its own.

    Last, where they have a pool, what the dearest of ingress, pipeline and keeper asks.
    """
    beside = [args.ingress.num_cpus, args.pipeline.num_cpus, *([args.keeper.num_cpus] if args.keeper.enabled else [])]
    control = StageNeed(stage=None, labels=labels_of(args.control_pool), resources={"CPU": max(beside)})
    stages = tuple(
        StageNeed(
            stage=name,
            labels=args.stages[name].labels,
            resources={"CPU": args.stages[name].num_cpus, "GPU": args.stages[name].num_gpus},
            replicas=args.stages[name].least_replicas,
            fallbacks=args.stages[name].fallback_labels,
        )
        for name in STAGE_NAMES
        if args.home(name) == name
    )
    return (*stages, control) if args.control_pool else stages


def judge_health(args: AppArgs, found: Mapping[str, Replicas], lacks: tuple[Lack, ...], was_ok: bool) -> Health:
    """By the replicas of each deployment and the pools that are missing.

    Args:
        was_ok: whether the application has ever been; until then it starts.
    """
    poolless = {lack.stage for lack in lacks}
    problems, can_make = [lack.sentence for lack in lacks], True
    for name in (name for name in STAGE_NAMES if args.home(name) == name):
        one, least = found.get(name, _NONE), args.stages[name].least_replicas
        running = one.running
        if running < least:
            problems.append(f"Stage {name} has {running} running replicas, it needs {least}; {_LOOK}")
        if one.trouble:
            problems.append(f"Stage {name} is not well: {_last_words(one.trouble)}")
        # With "degraded", a node of the pool may come once a call waits: turning calls away would keep it away.
        reachable = least == 0 and (name not in poolless or args.missing_pool == "degraded")
        can_make = can_make and (running > 0 or reachable)
    for other in ("pipeline", "keeper") if args.keeper.enabled else ("pipeline",):
        if not found.get(other, _NONE).running:
            problems.append(f"The {other} has no running replica, it needs 1; {_LOOK}")
            can_make = False
    if args.pipeline.claims == "never":
        problems.append("No new job is begun while pipeline.claims is never.")
    of_stages = {name: found.get(args.home(name), _NONE) for name in STAGE_NAMES}
    return Health(
        status="ok" if can_make else "degraded" if was_ok else "starting",
        model=args.preset,
        version=__version__,
        stages={name: replicas.running for name, replicas in of_stages.items()},
        wanted={name: replicas.wanted for name, replicas in of_stages.items()},
        problems=problems,
    )


def _last_words(trouble: str) -> str:
    """Of Serve's message about a replica that does not start, which is mostly a traceback: the error."""
    lines = [line.strip() for line in trouble.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error: " in line), lines[-1] if lines else trouble)[:_MAX_CHARS]


class Watch:
    """Lives in an ingress replica."""

    def __init__(self, args: AppArgs) -> None:
        self._args = args
        self._lock = threading.Lock()
        self._known: Health | None = None
        self._asked = 0.0
        self._was_ok = False

    def health(self) -> Health:
        """The state of the application, at most a second old. Blocks: call it in a thread.

        Raises:
            Exception: whatever Ray raises when it does not answer.
        """
        with self._lock:
            if self._known is None or time.monotonic() - self._asked > _FRESH_S:
                found = replicas_of_app(serve.get_replica_context().app_name)
                lacks = find_lacks(stage_needs(self._args), living_nodes())
                self._known = judge_health(self._args, found, lacks, self._was_ok)
                self._asked = time.monotonic()
                self._was_ok = self._was_ok or self._known.status == "ok"
            return self._known
