"""Whether each stage of a preset fits on a GPU by name, with which offloading, and about how long it takes there.

Speeds are the maker's: NVIDIA's data sheets of L4, L40S, A100, H100 and H200 (the SXM forms) and its papers on the Ada
and Blackwell architectures, dense, bfloat16 with sums in float32; where a sheet gives the number "with sparsity", half
of it. Memory is what `nvidia-smi` shows of such a card, which is less than its name says. Seconds are FLOPs over
`UTILISATION` of that speed, our allowance for what attention and memory keep of it, and at least what it takes to read
all weights at every step: an order of size and no measurement. Knows nothing of stages.
"""

from dataclasses import dataclass

from stages.cost.stages import GIB, OVERHEAD_BYTES, Cost
from stages.speed import OFFLOADS, Offload

UTILISATION = 0.4


@dataclass(frozen=True)
class Gpu:
    """One card."""

    gib: float
    tflops: float  # a second
    gb_s: float  # read from its memory


GPUS = {
    "l4": Gpu(22.5, 121, 300),
    "rtx4090": Gpu(24.0, 165, 1008),
    "rtx5090": Gpu(31.8, 210, 1792),
    "a100-40": Gpu(40.0, 312, 1555),
    "l40s": Gpu(45.0, 362, 864),
    "a100": Gpu(80.0, 312, 2039),
    "h100": Gpu(79.6, 989, 3350),
    "h200": Gpu(140.4, 989, 4800),
}


def fits(cost: Cost, gpu: Gpu) -> Offload | None:
    """The fastest offloading with which a stage fits alone, None where it does with none."""
    beside = cost.activation_peak_bytes + OVERHEAD_BYTES
    return next((kind for kind in OFFLOADS if cost.resident_if[kind] + beside <= gpu.gib * GIB), None)


def seconds(cost: Cost, gpu: Gpu) -> float:
    """Of one request, without what offloading moves, nor what GPUs that share a call send to each other."""
    passes = cost.flops / cost.step_flops if cost.step_flops else cost.calls
    reading = passes * cost.weight_bytes / (gpu.gb_s * 1e9)
    return max(cost.flops / (UTILISATION * gpu.tflops * 1e12) / cost.gpus, reading)
