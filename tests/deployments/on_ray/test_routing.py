"""Whom the router of a stage chooses, on replicas made here; tests/e2e has live ones."""

import inspect
import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve._private.request_router import request_router
from ray.serve.config import RequestRouterConfig

from deployments.on_ray.routing import IdleFirst


def router(loads: dict[str, int]) -> tuple[Any, list[Any]]:
    """One that has just heard how many calls each replica has, and the replicas; two calls fit each."""
    made: Any = IdleFirst.__new__(IdleFirst)
    made.initialize_state()
    made._replica_queue_len_cache = loads
    return made, [SimpleNamespace(replica_id=name, max_ongoing_requests=2) for name in loads]


async def chosen(made: Any, replicas: list[Any]) -> str:
    ((replica,),) = await made.choose_replicas(replicas)
    return str(replica.replica_id)


async def test_the_least_busy_is_taken_and_what_was_given_away_counts() -> None:
    made, replicas = router({"a": 1, "b": 0})
    assert await chosen(made, replicas) == "b"
    assert {await chosen(made, replicas), await chosen(made, replicas)} == {"a", "b"}


async def test_of_two_that_compute_the_one_that_began_earlier_is_taken() -> None:
    for first in ("a", "b"):
        made, replicas = router({"a": 0, "b": 0})
        second = "b" if first == "a" else "a"
        made._given = {first: 1.0, second: 2.0}  # both compute
        made._replica_queue_len_cache = {"a": 1, "b": 1}
        assert await chosen(made, replicas) == first
        assert await chosen(made, replicas) == second


async def test_full_replicas_are_left_to_serve() -> None:
    made, replicas = router({"a": 2, "b": 2})
    assert len((await made.choose_replicas(replicas))[0]) == 2


def test_calls_that_wait_behind_full_replicas_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert '"Failed to route request after "' in inspect.getsource(request_router)
    router({})
    router({})
    serve = logging.getLogger("ray.serve")
    with caplog.at_level("WARNING", logger="ray.serve"), propagating(serve):
        serve.warning("Failed to route request after 50 attempts over 9.81s. Retrying. Request ID: 1.")
        serve.warning("Failed to get queue length from a within 0.1s.")
    assert set(caplog.messages) == {"Failed to get queue length from a within 0.1s."}


@contextmanager
def propagating(logger: logging.Logger) -> Iterator[None]:
    before, logger.propagate = logger.propagate, True
    yield
    logger.propagate = before


THERE = """
import sys
from ray import cloudpickle
from deployments.on_ray.routed import replicas_of

router = cloudpickle.loads(sys.stdin.buffer.read())
router.update_replicas.__globals__["routed"].know("app", "v2v", [])
print(replicas_of("app"))
"""


def test_what_a_router_counts_is_seen_by_others_although_serve_pickles_it_by_value() -> None:
    sent = RequestRouterConfig(request_router_class=IdleFirst).get_serialized_request_router_cls()
    assert sent is not None
    said = subprocess.run([sys.executable, "-c", THERE], input=sent, stdout=subprocess.PIPE, check=True)
    assert said.stdout.strip() == b"{'v2v': frozenset()}"
