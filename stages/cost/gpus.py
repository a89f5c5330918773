"""Whether each stage of a preset fits on a GPU by name, with which offloading, and about how long it takes there.

Memory and dense half-precision speed are the makers' own numbers. Seconds are FLOPs over `UTILISATION` of that speed,
our allowance for what attention and memory keep of it: an order of size and no measurement. Knows nothing of stages.
"""

from dataclasses import dataclass

from stages.cost.stages import GIB, OVERHEAD_BYTES, Cost
from stages.speed import OFFLOADS, Offload

UTILISATION = 0.4


@dataclass(frozen=True)
class Gpu:
    """One card."""

    gib: float
    tflops: float  # a second, dense, bfloat16


GPUS = {
    "l4": Gpu(24, 121),
    "rtx4090": Gpu(24, 165),
    "rtx5090": Gpu(32, 210),
    "a100-40": Gpu(40, 312),
    "l40s": Gpu(48, 362),
    "a100": Gpu(80, 312),
    "h100": Gpu(80, 989),
    "h200": Gpu(141, 989),
}


def fits(cost: Cost, gpu: Gpu) -> Offload | None:
    """The fastest offloading with which a stage fits alone, None where it does with none."""
    beside = cost.activation_peak_bytes + OVERHEAD_BYTES
    return next((kind for kind in OFFLOADS if cost.resident_if[kind] + beside <= gpu.gib * GIB), None)


def seconds(cost: Cost, gpu: Gpu) -> float:
    """Of one request, without what offloading moves."""
    return cost.flops / (UTILISATION * gpu.tflops * 1e12)
