"""An ideal to compare an order of calls with: earliest deadline first on equal devices, preempted for nothing.

A device that comes to the end of a step takes whichever task has the earliest deadline, its own or a waiting one; a
task that may not be stopped keeps it to its end. Nothing costs anything: neither moving a state, nor a decision, nor a
caller's word. It knows no more of the future than a server does.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One computation of equal steps on one device."""

    arrived_s: float
    seconds: float
    steps: int
    deadline_s: float
    may_stop: bool = True


def ends(tasks: Sequence[Task], devices: int) -> list[float]:
    """When each task is done."""
    left, done = [task.steps for task in tasks], [math.inf] * len(tasks)
    waiting: list[tuple[float, int]] = []  # deadline, task
    events = [(task.arrived_s, False, number) for number, task in enumerate(tasks)]  # True: a device, at a step's end
    heapq.heapify(events)
    idle, current = list(range(devices)), dict[int, int]()

    def step(device: int, number: int, now_s: float) -> None:
        current[device] = number
        heapq.heappush(events, (now_s + tasks[number].seconds / tasks[number].steps, True, device))

    while events:
        now_s, at_step, which = heapq.heappop(events)
        if not at_step:
            heapq.heappush(waiting, (tasks[which].deadline_s, which))
        else:
            number = current.pop(which)
            left[number] -= 1
            if left[number] and not tasks[number].may_stop:
                step(which, number, now_s)
                continue
            if left[number]:
                heapq.heappush(waiting, (tasks[number].deadline_s, number))
            else:
                done[number] = now_s
            idle.append(which)
        while idle and waiting:
            step(idle.pop(), heapq.heappop(waiting)[1], now_s)
    return done
