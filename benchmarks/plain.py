"""The same pipeline as a newcomer to Ray Serve would write it: chained handles, every option at its default.

Each stage's method takes values and gives values; the chain hands `DeploymentResponse`s on un-awaited, so that
here, too, pixels never pass the orchestrator. V2V computes a job's windows in one call. It replays the same stages
with the same seconds and bytes and encodes the same frames with the same encoder. What it lacks is what
`deployments/` adds: streaming, a router tuned for few slots, more than five jobs at once, admission, collection of
leaked references, jobs that outlive their caller.

The baseline of `benchmarks.pipelining`; serves nothing else.
"""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ray import serve
from ray.serve import Application

from cluster.replay import ReplayStage
from deployments.encode import Mp4Finisher
from stages.base import ignore_progress
from stages.model.windows import plan_windows
from stages.presets import Plan, get_preset
from stages.types import STAGE_NAMES, Piece, StageName

PLAIN_NAME = "plain"


class PlainStage:
    """One replayed stage. The lock keeps a device to one call, whichever threads Serve runs methods on."""

    def __init__(self, preset: str, options: Mapping[str, Any], artifacts_url: str) -> None:
        self._stage = ReplayStage.load(get_preset(preset), "cpu", **options)
        self._finisher = Mp4Finisher(artifacts_url)
        self._device = threading.Lock()

    def __call__(self, *inputs: Any, params: Any, seed: int) -> Any:
        """The stage's value; for V2V the list of its pieces, for VFI the description of the finished video."""
        with self._device:
            if self._stage.name == "vfi":
                return self._video(inputs[0], params, seed)
            if self._stage.name == "v2v":
                parts = range(len(plan_windows(len(inputs[1].clip.frames), params.windows)))
                return [self._compute(inputs, replace(params, part=part), seed) for part in parts]
            return self._compute(inputs, params, seed)

    def _compute(self, inputs: tuple[Any, ...], params: Any, seed: int) -> Any:
        return self._stage(*inputs, params=params, seed=seed, report=ignore_progress)

    def _video(self, pieces: list[Piece], params: Any, seed: int) -> dict[str, Any]:
        clips = [
            self._compute((piece, *pieces[max(0, index - 1) : index]), params, seed)
            for index, piece in enumerate(pieces)
        ]
        made = self._finisher.assemble([self._finisher.encode(clip) for clip in clips], f"videos/{seed}/0.mp4", {})
        return {"key": made.key, "size_bytes": made.size_bytes}


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


def build_plain(
    preset: str,
    steps: Plan,
    options: Mapping[StageName, Mapping[str, Any]],
    replicas: Mapping[StageName, int],
    artifacts_url: str,
) -> Application:
    """The baseline's application: names and numbers of replicas, no other option."""
    stages = {
        name: serve.deployment(name=name, num_replicas=replicas[name])(PlainStage).bind(
            preset, options[name], artifacts_url
        )
        for name in STAGE_NAMES
    }
    return serve.deployment(name="chain")(PlainChain).bind(steps, **stages)
