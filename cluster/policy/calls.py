"""What the order of one stage's calls is decided from, and what is decided: frozen values.

A `Queue` is one stage at one moment, over all of its replicas and all pipeline replicas: the calls that wait, what each
replica computes, and how much of the stage each tenant has had. `Moves` say which call each replica takes next and
which running call yields its replica. `Rules` are the settings. The same types serve the simulator and the live server.

Every moment is in seconds of one clock. A *promised* deadline is one that somebody was told (`deadline_s` of a job that
was accepted); a call without one has the soft deadline of its class (`soft_deadline_s`). Either is the moment until
which the call must be done at this stage, so that the job's later stages still have their seconds.

Standard library only. Knows nothing of Ray, of clocks, or where the numbers come from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster.policy.types import PolicyError

SOFT = 3.0  # a soft deadline, in seconds that a job of the class takes alone


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a job at the stage."""

    id: str
    left_s: float  # of computing on one replica
    deadline_s: float
    promised: bool = False
    priority: int = 0  # its class; a higher one goes first
    tenant: str = ""
    job: str = ""  # whose windows have its yields together
    ready_s: float = -math.inf  # when its inputs are there
    parked: bool = False  # it has yielded, and its state is kept
    yields: int = 0  # of its job, so far
    at: str | None = None  # the replica that fetches its bytes ahead


@dataclass(frozen=True, slots=True)
class Running:
    """What a replica computes."""

    call: Call  # `left_s` as of now
    since_s: float  # on this replica
    step_s: float = 0.0  # 0: it cannot stop before its end
    stop_in_s: float = 0.0  # until its next step boundary
    steps_left: int = 0  # the one under way included
    yielding: bool = False  # it was told to, and stops at that boundary


@dataclass(frozen=True, slots=True)
class Device:
    """A replica that takes calls; one that is `leaving` takes no more."""

    name: str
    running: Running | None = None
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Tenant:
    """What a tenant may have and has had."""

    weight: float = 1.0
    used_s: float = 0.0  # of this stage's replicas, of late (`cluster.policy.use`)

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise PolicyError(f"A tenant needs a weight above 0, got {self.weight}.")


@dataclass(frozen=True)
class Queue:
    """One stage at one moment."""

    now_s: float
    waiting: Sequence[Call] = ()
    devices: Sequence[Device] = ()
    tenants: Mapping[str, Tenant] = field(default_factory=dict)  # who is missing weighs 1 and has used nothing


@dataclass(frozen=True)
class Rules:
    """The settings of the order. `max_yields` of 0 turns preemption off."""

    age_s: float = 600.0  # so late a call rises by one class, twice as late by two
    ahead_s: float = 1.0  # a replica that is free so soon is told its next call
    hand_off_s: float = 1.0  # of a replica's time: half to take a state, half to go on from it
    gain: float = 2.0  # an urgent call must begin sooner by so many hand-offs; a victim must have run as long
    margin: float = 0.25  # of a call's seconds: with less room in its forecast it is in danger
    max_yields: int = 4  # of one job
    last_steps: int = 2  # with no more left a call is not stopped
    safety: float = 0.1  # of an estimate, on top of it, before a deadline is promised

    def __post_init__(self) -> None:
        for name in ("age_s", "gain"):
            if not 0 < getattr(self, name) < math.inf:
                raise PolicyError(f"The order needs {name} above 0, got {getattr(self, name)}.")
        for name in ("ahead_s", "hand_off_s", "margin", "max_yields", "last_steps", "safety"):
            if not 0 <= getattr(self, name) < math.inf:
                raise PolicyError(f"The order needs {name} of 0 or more, got {getattr(self, name)}.")


@dataclass(frozen=True, slots=True)
class Yield:
    """A running call stops at its next step boundary, so that `to` has its replica; None: because that is leaving."""

    device: str
    call: str
    to: str | None = None


@dataclass(frozen=True)
class Moves:
    """What is decided. Nothing binds until a call has started: the next decision may give it to another replica."""

    next: Mapping[str, str] = field(default_factory=dict)  # replica -> call, of those that are free or soon will be
    yields: tuple[Yield, ...] = ()


def soft_deadline_s(arrived_s: float, alone_s: float, declared_s: float | None = None) -> float:
    """Until when a job without a promise should be done: its class's seconds, else thrice what it takes alone."""
    return arrived_s + (SOFT * alone_s if declared_s is None else declared_s)
