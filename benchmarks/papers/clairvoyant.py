"""What no policy can pass: bounds by linear programmes that know every arrival before it comes.

Work is a fluid in them: it may be stopped, split and moved at any moment for nothing, replicas change stage in no time,
and only what is said of GPUs, nodes and how many of them a job can use at once holds. Moments are rounded to a grid in
favour of the bound. So every real schedule is one of those that are looked at, and none of them is better.

    most_in_time        the share of tasks that can be done by their deadlines, at most
    least_percentile    the percentile of latencies, at least
    least_node_hours    node-hours with which a share of the tasks can be done within a latency, at least
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, eye_array, hstack, vstack

_CELLS = 16  # of the grid, in a task's own time
_CLOSE = 0.01  # between a latency that is possible and one that is not


@dataclass(frozen=True)
class Task:
    """GPU-seconds that may be computed between two moments, on so many GPUs at once."""

    begin_s: float
    end_s: float
    work_s: float
    at_once: float = 1.0


def most_in_time(tasks: Sequence[Task], gpus: float, cell_s: float | None = None) -> float:
    """Of all tasks; fractions of one count."""
    able = [task for task in tasks if task.work_s <= task.at_once * (task.end_s - task.begin_s) + 1e-9]
    if not able:
        return 0.0
    cell = cell_s or min(task.end_s - task.begin_s for task in able) / _CELLS
    spans = [(math.floor(task.begin_s / cell + 1e-9), math.ceil(task.end_s / cell - 1e-9)) for task in able]
    count, first = len(able), min(begin for begin, _ in spans)
    owner = np.concatenate([np.full(end - begin, index) for index, (begin, end) in enumerate(spans)])
    at = np.concatenate([np.arange(begin, end) for begin, end in spans]) - first
    ones, columns = np.ones(len(at)), np.arange(count, count + len(at))
    work = [task.work_s for task in able]
    done = coo_array((ones, (owner, columns)), shape=(count, count + len(at))).tocsr()
    whole = coo_array((work, (np.arange(count), np.arange(count))), shape=(count, count + len(at))).tocsr()
    used = coo_array((ones, (at, columns)), shape=(int(at.max()) + 1, count + len(at)))
    most = np.concatenate([np.ones(count), np.array([task.at_once for task in able])[owner] * cell])
    found = linprog(
        np.concatenate([-np.ones(count), np.zeros(len(at))]),
        A_ub=vstack([whole - done, used]),
        b_ub=np.concatenate([np.zeros(count), np.full(used.shape[0], gpus * cell)]),
        bounds=np.column_stack([np.zeros(len(most)), most]),
    )
    return -float(found.fun) / len(tasks)


def least_percentile(
    arrivals: Sequence[tuple[float, float]], gpus: float, percent: float, most_s: float, at_once: float = 1.0
) -> float:
    """Of latencies, from each job's arrival and GPU-seconds; `most_s` is one that is known to be possible.

    It is that of `numpy.percentile`: so many jobs at least are as quick.
    """
    needed = math.floor(percent / 100 * (len(arrivals) - 1)) + 1
    alone = sorted(work_s / at_once for _, work_s in arrivals)
    low_s, high_s = alone[needed - 1], most_s

    def possible(latency_s: float) -> bool:
        tasks = [Task(at_s, at_s + latency_s, work_s, at_once) for at_s, work_s in arrivals]
        return most_in_time(tasks, gpus, latency_s / _CELLS) * len(arrivals) >= needed - 1e-6

    if low_s >= high_s or possible(low_s):
        return min(low_s, high_s)
    while high_s - low_s > _CLOSE * high_s:
        middle_s = (low_s + high_s) / 2
        low_s, high_s = (low_s, middle_s) if possible(middle_s) else (middle_s, high_s)
    return low_s


def least_node_hours(
    arrivals: Sequence[tuple[float, float]],
    gpus: int,
    boot_s: float,
    latency_s: float,
    *,
    share: float = 0.95,
    span_s: float = 0.0,
    least: float = 1.0,
    cell_s: float = 60.0,
) -> float:
    """Of nodes of so many GPUs of which `least` always stand; the others are billed while they boot, too.

    `share` of the jobs is to be done within the latency, the others whenever it suits, and those may be the largest.
    """
    at_s, work_s = (np.array(column) for column in zip(*arrivals, strict=True))
    order = np.argsort(at_s)
    at_s, come = at_s[order], np.concatenate([[0.0], np.cumsum(work_s[order])])
    spared = float(np.sort(work_s)[::-1][: math.ceil((1 - share) * len(work_s))].sum())
    cells = math.ceil((max(span_s, float(at_s[-1])) + latency_s) / cell_s) + 1
    ends_s = cell_s * np.arange(1, cells + 1)
    there = come[np.searchsorted(at_s, ends_s, side="right")]
    due = np.maximum(0.0, come[np.searchsorted(at_s, ends_s - latency_s, side="right")] - spared)
    due[-1] = come[-1]
    one, none = eye_array(cells, format="csr"), csr_array((cells, cells))
    step = one - eye_array(cells, k=-1, format="csr")
    # nodes up, those that boot for it, work done so far: each cell's
    found = linprog(
        np.concatenate([np.full(cells, cell_s), np.full(cells, boot_s), np.zeros(cells)]),
        A_ub=vstack(
            [hstack([-gpus * cell_s * one, none, step]), hstack([step, -one, none]), hstack([none, none, -step])]
        ),
        b_ub=np.concatenate([np.zeros(cells), [least], np.zeros(cells - 1), np.zeros(cells)]),
        bounds=np.column_stack(
            [
                np.concatenate([np.full(cells, least), np.zeros(cells), due]),
                np.concatenate([np.full(2 * cells, np.inf), there]),
            ]
        ),
    )
    spare_s = cells * cell_s - max(span_s, float(at_s[-1]))
    return (float(found.fun) - least * spare_s) / 3600
