"""What every peer is given alike: seconds, bytes, replicas, parameters; and one job's way through one stage.

Imports neither Ray nor Serve, so that it also runs where another version of Ray is installed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.peer.plain_stage import PlainStage
from stages.presets import Plan
from stages.types import StageName

INPUTS: Mapping[StageName, tuple[str, ...]] = {
    "t2i": (),
    "i2v": ("image",),
    "v2v": ("image", "keyframes"),
    "vfi": ("pieces",),
}
OUTPUT: Mapping[StageName, str] = {"t2i": "image", "i2v": "keyframes", "v2v": "pieces", "vfi": "video"}
KEPT: Mapping[StageName, tuple[str, ...]] = {"t2i": (), "i2v": ("image",), "v2v": (), "vfi": ()}  # for later stages


@dataclass(frozen=True)
class Work:
    """The stages of one comparison."""

    preset: str
    steps: Plan
    options: Mapping[StageName, Mapping[str, Any]]  # of ReplayStage
    replicas: Mapping[StageName, int]
    artifacts_url: str

    def stage(self, name: StageName) -> PlainStage:
        return PlainStage(self.preset, self.options[name], self.artifacts_url)

    def params(self, name: StageName) -> Any:
        return getattr(self.steps, name)

    @property
    def slots(self) -> int:
        """Devices in all."""
        return sum(self.replicas.values())


def step(name: StageName, stage: PlainStage, work: Work, job: Mapping[str, Any]) -> dict[str, Any]:
    """A job with what the stage made of it and what later stages need; VFI's has its `began` and `ended` (epoch)."""
    began = job.get("began") or time.time()
    made = stage(*(job[key] for key in INPUTS[name]), params=work.params(name), seed=int(job["seed"]))
    done = {"seed": job["seed"], "began": began, **{key: job[key] for key in KEPT[name]}}
    return {**done, "ended": time.time()} if name == "vfi" else {**done, OUTPUT[name]: made}
