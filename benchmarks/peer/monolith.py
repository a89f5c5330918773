"""The same four replayed stages in data-parallel processes: each holds all four models and makes whole videos.

Takes the work and a number of jobs; gives the seconds of the burst on as many processes as the pipeline has replicas.
Runs on the Ray that is connected, which only hands out seeds.
"""

import time
from typing import Any

import ray
from ray.util import ActorPool

from benchmarks.peer.work import Work
from stages.types import STAGE_NAMES, StageName

SLIVER = 0.1  # of a CPU a process, so that Ray's count places them all


class Monolith:
    """One process; one job after the other."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._stages = {name: work.stage(name) for name in STAGE_NAMES}

    def run(self, seed: int) -> Any:
        image = self._call("t2i", seed)
        keyframes = self._call("i2v", seed, image)
        return self._call("vfi", seed, self._call("v2v", seed, image, keyframes))

    def _call(self, name: StageName, seed: int, *inputs: Any) -> Any:
        return self._stages[name](*inputs, params=self._work.params(name), seed=seed)


def monolith_s(work: Work, jobs: int) -> float:
    """Seconds of the burst; each process has made one video before."""
    actor = ray.remote(num_cpus=SLIVER)(Monolith)
    actors = [actor.remote(work) for _ in range(work.slots)]
    ray.get([one.run.remote(seed) for seed, one in enumerate(actors)])
    pool = ActorPool(actors)
    began = time.monotonic()
    for _ in pool.map_unordered(lambda one, seed: one.run.remote(seed), range(jobs)):
        pass
    took_s = time.monotonic() - began
    for one in actors:
        ray.kill(one)
    return took_s
