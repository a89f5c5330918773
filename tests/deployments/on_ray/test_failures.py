"""What an exception means for its job, from Ray's own types as they arrive."""

import pytest
import ray
from ray.exceptions import ActorDiedError, ObjectLostError, OutOfMemoryError, OwnerDiedError, RayTaskError
from ray.serve.exceptions import RayServeException

from deployments.on_ray.failures import causes, output_lost, replica_lost, stage_failed
from deployments.on_ray.ray_internals import StreamBrokenError
from stages.base import InputError


def chained(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def task_error(cause: Exception) -> Exception:
    made: Exception = RayTaskError("run", "Traceback ...", cause).as_instanceof_cause()
    return made


LOST = ObjectLostError("00" * 28, None, "")


@pytest.mark.parametrize(
    ("error", "replica", "output"),
    [
        (ActorDiedError(), True, False),
        (OutOfMemoryError("full"), True, False),
        (chained(RayServeException("no"), ActorDiedError()), True, False),
        (chained(RuntimeError("a"), chained(RuntimeError("b"), ActorDiedError())), True, False),
        (LOST, False, True),
        (OwnerDiedError("00" * 28, None, ""), False, True),
        (task_error(LOST), False, True),
        (task_error(InputError("bad")), False, False),
        (InputError("bad"), False, False),
        (StreamBrokenError("early"), False, False),
    ],
)
def test_a_lost_replica_is_told_from_a_lost_output_and_from_a_stages_own_error(
    error: Exception, replica: bool, output: bool
) -> None:
    assert (replica_lost(error), output_lost(error)) == (replica, output)


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert list(causes(first)) == [first, second]


def test_the_stages_own_words_become_one_short_line() -> None:
    said = str(stage_failed("v2v", task_error(InputError("The window\n is 3."))))
    assert said == "Stage v2v failed: InputError: The window is 3."
    assert len(str(stage_failed("v2v", ValueError("x" * 9000)))) == 500
    assert stage_failed("vfi", StreamBrokenError("It ended.")).code == "stage_failed"
    assert not ray.is_initialized()
