"""What a line is told of calls (`Entry`), and what it says (`Told`): frozen values that may travel to an actor.

An entry is all that is known of a call at one moment; the newest stands for all before, so that telling one again does
no harm. Moments are by a clock of the process that holds them, which agrees with no other: whoever takes an entry or a
queue from elsewhere moves it. Knows nothing of Ray.
"""

from dataclasses import dataclass, replace
from typing import Literal

from cluster.policy.calls import Call, Device, Queue


@dataclass(frozen=True, slots=True)
class Entry:
    """One call that has not ended."""

    call: Call  # `left_s` as of `at_s`
    teller: str  # the pipeline replica whose call it is
    at_s: float
    replica: str | None = None  # where it runs, or has been sent
    begun_s: float | None = None  # when its replica began; None: it waits
    step_s: float = 0.0  # of a call that runs and can stop between two steps; else 0
    steps_left: int = 0
    weight: float = 1.0  # of its tenant


@dataclass(frozen=True, slots=True)
class Told:
    """What is to be done with a call.

    `go`: send it to that replica. `back`: it was sent and has not begun; it waits again. `stop`: at its next step, as
    an urgent call needs its replica; it goes on in about `wait_s`, where that is known.
    """

    kind: Literal["go", "back", "stop"]
    call: str
    replica: str = ""
    wait_s: float | None = None


def moved(entry: Entry, by_s: float) -> Entry:
    """The same by a clock that is so much ahead."""
    begun_s = None if entry.begun_s is None else entry.begun_s + by_s
    return replace(entry, call=_moved(entry.call, by_s), at_s=entry.at_s + by_s, begun_s=begun_s)


def moved_queue(queue: Queue, by_s: float) -> Queue:
    """The same by a clock that is so much ahead."""
    waiting = tuple(_moved(call, by_s) for call in queue.waiting)
    return replace(queue, now_s=queue.now_s + by_s, waiting=waiting, devices=[_device(d, by_s) for d in queue.devices])


def _device(device: Device, by_s: float) -> Device:
    running = device.running
    if running is None:
        return device
    call, since_s = _moved(running.call, by_s), running.since_s + by_s
    return replace(device, running=replace(running, call=call, since_s=since_s))


def _moved(call: Call, by_s: float) -> Call:
    return replace(call, deadline_s=call.deadline_s + by_s, ready_s=call.ready_s + by_s)
