"""How long jobs wait and take in a row of pools, by formulas: what the planner trusts before anything is simulated.

Each stage is a queue with several servers: waiting by Allen and Cunneen's correction of Erlang's C for the spread of
arrivals (Poisson) and of service. A job's time is the sum over its stages; its 95th percentile is that of a gamma
distribution with the sum's mean and variance, stages taken as independent. Jobs of several kinds wait in one queue;
each kind has its own seconds there, and a percentile is that of the slowest. `cluster.planner.refine` simulates it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import gammaincinv


@dataclass(frozen=True)
class Visit:
    """What one kind of jobs takes at a station."""

    stay_s: float
    cv: float = 0.0
    parts: int = 1


@dataclass(frozen=True)
class Station:
    """One stage: jobs a second that come, seconds a job keeps a server busy, servers, spread of a job's seconds.

    Where jobs are served in batches, those are a job's share of the batch's seconds, and `stay_s` all of them. With
    `visits` there are several kinds of jobs, some of which do not come here (None); the seconds above are their mean.
    """

    rate: float
    service_s: float
    servers: int
    cv: float = 0.0
    parts: int = 1  # calls that a job may spread over idle servers
    stay_s: float | None = None  # that the job itself is served, where a server takes several at once; else service_s
    visits: tuple[Visit | None, ...] = ()

    @property
    def load(self) -> float:
        """Share of the servers' time that is taken."""
        return self.rate * self.service_s / self.servers if self.servers else math.inf


def erlang_c(offered: float, servers: int) -> float:
    """Chance that a job has to wait, `offered` = rate x seconds."""
    if offered >= servers:
        return 1.0
    blocked = 1.0
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return servers * blocked / (servers - offered * (1 - blocked))


def wait(station: Station) -> tuple[float, float]:
    """Mean and variance of the seconds until a job has a server; infinite where it is overloaded."""
    if station.rate == 0:
        return 0.0, 0.0
    if station.load >= 1:
        return math.inf, math.inf
    offered = station.rate * station.service_s
    waits = erlang_c(offered, station.servers)
    spread = (1 + station.cv**2) / 2
    given = station.service_s * spread / (station.servers - offered)  # of one that waits
    mean = waits * given
    return mean, waits * 2 * given**2 - mean**2


def sojourn(stations: Sequence[Station], kind: int = 0) -> tuple[float, float]:
    """Mean and variance of the seconds that a job of a kind takes through all of them."""
    mean = variance = 0.0
    for station in stations:
        own = station.visits[kind] if station.visits else station
        if own is None:
            continue
        waited, waited_variance = wait(station)
        served_s = station.service_s if own.stay_s is None else own.stay_s
        alone_s = served_s / max(1, min(own.parts, _idle(station)))
        mean += waited + alone_s
        variance += waited_variance + (own.cv * alone_s) ** 2
    return mean, variance


def kinds_of(stations: Sequence[Station]) -> range:
    """The kinds of jobs that pass them."""
    return range(max((len(station.visits) for station in stations), default=0) or 1)


def percentile(stations: Sequence[Station], share: float = 0.95) -> float:
    """Seconds within which that share of jobs is done, of each kind."""
    return max(percentile_of(*sojourn(stations, kind), share) for kind in kinds_of(stations))


def percentile_of(mean: float, variance: float, share: float = 0.95) -> float:
    """The same, of a job's seconds by their mean and variance."""
    if math.isinf(mean):
        return math.inf
    if variance <= 1e-12 * mean**2:
        return mean
    return float(gammaincinv(mean**2 / variance, share) * variance / mean)


def _idle(station: Station) -> int:
    """Servers that are idle on average: what a lone job finds to spread over; with load, one."""
    return max(1, int(station.servers * (1 - station.load)))
