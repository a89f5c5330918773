"""What this project calls of Ray that Ray keeps private: the only such module.

Ray is pinned, and `tests/e2e/test_streams.py` and `test_routing.py` there hold what a new version must still do.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray._private.state import actors, available_resources_per_node
from ray.exceptions import ActorDiedError, ObjectRefStreamEndOfStreamError, RayError
from ray.serve._private import client as serve_client
from ray.serve._private import replica as serve_replica
from ray.serve._private.config import DeploymentConfig
from ray.serve._private.constants import SERVE_NAMESPACE
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ServeDeploySchema, ServeInstanceDetails


class StreamBrokenError(RuntimeError):
    """A stage's stream ended before an info said `last`."""


async def reference_generator(response: Any) -> Any | None:
    """Ray's generator of references behind a streaming response; None under `_local_testing_mode`, which has none."""
    try:
        return await response._to_object_ref_gen()
    except RuntimeError as error:
        if "local testing mode" not in str(error):
            raise
        return None


async def pairs_by_reference(generator: Any) -> AsyncIterator[tuple[Any, Any]]:
    """Every other item by reference, each with the value of the one after it."""
    while True:
        payload, meta = generator._get_next_ref_n(2)  # a peek; nothing is fetched
        try:
            info = await meta  # tiny; the payload is complete before it
        except ObjectRefStreamEndOfStreamError:
            try:
                await payload  # an error of the stage sits where the payload would be
            except ObjectRefStreamEndOfStreamError:
                return
            raise StreamBrokenError("The stage's stream ended between a payload and its info.") from None
        generator._consume_next_ref_n(2)
        yield payload, info


def node_died(error: BaseException) -> bool:
    """Whether a replica died with its node; Ray says so only in the text that it gives."""
    return isinstance(error, ActorDiedError) and (error.preempted or "its node has died" in str(error))


def own_actor() -> str | None:
    """The actor that this process is, as Ray numbers it; None in a process that is none."""
    return ray.get_runtime_context().get_actor_id() if ray.is_initialized() else None


def own_replica() -> str | None:
    """This replica, as Serve names it among those of its deployment; None where Serve does not run it."""
    try:
        return str(serve.get_replica_context().replica_id.unique_id)
    except RayServeException:
        return None


def when_stopped(tell: Callable[[], None]) -> None:
    """Have `tell` called, on Serve's thread, when Serve begins to stop this replica: it lets calls end before that.

    Serve tells a replica's own class only when no call is left.
    """
    begin = serve_replica.Replica.perform_graceful_shutdown

    async def stop(replica: Any) -> None:
        tell()
        await begin(replica)

    serve_replica.Replica.perform_graceful_shutdown = stop


def count_waiting(handle: Any, change: int) -> None:
    """Have Serve's own scaling rule see so many more calls wait for a deployment than were sent to it."""
    router = handle._router
    loop, routed = getattr(router, "_asyncio_loop", None), getattr(router, "_asyncio_router", None)
    if loop is None or routed is None:
        return
    counted = routed._metrics_manager
    count = counted.inc_num_queued_requests if change > 0 else counted.dec_num_queued_requests
    for _ in range(abs(change)):
        loop.call_soon_threadsafe(count)


def cluster_id() -> str:
    """As Ray numbers the cluster that this process works in; empty without one."""
    return str(ray._private.worker.global_worker.node.cluster_id.hex()) if ray.is_initialized() else ""


def actor_ended(actor_id: str) -> bool:
    """Whether an actor has ended, as Ray's control store knows; False where that does not answer. Blocks."""
    try:
        return bool(actors(actor_id).get("State") == "DEAD")
    except (RayError, RuntimeError):
        return False


def look_often() -> None:
    """From now on Serve is asked ten times a second, not once, whether what was asked for has started or ended."""
    serve_client.CLIENT_POLLING_INTERVAL_S = 0.1


def apply_config(config: Mapping[str, Any]) -> None:
    """What `serve deploy` does with a config file, without the dashboard that it asks: the way to name a policy."""
    client = _get_global_client()
    if client is None:
        raise RuntimeError("Ray Serve does not run.")
    client.deploy_apps(ServeDeploySchema.model_validate(config))


