"""Whose fault an error is: the one place that sorts what a call of a stage or of the keeper raised.

    the job's       fails it, with the stage's words
    the stage's     the call is repeated, within a budget: of errors, or of deaths of its replica
    the platform's  the job waits, says for what, and goes on when it is there; never counted

Ray wraps and chains: a dead replica shows up as `ActorDiedError`, or as a `RayServeException` with that in its chain of
causes; a stage's own exception as a `RayTaskError` that holds it. Everything here is pure. Knows nothing of jobs.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Literal

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ActorUnschedulableError,
    GetTimeoutError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RaySystemError,
    RayTaskError,
    RpcError,
    RuntimeEnvSetupError,
    TaskCancelledError,
    TaskUnschedulableError,
    WorkerCrashedError,
)
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

from deployments.errors import ConfigError, JobFailure, StageFailedError, StoreAwayError
from deployments.on_ray.ray_internals import StreamBrokenError, node_died
from stages.base import StageError
from stages.types import StageName

_MAX_CHARS = 500
_DATABASE = "sqlalchemy."  # names, because SQL is the journal's
_DATABASE_AWAY = {"DBAPIError", "DatabaseError", "OperationalError", "InterfaceError", "InternalError", "TimeoutError"}

Whose = Literal["job", "stage", "platform"]


class Fault(Enum):
    """What went wrong; `whose` fault it is decides what becomes of the job."""

    OUTPUT_LOST = "output_lost"  # an input of the call died with its node
    STORE_AWAY = "store_away"  # the artifact store is full, away or refuses
    DATABASE_AWAY = "database_away"
    NO_REPLICA = "no_replica"  # none that can take the call: a deploy under way or failed, a node lost, Ray itself
    REPLICA_DIED = "replica_died"  # the same call to another replica gives the same result
    WRONG_INPUT = "wrong_input"  # the same call would raise again: what the stage was given, or has loaded, is wrong
    RAISED = "raised"  # anything else

    @property
    def whose(self) -> Whose:
        if self is Fault.WRONG_INPUT:
            return "job"
        return "stage" if self in (Fault.REPLICA_DIED, Fault.RAISED) else "platform"


_SIGNS: tuple[tuple[Fault, tuple[type[BaseException], ...]], ...] = (
    (Fault.OUTPUT_LOST, (ObjectLostError,)),
    (Fault.STORE_AWAY, (StoreAwayError,)),
    (
        Fault.NO_REPLICA,
        (
            *(DeploymentUnavailableError, ActorUnavailableError, ActorUnschedulableError, TaskUnschedulableError),
            *(NodeDiedError, LocalRayletDiedError, RpcError, GetTimeoutError, RuntimeEnvSetupError),
            *(ObjectStoreFullError, OutOfDiskError, TaskCancelledError),  # nobody but Serve cancels a call under us
        ),
    ),
    (Fault.REPLICA_DIED, (RayActorError, ActorDiedError, OutOfMemoryError, WorkerCrashedError)),
    (Fault.WRONG_INPUT, (StageError, StreamBrokenError, ConfigError)),
    (Fault.NO_REPLICA, (RayServeException, RaySystemError)),
)


def fault_of(error: BaseException) -> Fault:
    """By the first of the signs that the error, or what it wraps or was raised from, carries."""
    chain = list(causes(error))
    if any(isinstance(item, JobFailure) for item in chain):
        return Fault.WRONG_INPUT
    if any(node_died(item) for item in chain):
        return Fault.NO_REPLICA
    if any(type(item).__module__.startswith(_DATABASE) and type(item).__name__ in _DATABASE_AWAY for item in chain):
        return Fault.DATABASE_AWAY
    for fault, types in _SIGNS:
        if any(isinstance(item, types) for item in chain):
            return fault
    return Fault.RAISED


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it wraps and what it was raised from, each once."""
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = current.cause if isinstance(current, RayTaskError) else None
        waiting.extend(item for item in (inner, current.__cause__) if isinstance(item, BaseException))


def dead_replica(error: BaseException) -> str | None:
    """Which replica died, as Ray numbers it; None where the error does not say."""
    return next((item.actor_id for item in causes(error) if isinstance(item, RayActorError) and item.actor_id), None)


def reason_of(error: BaseException) -> str:
    """The name of what the stage raised, or of what became of its replica."""
    return type(_inner(error)).__name__


def words_of(error: BaseException) -> str:
    """What it says, in one line."""
    inner = _inner(error)
    return " ".join(str(getattr(inner, "message", "") or inner).split())[:_MAX_CHARS] or "no message"


def stage_failed(stage: StageName, error: BaseException) -> StageFailedError:
    """The stage's own words, in one line."""
    inner = _inner(error)
    text = " ".join(str(inner).split()) or "no message"
    if isinstance(inner, StreamBrokenError):
        return StageFailedError(f"Stage {stage}: {text}"[:_MAX_CHARS])
    return StageFailedError(f"Stage {stage} failed: {type(inner).__name__}: {text}"[:_MAX_CHARS])


def _inner(error: BaseException) -> BaseException:
    return error.cause if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException) else error
