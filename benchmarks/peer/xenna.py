"""The same four replayed stages on Cosmos-Xenna, in its streaming mode with fixed numbers of workers.

Each stage is called once a job, as its interface has it. Its start of workers is not counted: T2I's worker waits until
the others stand, and the clock runs from T2I's first call until the last video. Runs where
`benchmarks.peer.environment` has installed it; imports it only there.
"""

import importlib
import time
from typing import Any

from benchmarks.peer.environment import OURS, Burst, Peer, PeerError
from benchmarks.peer.work import step
from stages.types import STAGE_NAMES, StageName

XENNA = Peer(
    name="xenna",
    packages=("cosmos-xenna>=0.3,<0.4", "tqdm", *OURS),  # it imports tqdm without asking for it
    modules=("av", "fsspec", "cosmos_xenna.pipelines.v1"),
    entry="benchmarks.peer.xenna:run",
    dashboard=True,  # it asks Ray's API for the actors that there are, up to so many
    settings=dict.fromkeys(("RAY_MAX_LIMIT_FROM_API_SERVER", "RAY_MAX_LIMIT_FROM_DATA_SOURCE"), "40000"),
)
STAND_S = 15.0  # until the other stages' workers stand
SLIVER = 0.25  # of a CPU a worker


def run(burst: Burst) -> float:
    """Seconds of the burst."""
    xenna: Any = importlib.import_module("cosmos_xenna.pipelines.v1")
    work = burst.work

    class Hosted(xenna.Stage):  # type: ignore[misc]
        """One of the four; its base class is known only here."""

        def __init__(self, name: StageName) -> None:
            self._name: StageName = name

        @property
        def required_resources(self) -> Any:
            return xenna.Resources(cpus=SLIVER)

        def setup(self, worker_metadata: Any) -> None:
            if self._name == STAGE_NAMES[0]:
                time.sleep(STAND_S)
            self._stage = work.stage(self._name)

        def process_data(self, in_data: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [step(self._name, self._stage, work, job) for job in in_data]

    stages = [xenna.StageSpec(Hosted(name), num_workers=work.replicas[name]) for name in STAGE_NAMES]
    config = xenna.PipelineConfig(execution_mode=xenna.ExecutionMode.STREAMING, return_last_stage_outputs=True)
    inputs = [{"seed": seed} for seed in range(burst.jobs)]
    made = xenna.run_pipeline(xenna.PipelineSpec(input_data=inputs, stages=stages, config=config))
    if made is None or len(made) != burst.jobs:
        raise PeerError(f"Cosmos-Xenna gave {0 if made is None else len(made)} videos of {burst.jobs}.")
    return float(max(job["ended"] for job in made) - min(job["began"] for job in made))