class _OwnVersion(DeploymentConfig):  # type: ignore[misc]
    """Keeps its version when Serve, which builds a config file's application, gives every deployment the same."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "version":
            super().__setattr__(name, value)


def with_version(deployment: Any, version: str) -> Any:
    """The deployment whose replicas are replaced when `version` changes, and not when anything in the file does.

    Serve's own version is a digest of all `args`.
    """
    made = deployment.options(version=version, _internal=True)
    config = made._deployment_config
    made._deployment_config = _OwnVersion.model_construct(**{**dict(config), "version": version})
    return made


def has_room(labels: Mapping[str, str], resources: Mapping[str, float]) -> bool:
    """Whether a living node of these labels has so much that nobody uses; True where there is no cluster to ask."""
    if not ray.is_initialized():
        return True
    free = available_resources_per_node()
    return any(
        all((node.get("Labels") or {}).get(key) == value for key, value in labels.items())
        and all(free.get(node["NodeID"], {}).get(name, 0.0) >= amount for name, amount in resources.items())
        for node in ray.nodes()
        if node.get("Alive")
    )


@dataclass(frozen=True)
class Replicas:
    """Of one deployment."""

    running: int
    wanted: int  # by the autoscaler, or by the configuration
    trouble: str = ""  # why it is not well, in Serve's words


def replicas_of_app(app_name: str) -> dict[str, Replicas]:
    """Of each deployment; none where Serve does not know the application.

    `serve.status()` asks the controller for the same, and leaves out how many are wanted.
    """
    client = _get_global_client()
    if client is None:
        raise RuntimeError("Ray Serve does not run.")
    application = ServeInstanceDetails(**client.get_serve_details()).applications.get(app_name)
    found = application.deployments if application is not None else {}
    return {
        name: Replicas(
            sum(replica.state == "RUNNING" for replica in one.replicas),
            one.target_num_replicas,
            one.message if one.status in ("UNHEALTHY", "DEPLOY_FAILED") else "",
        )
        for name, one in found.items()
    }


def end_ghosts(app_name: str) -> int:
    """End replicas that were called off before a node had a place for them; gives how many. Blocks.

    Serve asks such a replica to shut down, which it cannot hear before it has a place: it stays STOPPING for
    `graceful_shutdown_timeout_s`, asks for a node all that time, and holds up the next deploy.
    """
    client = _get_global_client()
    application = ServeInstanceDetails(**client.get_serve_details()).applications.get(app_name) if client else None
    replicas = [one for found in (application.deployments if application else {}).values() for one in found.replicas]
    ghosts = [one.actor_name for one in replicas if one.state == "STOPPING" and one.node_id is None]
    for name in filter(None, ghosts):
        with suppress(ValueError):  # it has gone
            ray.kill(ray.get_actor(name, namespace=SERVE_NAMESPACE))
    return len(ghosts)


class ForgetsEnded:
    """Mixed into a router of Serve: a call that is cancelled before it is sent is forgotten at once.

    Serve leaves it in its queues until the next call to the same deployment is routed, and with it the references that
    are its arguments: an idle server would keep a cancelled job's frames.
    """

    _deployment_id: Any
    _pending_requests_to_fulfill: deque[Any]
    _pending_requests_to_route: deque[Any]
    _get_pending_request_matching_internal_request_id: Callable[[Any], Any]

    @property
    def leads_to(self) -> str:
        """The name of the deployment."""
        return str(self._deployment_id.name)

    def _get_pending_request_matching_metadata(self, request_metadata: Any = None) -> Any:
        """Serve calls this with whose replica was found: a call that names one (`at`) gets its own, not the first."""
        found = self._get_pending_request_matching_internal_request_id(request_metadata)
        return None if found is None or found.kwargs.get("at") is None else found

    def _remove_pending_request_from_indices(self, pending_request: Any) -> None:
        """Serve calls this when a waiting call is given a replica, and when it is cancelled."""
        super()._remove_pending_request_from_indices(pending_request)  # type: ignore[misc]
        for queue in (self._pending_requests_to_fulfill, self._pending_requests_to_route):
            waiting = [request for request in queue if not request.future.done()]
            if len(waiting) < len(queue):
                queue.clear()
                queue.extend(waiting)
