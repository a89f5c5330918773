"""The same four replayed stages on Ray Data: a dataset of jobs mapped through a pool of actors a stage.

Ray Data needs pandas and Arrow, which this project does not, so it runs where `benchmarks.peer.environment` has
installed them. A row is one job; a value becomes two columns, the arrays of which are copied once on their way in. All
actors stand before the clock begins with T2I's first call; it ends with the last video.
"""

import itertools
import logging
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import ray

from benchmarks.peer.environment import OURS, Burst, Peer
from benchmarks.peer.work import INPUTS, OUTPUT, Work, step
from stages.types import STAGE_NAMES, StageName

RAY_DATA = Peer(
    name="ray-data",
    packages=(f"ray[data]=={ray.__version__}", *OURS),
    modules=("av", "fsspec", "ray.data"),
    entry="benchmarks.peer.ray_data:run",
)
PARTS = ("head", "body")  # of a value in columns
SLIVER = 0.1  # of a CPU an actor
START_S = 120  # until all actors must stand


class RowStage:
    """One stage over rows."""

    def __init__(self, work: Work, name: StageName) -> None:
        self._work, self._name, self._stage = work, name, work.stage(name)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        inputs = INPUTS[self._name]
        job = {key: row[key] for key in row if key in ("seed", "began")}
        done = step(self._name, self._stage, self._work, {**job, **{key: unpack(row, key) for key in inputs}})
        made = done.pop(OUTPUT[self._name], None)
        kept = {f"{key}_{part}": row[f"{key}_{part}"] for key in inputs if key in done for part in PARTS}
        plain = {key: value for key, value in done.items() if key not in inputs}
        return {**plain, **kept, **({} if made is None else pack(made, OUTPUT[self._name]))}


def pack(value: Any, key: str) -> dict[str, Any]:
    """A value as two columns."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers]
    return {f"{key}_head": pickle.dumps((head, [len(part) for part in parts])), f"{key}_body": np.concatenate(parts)}


def unpack(row: Mapping[str, Any], key: str) -> Any:
    """What `pack` was given, without a copy."""
    head, sizes = pickle.loads(row[f"{key}_head"])
    ends = list(itertools.accumulate(sizes))
    body = row[f"{key}_body"]
    return pickle.loads(head, buffers=[body[end - size : end] for end, size in zip(ends, sizes, strict=True)])


def run(burst: Burst) -> float:
    """Seconds of the burst."""
    from ray.data import ActorPoolStrategy, DataContext

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.wait_for_min_actors_s = START_S
    data = ray.data.from_items([{"seed": seed} for seed in range(burst.jobs)], override_num_blocks=burst.jobs)
    for name in STAGE_NAMES:
        data = data.map(
            RowStage,
            fn_constructor_args=(burst.work, name),
            compute=ActorPoolStrategy(size=burst.work.replicas[name]),
            num_cpus=SLIVER,
        )
    rows = list(data.take_all())
    return float(max(row["ended"] for row in rows) - min(row["began"] for row in rows))
