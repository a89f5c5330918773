"""How many nodes replicas need; a bill is of whole nodes, whatever is used of them.

A replica takes one GPU or a share of one, and its GPU is on one node. Shares are packed into the fewest GPUs: by the
largest first where that reaches the least there can be, else by an integer program. Pure.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from cluster.pools.file import GpuPool

_EPSILON = 1e-9
Replicas = Iterable[tuple[float, int]]  # GPUs of one, how many of them


def gpus_for(replicas: Replicas) -> int:
    """The fewest GPUs that hold them."""
    sizes: dict[float, int] = {}
    for share, count in replicas:
        sizes[share] = sizes.get(share, 0) + count
    whole = sizes.pop(1.0, 0)
    parts = tuple(sorted((share, count) for share, count in sizes.items() if count))
    return whole + (_bins(parts) if parts else 0)


def nodes_for(pool: GpuPool, replicas: Replicas) -> int:
    """The fewest nodes that hold them; those that always stand count too."""
    return max(pool.nodes.min, -(-gpus_for(replicas) // pool.gpus_per_node))


@lru_cache(maxsize=100_000)
def _bins(parts: tuple[tuple[float, int], ...]) -> int:
    """The fewest GPUs for so many replicas of each share."""
    if len(parts) == 1:
        ((share, count),) = parts
        return -(-count // int(1 / share + _EPSILON))
    least = math.ceil(math.fsum(share * count for share, count in parts) - _EPSILON)
    found = _largest_first(parts)
    return found if found == least else min(found, _by_program(parts))


def _largest_first(parts: Sequence[tuple[float, int]]) -> int:
    free: list[float] = []
    for share, count in sorted(parts, reverse=True):
        for _ in range(count):
            at = next((at for at, room in enumerate(free) if room + _EPSILON >= share), None)
            if at is None:
                free.append(1.0 - share)
            else:
                free[at] -= share
    return len(free)


def _by_program(parts: Sequence[tuple[float, int]]) -> int:
    """Each variable is the number of GPUs that are filled in one way."""
    filled = np.array(list(ways([share for share, _ in parts], 1.0)), dtype=float)
    needs, each = LinearConstraint(filled.T, lb=[count for _, count in parts]), np.ones(len(filled))
    solved = milp(each, integrality=each, bounds=Bounds(0), constraints=needs)
    return round(float(solved.fun))


def ways(shares: Sequence[float], room: float) -> Iterator[tuple[int, ...]]:
    """How one GPU can be filled."""
    if not shares:
        yield ()
        return
    for count in range(int(room / shares[0] + _EPSILON) + 1):
        for rest in ways(shares[1:], room - count * shares[0]):
            yield (count, *rest)
