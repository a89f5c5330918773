"""The contract of `deployments.on_ray.ray_internals` with Ray: what a new version of Ray must still do."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
import ray
from ray import serve
from ray.serve.config import RequestRouterConfig

from deployments.on_ray.failures import Fault, dead_replica, fault_of, stage_failed
from deployments.on_ray.ray_internals import StreamBrokenError
from deployments.on_ray.routing import IdleFirst
from deployments.on_ray.streams import Info, is_reference, pairs
from tests.e2e.rig import Rig, wait_for

pytestmark = pytest.mark.slow

APP = "contract"
PIXELS = 4_000_000  # far above what Ray sends inline


class Source:
    """Streams arrays of 4 MB, and misbehaves on request."""

    async def run(self, count: int, misbehaviour: str = "") -> AsyncIterator[Any]:
        for index in range(count):
            if misbehaviour == "raise" and index == 1:
                raise ValueError("the denoiser overflowed")
            if misbehaviour == "hang" and index == 1:
                await asyncio.Event().wait()
            yield np.full(PIXELS, index, np.uint8)
            if misbehaviour == "half" and index == 1:
                return
            last = index == count - 1 and misbehaviour != "early"
            yield Info(kind="output", last=last, index=index)

    async def look(self, *arrays: Any) -> list[tuple[int, int, bool]]:
        """What arrives when payloads are handed on as arguments."""
        return [(int(array[0]), array.nbytes, array.flags.writeable) for array in arrays]


@pytest.fixture(scope="module")
def handle(rig: Rig) -> Iterator[Any]:
    options = {"name": "source", "ray_actor_options": {"num_cpus": 0.1}, "graceful_shutdown_timeout_s": 1.0}
    options["health_check_period_s"] = 0.5  # a dead replica is replaced only then
    yield serve.run(serve.deployment(**options)(Source).bind(), name=APP, route_prefix=None)
    serve.delete(APP)


async def collect(handle: Any, count: int, misbehaviour: str = "") -> list[tuple[Any, Info]]:
    response = handle.options(stream=True).run.remote(count, misbehaviour)
    return [pair async for pair in pairs(response)]


async def test_payloads_stay_references_and_come_in_order(handle: Any) -> None:
    given = await collect(handle, 3)
    assert all(is_reference(payload) for payload, _ in given)
    assert [(info["index"], info["last"]) for _, info in given] == [(0, False), (1, False), (2, True)]
    assert [int(ray.get(payload)[-1]) for payload, _ in given] == [0, 1, 2]


async def test_a_reference_that_is_handed_on_arrives_as_a_read_only_array(handle: Any) -> None:
    payloads = [payload for payload, _ in await collect(handle, 2)]
    assert await handle.look.remote(*payloads) == [(0, PIXELS, False), (1, PIXELS, False)]


async def test_an_error_of_the_stage_arrives_with_its_type_and_words(handle: Any) -> None:
    with pytest.raises(ValueError, match="overflowed") as failed:
        await collect(handle, 3, "raise")
    assert fault_of(failed.value) is not Fault.REPLICA_DIED
    assert fault_of(failed.value).whose != "platform"
    assert str(stage_failed("v2v", failed.value)) == "Stage v2v failed: ValueError: the denoiser overflowed"


async def test_a_stream_that_ends_early_is_told_from_one_that_ended(handle: Any) -> None:
    with pytest.raises(StreamBrokenError, match="before its last output"):
        await collect(handle, 2, "early")
    with pytest.raises(StreamBrokenError, match="between a payload and its info"):
        await collect(handle, 3, "half")


async def test_a_replica_that_dies_is_recognised_and_what_it_gave_outlives_it(rig: Rig, handle: Any) -> None:
    stream = pairs(handle.options(stream=True).run.remote(3, "hang"))
    payload, _ = await anext(stream)
    victim = wait_for("the replica's process", lambda: rig.replica("source", app=APP))
    victim.kill()
    with pytest.raises(ray.exceptions.RayError) as failed:
        await anext(stream)
    assert fault_of(failed.value) is Fault.REPLICA_DIED
    assert dead_replica(failed.value) is not None
    assert int(ray.get(payload)[0]) == 0


async def test_a_cancelled_response_ends_its_stream(handle: Any) -> None:
    wait_for("a replica", lambda: serve.status().applications[APP].status == "RUNNING", every_s=0.2)
    response = handle.options(stream=True).run.remote(1000)
    stream = pairs(response)
    await anext(stream)
    response.cancel()
    with pytest.raises((asyncio.CancelledError, ray.exceptions.TaskCancelledError)):
        async for _ in stream:
            pass


@pytest.fixture
def busy(rig: Rig) -> Iterator[Any]:
    """A deployment with the router of the stages, whose only replica takes one call and is in the middle of it."""
    router = RequestRouterConfig(request_router_class=IdleFirst)
    few = {"max_ongoing_requests": 1, "request_router_config": router, "ray_actor_options": {"num_cpus": 0.1}}
    deployment = serve.deployment(name="busy", graceful_shutdown_timeout_s=1.0, **few)(Source)
    handle = serve.run(deployment.bind(), name="busy", route_prefix=None)
    hanging = handle.options(stream=True).run.remote(3, "hang")
    next(iter(hanging))
    yield handle
    hanging.cancel()
    serve.delete("busy")


def test_what_is_cancelled_while_it_waits_for_a_replica_is_let_go_of(rig: Rig, busy: Any) -> None:
    wait_for("an empty store", lambda: gc.collect() >= 0 and rig.store_mib() < 1.0)  # what earlier tests left, goes
    waiting = [busy.look.remote(ray.put(np.zeros(4 * PIXELS, np.uint8))) for _ in range(8)]
    wait_for("the arguments", lambda: rig.store_mib() > 90.0)  # of 96
    for response in reversed(waiting):
        response.cancel()
    del waiting, response
    wait_for("the arguments to go", lambda: gc.collect() >= 0 and rig.store_mib() < 5.0)


def test_dropped_references_leave_the_store_empty(rig: Rig) -> None:
    wait_for("an empty store", lambda: rig.store_mib() < 1.0)
