"""What an exception means for its job, from Ray's own types as they arrive."""

import re
from pathlib import Path

import pytest
import ray
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfDiskError,
    OutOfMemoryError,
    OwnerDiedError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from deployments.errors import ConfigError, InputGoneError, StoreAwayError
from deployments.on_ray.failures import Fault, causes, dead_replica, fault_of, stage_failed
from deployments.on_ray.ray_internals import StreamBrokenError
from stages.base import InputError


def chained(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


def task_error(cause: Exception) -> Exception:
    made: Exception = RayTaskError("run", "Traceback ...", cause).as_instanceof_cause()
    return made


LOST = ObjectLostError("00" * 28, None, "")
UNAVAILABLE = DeploymentUnavailableError(DeploymentID("t2i", "magicvideo"))
NODE = ActorDiedError(
    ActorDiedErrorContext(actor_id=b"1" * 16, error_message="The actor died because its node has died. Node Id: 7")
)
FULL = StoreAwayError("The disk is full.")
AWAY = OperationalError("SELECT 1", {}, Exception("the server closed the connection"))


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (task_error(InputError("bad")), Fault.WRONG_INPUT),
        (InputError("bad"), Fault.WRONG_INPUT),
        (StreamBrokenError("early"), Fault.WRONG_INPUT),
        (ConfigError("no such stage"), Fault.WRONG_INPUT),
        (InputGoneError("gone"), Fault.WRONG_INPUT),
        (task_error(RuntimeError("hiccups")), Fault.RAISED),
        (task_error(OSError("a file of the stage's own")), Fault.RAISED),
        (ActorDiedError(), Fault.REPLICA_DIED),
        (OutOfMemoryError("full"), Fault.REPLICA_DIED),
        (WorkerCrashedError(), Fault.REPLICA_DIED),
        (chained(RayServeException("no"), ActorDiedError()), Fault.REPLICA_DIED),
        (chained(RuntimeError("a"), chained(RuntimeError("b"), ActorDiedError())), Fault.REPLICA_DIED),
        (UNAVAILABLE, Fault.NO_REPLICA),
        (task_error(UNAVAILABLE), Fault.NO_REPLICA),
        (ReplicaUnavailableError("r"), Fault.NO_REPLICA),
        (BackPressureError(2, 1), Fault.NO_REPLICA),
        (RequestCancelledError("r"), Fault.NO_REPLICA),
        (ActorUnavailableError("lost the connection", b"1" * 16), Fault.NO_REPLICA),
        (NODE, Fault.NO_REPLICA),
        (chained(RayServeException("no"), NODE), Fault.NO_REPLICA),
        (NodeDiedError("node 7"), Fault.NO_REPLICA),
        (OutOfDiskError(), Fault.NO_REPLICA),
        (LOST, Fault.OUTPUT_LOST),
        (OwnerDiedError("00" * 28, None, ""), Fault.OUTPUT_LOST),
        (task_error(LOST), Fault.OUTPUT_LOST),
        (FULL, Fault.STORE_AWAY),
        (task_error(FULL), Fault.STORE_AWAY),
        (AWAY, Fault.DATABASE_AWAY),
        (PoolTimeoutError(), Fault.DATABASE_AWAY),
    ],
)
def test_every_error_is_somebodys_fault(error: Exception, fault: Fault) -> None:
    assert fault_of(error) is fault


def test_the_readme_says_whose_fault_each_is() -> None:
    text = (Path(__file__).resolve().parents[3] / "deployments" / "README.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+)'s \|", text.split("### Whose fault is it?")[1], re.MULTILINE)
    assert dict(rows) == {fault.value: fault.whose for fault in Fault}


def test_an_error_names_the_replica_that_died() -> None:
    assert dead_replica(chained(RayServeException("no"), NODE)) == (b"1" * 16).hex()
    assert dead_replica(ActorDiedError()) is None


def test_a_chain_that_bites_its_tail_ends() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert list(causes(first)) == [first, second]


def test_the_stages_own_words_become_one_short_line() -> None:
    before = ray.is_initialized()
    said = str(stage_failed("v2v", task_error(InputError("The window\n is 3."))))
    assert said == "Stage v2v failed: InputError: The window is 3."
    assert len(str(stage_failed("v2v", ValueError("x" * 9000)))) == 500
    assert stage_failed("vfi", StreamBrokenError("It ended.")).code == "stage_failed"
    assert ray.is_initialized() == before  # words need no Ray
