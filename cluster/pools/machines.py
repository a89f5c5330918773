"""Which machine of AWS has so many GPUs of a kind, and its CPUs and memory; else what the pool says itself.

CPUs are vCPUs and memory is GiB, as AWS's EC2 pages list them. Knows nothing of prices and of what a region has.
"""

from cluster.pools.file import GpuPool, Machine, PoolFileError

KEPT_CPUS = 2  # of each machine, for Kubernetes' own
AWS: dict[tuple[str, int], Machine] = {
    ("T4", 1): Machine(cpus=16, memory_gib=64, instance="g4dn.4xlarge"),
    ("T4", 4): Machine(cpus=48, memory_gib=192, instance="g4dn.12xlarge"),
    ("A10G", 1): Machine(cpus=16, memory_gib=64, instance="g5.4xlarge"),
    ("A10G", 4): Machine(cpus=48, memory_gib=192, instance="g5.12xlarge"),
    ("A10G", 8): Machine(cpus=192, memory_gib=768, instance="g5.48xlarge"),
    ("L4", 1): Machine(cpus=16, memory_gib=64, instance="g6.4xlarge"),
    ("L4", 4): Machine(cpus=48, memory_gib=192, instance="g6.12xlarge"),
    ("L4", 8): Machine(cpus=192, memory_gib=768, instance="g6.48xlarge"),
    ("L40S", 1): Machine(cpus=16, memory_gib=128, instance="g6e.4xlarge"),
    ("L40S", 4): Machine(cpus=48, memory_gib=384, instance="g6e.12xlarge"),
    ("L40S", 8): Machine(cpus=192, memory_gib=1536, instance="g6e.48xlarge"),
    ("H100", 1): Machine(cpus=16, memory_gib=256, instance="p5.4xlarge"),
    ("H100", 8): Machine(cpus=192, memory_gib=2048, instance="p5.48xlarge"),
}
_A100: dict[bool, Machine] = {  # by whether one GPU has more than 40 GiB
    False: Machine(cpus=96, memory_gib=1152, instance="p4d.24xlarge"),
    True: Machine(cpus=96, memory_gib=1152, instance="p4de.24xlarge"),
}


def machine_of(pool: GpuPool) -> Machine:
    """What one node of the pool is.

    Raises:
        PoolFileError: the pool does not say it, and AWS has no machine of that kind that we know.
    """
    if pool.machine is not None:
        return pool.machine
    if (pool.accelerator, pool.gpus_per_node) == ("A100", 8):
        return _A100[pool.gib > 40]
    found = AWS.get((pool.accelerator, pool.gpus_per_node))
    if found is None:
        counts = sorted(count for kind, count in AWS if kind == pool.accelerator)
        known = f"with {', '.join(map(str, counts))}" if counts else "with none"
        raise PoolFileError(
            f"pool {pool.name}: no machine with {pool.gpus_per_node} {pool.accelerator} a node is known, only {known}; "
            "give the pool `machine: {cpus: ..., memory_gib: ...}`, and `instance:` there if it is AWS's."
        )
    return found
