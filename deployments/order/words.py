"""What a line is told of calls (`Entry`), and what it says (`Told`): frozen values that may travel to an actor.

An entry is all that is known of a call at one moment; the newest stands for all before, so that telling one again does
no harm. Moments are seconds since the epoch, by the clocks of machines that agree. Knows nothing of Ray.
"""

from dataclasses import dataclass
from typing import Literal

from cluster.policy.calls import Call


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
