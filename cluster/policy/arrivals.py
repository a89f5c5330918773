"""How fast jobs arrive, and which stages they pass: fed one arrival at a time, read as a rate, its trend, and shares.

Takes moments in seconds of any one clock. Knows nothing of policies, which take what is read here.
"""

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

_ROOM = 256  # arrivals, at least
_REMEMBERED = 50  # jobs, about


class ArrivalMeter:
    """The steady rate of arrivals over the last `window_s` seconds, and its trend.

    A burst is a backlog, which a policy sees by itself, and no reason to expect more of it. So the window is cut into
    bins about as long as the mean gap, and the rate is what a Poisson stream would need to leave as many of them empty;
    a bin with forty arrivals counts like a bin with one. The trend compares the two halves of the window, and is given
    only where they differ by more than twice the noise of a Poisson count.
    """

    def __init__(self, window_s: float = 300.0) -> None:
        self._window_s = window_s
        self._times = np.empty(_ROOM)
        self._begin = self._end = 0  # of those that count
        self._first_s: float | None = None

    def add(self, at_s: float) -> None:
        """A job has arrived."""
        if self._first_s is None:
            self._first_s = at_s
        if self._end == len(self._times):
            kept = self._times[self._begin : self._end]
            self._times = np.concatenate([kept, np.empty(max(_ROOM, len(kept)))])
            self._begin, self._end = 0, len(kept)
        self._times[self._end] = at_s
        self._end += 1

    def read(self, now_s: float) -> tuple[float, float]:
        """Arrivals per second, and how fast that grows, per second squared."""
        while self._begin < self._end and self._times[self._begin] <= now_s - self._window_s:
            self._begin += 1
        if self._first_s is None or self._begin == self._end:
            return 0.0, 0.0
        # The first arrival of all is taken for one of a stream: a start-up takes longer than to know better.
        life_s = now_s - self._first_s
        span_s = min(self._window_s, max(life_s, self._window_s / 20))
        ages = now_s - self._times[self._begin : self._end]
        rate = _steady_rate(ages, span_s)
        half_s = span_s / 2
        late = _steady_rate(ages[ages < half_s], half_s)
        early = _steady_rate(ages[ages >= half_s] - half_s, half_s)
        noise = 2 * (rate / half_s) ** 0.5  # of the difference of two Poisson counts, as a rate, about 1.4 times
        known = life_s >= 0.4 * self._window_s and abs(late - early) > 1.4 * noise
        return rate, (late - early) / half_s if known else 0.0


def _steady_rate(ages: NDArray[np.float64], span_s: float) -> float:
    """Arrivals per second that leave as many bins empty as these do."""
    bins = len(ages)
    if not bins:
        return 0.0
    full = np.zeros(bins, dtype=bool)
    full[np.minimum(bins - 1, (ages / span_s * bins).astype(np.int64))] = True
    taken = int(np.count_nonzero(full))
    if taken == bins:
        return bins / span_s
    return min(bins, -bins * math.log(1 - taken / bins)) / span_s


class PathMeter:
    """Of the jobs that arrive, the share that passes each stage; of the last fifty or so."""

    def __init__(self, stages: Sequence[str]) -> None:
        self._shares = dict.fromkeys(stages, 1.0)
        self._seen = 0

    def add(self, passed: Collection[str]) -> None:
        """A job that these stages compute for."""
        self._seen += 1
        weight = 1 / min(self._seen, _REMEMBERED)
        for name, share in self._shares.items():
            self._shares[name] = share + weight * ((name in passed) - share)

    def read(self, stage: str) -> float:
        """From 0 to 1; 1 as long as nobody has come."""
        return self._shares[stage]
