"""The same pipeline as a newcomer to Ray Serve would write it: chained handles, every option at its default.

Each stage's method takes values and gives values; the chain hands `DeploymentResponse`s on un-awaited, so that
here, too, pixels never pass the orchestrator. V2V computes a job's windows in one call. It replays the same stages
with the same seconds and bytes and encodes the same frames with the same encoder. What it lacks is what
`deployments/` adds: streaming, a router tuned for few slots, more than five jobs at once, admission, collection of
leaked references, jobs that outlive their caller.

The baseline of `benchmarks.pipelining`. For `benchmarks.peers` it may take any number of jobs at once, and may await
each stage's value and send it on instead of chaining.
"""

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application

from benchmarks.peer.plain_stage import PlainStage
from stages.presets import Plan
from stages.types import STAGE_NAMES, StageName

PLAIN_NAME = "plain"


class PlainChain:
    """The orchestrator: one job, four chained calls."""

    def __init__(self, steps: Plan, t2i: Any, i2v: Any, v2v: Any, vfi: Any) -> None:
        self._steps = steps
        self._t2i, self._i2v, self._v2v, self._vfi = t2i, i2v, v2v, vfi

    async def __call__(self, seed: int) -> dict[str, Any]:
        steps = self._steps
        image = self._t2i.remote(params=steps.t2i, seed=seed)
        keyframes = self._i2v.remote(image, params=steps.i2v, seed=seed)
        pieces = self._v2v.remote(image, keyframes, params=steps.v2v, seed=seed)
        made: dict[str, Any] = await self._vfi.remote(pieces, params=steps.vfi, seed=seed)
        return made


class PlainAwait(PlainChain):
    """The orchestrator that awaits every value, and sends it on: pixels pass through it, by the object store."""

    async def __call__(self, seed: int) -> dict[str, Any]:
        steps = self._steps
        image = await self._t2i.remote(params=steps.t2i, seed=seed)
        keyframes = await self._i2v.remote(image, params=steps.i2v, seed=seed)
        pieces = await self._v2v.remote(image, keyframes, params=steps.v2v, seed=seed)
        made: dict[str, Any] = await self._vfi.remote(pieces, params=steps.vfi, seed=seed)
        return made


def build_plain(
    preset: str,
    steps: Plan,
    options: Mapping[StageName, Mapping[str, Any]],
    replicas: Mapping[StageName, int],
    artifacts_url: str,
    *,
    orchestrator: type[PlainChain] = PlainChain,
    at_once: int | None = None,
) -> Application:
    """The baseline's application: names and numbers of replicas, no option but how many jobs run `at_once`."""
    stages = {
        name: serve.deployment(name=name, num_replicas=replicas[name])(PlainStage).bind(
            preset, options[name], artifacts_url
        )
        for name in STAGE_NAMES
    }
    many = {} if at_once is None else {"max_ongoing_requests": at_once}
    return serve.deployment(name="chain", **many)(orchestrator).bind(steps, **stages)
