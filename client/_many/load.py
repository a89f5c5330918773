"""An open-loop load: requests at Poisson times that do not wait for one another, and what each of them took.

A slow server does not slow the sender down, and every latency counts from the time at which the request was meant to be
sent: what piles up before the server is measured, not hidden. `Load` takes an `AsyncClient`, `send_openly` an address;
both give `Shot`s. `Summary` is pure.
"""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import httpx

from .._core.async_client import AsyncClient
from .._core.job_options import CreateOptions
from ..errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    InvalidArgumentError,
    MagicVideoError,
    VideoFailedError,
    WaitTimeoutError,
)

MAX_SHOTS = 1_000_000
QUANTILES = (0.5, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Shot:
    """One request. Seconds: `intended_s` and `sent_s` since the start, the others since `intended_s`."""

    number: int
    intended_s: float
    sent_s: float
    accepted_s: float | None = None
    completed_s: float | None = None
    outcome: str = "ok"
    id: str | None = None


@dataclass(frozen=True)
class Latency:
    """Percentiles of some seconds."""

    count: int
    quantiles: Mapping[float, float]
    longest_s: float


@dataclass(frozen=True)
class Summary:
    """What a load says in the end."""

    sent: int
    accepted: Latency | None
    completed: Latency | None
    late: Latency | None  # how long after its intended time a request was sent: this machine could not keep up
    outcomes: Mapping[str, int]


def arrivals(rate: float, duration_s: float, chance: random.Random) -> list[float]:
    """Seconds since the start at which requests are to be sent: a Poisson process of `rate` a second.

    Raises:
        InvalidArgumentError: no such process, or more than a million requests.
    """
    for name, value in (("rate", rate), ("duration", duration_s)):
        if not (math.isfinite(value) and value > 0):
            raise InvalidArgumentError(f"--{name} is {value:g}; it must be above 0.")
    if rate * duration_s > MAX_SHOTS:
        raise InvalidArgumentError(
            f"--rate {rate:g} for {duration_s:g} s makes {rate * duration_s:.0f} requests; the most is {MAX_SHOTS}."
        )
    times: list[float] = []
    at = chance.expovariate(rate)
    while at < duration_s:
        times.append(at)
        at += chance.expovariate(rate)
    return times


def quantile(values: list[float], share: float) -> float:
    """By linear interpolation between the two nearest of the sorted `values`."""
    at = share * (len(values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def latency(values: Iterable[float | None]) -> Latency | None:
    """Of those that are known; None without any."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    return Latency(len(known), {share: quantile(known, share) for share in QUANTILES}, known[-1])


def summary(shots: list[Shot]) -> Summary:
    """The percentiles and the outcomes."""
    return Summary(
        len(shots),
        latency(shot.accepted_s for shot in shots),
        latency(shot.completed_s for shot in shots),
        latency(shot.sent_s - shot.intended_s for shot in shots),
        dict(Counter(shot.outcome for shot in shots).most_common()),
    )


class Load:
    """Sends at the times given."""

    def __init__(
        self,
        sender: AsyncClient,
        waiter: AsyncClient | None,
        *,
        timeout_s: float,
        on_shot: Callable[[Shot], object] = lambda shot: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`sender` must not retry: a refusal is a result. Without a `waiter` a shot ends when its job is accepted."""
        self._sender, self._waiter, self._timeout_s = sender, waiter, timeout_s
        self._on_shot, self._clock, self._sleep = on_shot, clock, sleep

    async def run(
        self,
        times: Sequence[float],
        prompt: str,
        options: CreateOptions | Callable[[int], CreateOptions],
        *,
        cancels: Mapping[int, float] | None = None,
        start: float | None = None,
    ) -> list[Shot]:
        """A shot for each time, in their order.

        Args:
            times: seconds since the start, in order.
            options: of every request, or what gives them by its number; the first is 1.
            cancels: seconds since the start at which a request is given up, by its number.
            start: the clock's time that counts as 0; now, if left out.
        """
        start = self._clock() if start is None else start

        async def fire(number: int, at: float) -> Shot:
            shot = Shot(number, at, self._clock() - start)
            shot = await self._follow(shot, start + at, prompt, options(number) if callable(options) else options)
            if shot.id is not None and cancels and number in cancels:
                await self._sleep(max(0.0, start + cancels[number] - self._clock()))
                with suppress(MagicVideoError):  # it has ended meanwhile
                    await self._sender.videos.cancel(shot.id)
            self._on_shot(shot)
            return shot

        async with asyncio.TaskGroup() as group:
            tasks: list[asyncio.Task[Shot]] = []
            for number, at in enumerate(times, start=1):
                await self._sleep(max(0.0, start + at - self._clock()))
                tasks.append(group.create_task(fire(number, at)))
        return [task.result() for task in tasks]

    async def _follow(self, shot: Shot, meant: float, prompt: str, options: CreateOptions) -> Shot:
        try:
            video = await self._sender.videos.create(prompt, **options)
            shot = replace(shot, id=video.id, accepted_s=self._clock() - meant)
            if self._waiter is not None:
                await self._waiter.videos.wait(video.id, timeout_s=self._timeout_s)
                shot = replace(shot, completed_s=self._clock() - meant)
        except MagicVideoError as error:
            return replace(shot, outcome=outcome_of(error))
        return shot


async def send_openly(
    url: str,
    times: Sequence[float],
    prompt: str,
    options: Callable[[int], CreateOptions],
    *,
    start: float,
    cancels: Mapping[int, float] | None = None,
) -> list[Shot]:
    """A shot for each time, over as many connections as that takes; returns once all are answered.

    Args:
        options: those of a request by its number; the first is 1.
        start: the moment that counts as 0, in seconds since the epoch.
        cancels: as for `Load.run`.
    """
    limits = httpx.Limits(max_connections=None)  # a bound would make requests wait for earlier ones
    async with AsyncClient(url, max_retries=0, transport=httpx.AsyncHTTPTransport(limits=limits)) as sender:
        load = Load(sender, None, timeout_s=0.0, clock=time.time)
        return await load.run(times, prompt, options, cancels=cancels, start=start)


def outcome_of(error: MagicVideoError) -> str:
    """A short name by which errors can be counted."""
    match error:
        case APIStatusError():
            return f"{error.status} {error.code or error.type}"
        case VideoFailedError():
            return f"failed {error.video.error.code if error.video.error else 'without a reason'}"
        case WaitTimeoutError():
            return "not completed in time"
        case APITimeoutError():
            return "no answer in time"
        case APIConnectionError():
            return "no connection"
    return type(error).__name__
