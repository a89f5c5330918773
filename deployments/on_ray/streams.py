"""The stream of one stage call: (reference to a payload, small info) pairs, without fetching a payload.

A stage's replica yields a payload, then its info, then the next payload. The caller awaits the infos and hands the
payloads' references on, so frames never enter its process; when an info has arrived, the payload before it is complete.
With `last` in an info the stream is over.

Under `_local_testing_mode` there are no references; payloads then travel by value. There is no back-pressure: the
replica runs ahead of the caller.
"""

from collections.abc import AsyncIterator
from typing import Any, Literal, NotRequired, TypedDict

import ray

from deployments.on_ray.ray_internals import StreamBrokenError, pairs_by_reference, reference_generator

InfoKind = Literal["started", "progress", "output", "state", "yielded"]


class Info(TypedDict):
    """What travels beside a payload; `started` and `progress` have the payload None.

    `state` has one to go on from, should this replica die. `yielded` ends the stream of a call that was told to stop:
    with a state to go on from, or with None where the call had not begun.
    """

    kind: InfoKind
    last: bool
    step: NotRequired[int]
    total: NotRequired[int]
    glimpse: NotRequired[bytes]  # WebP of a denoising step, of `progress`
    index: NotRequired[int]  # of an output in its stream
    run_s: NotRequired[float]  # computing since the output before; of a batch, this call's share
    batch: NotRequired[int]  # calls that are computed together with this one, itself too; 1 where it is left out
    queued_s: NotRequired[float]  # waiting for the device inside the replica
    load_s: NotRequired[float]  # that the replica took to load, once, before its first call
    bytes: NotRequired[int]
    peak_memory_mb: NotRequired[float]  # of the call's device, or of its process; of a batch, of all of it
    speed: NotRequired[dict[str, Any]]  # of an output: the knobs of its replica that change bytes
    replica: NotRequired[str]  # host and process that computed the output
    at: NotRequired[str | None]  # the replica that has begun, as Serve names it
    stops: NotRequired[bool]  # whether the call can stop between two steps


async def pairs(response: Any) -> AsyncIterator[tuple[Any, Info]]:
    """The pairs of `handle.options(stream=True).run.remote(...)`, each as soon as it is there.

    Raises:
        StreamBrokenError: the stream ended early.
        Exception: whatever the stage raised, or Ray about its replica.
    """
    generator = await reference_generator(response)
    stream = _by_value(response) if generator is None else pairs_by_reference(generator)
    async for payload, info in stream:
        yield payload, info
        if info["last"]:
            return
    raise StreamBrokenError("The stage's stream ended before its last output.")


async def _by_value(response: Any) -> AsyncIterator[tuple[Any, Info]]:
    items = aiter(response)
    async for payload in items:
        yield payload, await anext(items)


def is_reference(payload: Any) -> bool:
    """Whether a payload travels by reference."""
    return isinstance(payload, ray.ObjectRef)
