"""What an exception of a stage call means for its job: repeat the call, run the job again, or fail it.

Ray wraps and chains: a dead replica shows up as `ActorDiedError`, or as a `RayServeException` with that in its chain of
causes; a stage's own exception as a `RayTaskError` that holds it. Everything here is pure. Knows nothing of jobs.
"""

from collections.abc import Iterator

from ray.exceptions import ActorDiedError, ObjectLostError, OutOfMemoryError, RayActorError, RayTaskError

from deployments.errors import ConfigError, StageFailedError
from deployments.on_ray.ray_internals import StreamBrokenError
from stages.base import StageError
from stages.types import StageName

_MAX_CHARS = 500


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


def output_lost(error: BaseException) -> bool:
    """An input of the call died with its node: the stages before must run again."""
    return any(isinstance(item, ObjectLostError) for item in causes(error))


def replica_lost(error: BaseException) -> bool:
    """The replica died under the call; the same call to another replica gives the same result."""
    return any(isinstance(item, RayActorError | ActorDiedError | OutOfMemoryError) for item in causes(error))


def is_final(error: BaseException) -> bool:
    """The same call would raise again: what the stage was given, or has loaded, is wrong."""
    return any(isinstance(item, StageError | StreamBrokenError | ConfigError) for item in causes(error))


def reason_of(error: BaseException) -> str:
    """The name of what the stage raised, or of what became of its replica."""
    return type(_inner(error)).__name__


def stage_failed(stage: StageName, error: BaseException) -> StageFailedError:
    """The stage's own words, in one line."""
    inner = _inner(error)
    text = " ".join(str(inner).split()) or "no message"
    if isinstance(inner, StreamBrokenError):
        return StageFailedError(f"Stage {stage}: {text}"[:_MAX_CHARS])
    return StageFailedError(f"Stage {stage} failed: {type(inner).__name__}: {text}"[:_MAX_CHARS])


def _inner(error: BaseException) -> BaseException:
    return error.cause if isinstance(error, RayTaskError) and isinstance(error.cause, BaseException) else error
