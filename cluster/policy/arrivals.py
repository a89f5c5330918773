"""How fast jobs arrive: fed one arrival at a time, read as a rate and its trend.

Takes moments in seconds of any one clock. Imports the standard library only; knows nothing of policies, which take what
is read here.
"""

import math
from collections import deque


class ArrivalMeter:
    """The steady rate of arrivals over the last `window_s` seconds, and its trend.

    A burst is a backlog, which a policy sees by itself, and no reason to expect more of it. So the window is cut into
    bins about as long as the mean gap, and the rate is what a Poisson stream would need to leave as many of them empty;
    a bin with forty arrivals counts like a bin with one. The trend compares the two halves of the window, and is given
    only where they differ by more than twice the noise of a Poisson count.
    """

    def __init__(self, window_s: float = 300.0) -> None:
        self._window_s = window_s
        self._times: deque[float] = deque()
        self._first_s: float | None = None

    def add(self, at_s: float) -> None:
        """A job has arrived."""
        if self._first_s is None:
            self._first_s = at_s
        self._times.append(at_s)

    def read(self, now_s: float) -> tuple[float, float]:
        """Arrivals per second, and how fast that grows, per second squared."""
        while self._times and self._times[0] <= now_s - self._window_s:
            self._times.popleft()
        if self._first_s is None or not self._times:
            return 0.0, 0.0
        # A meter that has just begun divides by no less than a quarter of the window: one arrival is no rate.
        span_s = min(self._window_s, max(now_s - self._first_s, self._window_s / 4))
        ages = [now_s - time for time in self._times]
        rate = _steady_rate(ages, span_s)
        half_s = span_s / 2
        late = _steady_rate([age for age in ages if age < half_s], half_s)
        early = _steady_rate([age - half_s for age in ages if age >= half_s], half_s)
        noise = 2 * (rate / half_s) ** 0.5  # of the difference of two Poisson counts, as a rate, about 1.4 times
        known = now_s - self._first_s >= self._window_s and abs(late - early) > 1.4 * noise
        return rate, (late - early) / half_s if known else 0.0


def _steady_rate(ages: list[float], span_s: float) -> float:
    """Arrivals per second that leave as many bins empty as these do."""
    if not ages:
        return 0.0
    bins = max(1, len(ages))
    taken = len({min(bins - 1, int(age / span_s * bins)) for age in ages})
    if taken == bins:
        return len(ages) / span_s
    return min(len(ages), -bins * math.log(1 - taken / bins)) / span_s
