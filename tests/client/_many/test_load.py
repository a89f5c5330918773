"""The load generator: arrivals, percentiles, and that a slow answer delays no later request."""

import asyncio
import csv
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from client import AsyncClient, InvalidArgumentError, send_openly
from client._many.load import Load, Shot, arrivals, latency, quantile, summary
from client.schema import JobError
from cluster.server_process import free_port
from tests.client.shell import Shell
from tests.client.wire import Fault, Wire

CREATE = "POST /v1/videos$"


class Clock:
    """Time that moves from one sleeper to the next as soon as nothing else can run."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, woken))
        await woken

    async def run(self, work: Awaitable[Any]) -> Any:
        task = asyncio.ensure_future(work)
        while not task.done():
            for _ in range(50):  # let all that can run come to its next pause
                await asyncio.sleep(0)
            if task.done() or not self._sleepers:
                continue
            self._sleepers.sort(key=lambda sleeper: sleeper[0])
            self.now, woken = self._sleepers.pop(0)
            woken.set_result(None)
        return task.result()


def answering(clock: Clock, takes: Callable[[int], float]) -> httpx.MockTransport:
    """A server that takes so long for the n-th request."""
    count = 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        await clock.sleep(takes(count))
        body = {"id": f"video_{count}", "model": "tiny", "status": "completed", "progress": 100, "created_at": 1}
        return httpx.Response(200, json={**body, "prompt": "a fox", "seconds": "2", "size": "256x256", "seed": 1})

    return httpx.MockTransport(answer)


def test_arrivals_are_a_poisson_process() -> None:
    times = arrivals(50.0, 200.0, random.Random(7))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 200
    assert mean == pytest.approx(1 / 50, rel=0.03)
    assert variance == pytest.approx(mean**2, rel=0.1)  # what an exponential distribution has
    assert times == arrivals(50.0, 200.0, random.Random(7))
    assert arrivals(0.001, 0.001, random.Random(7)) == []


@pytest.mark.parametrize(("rate", "duration"), [(0, 1), (1, -1), (float("nan"), 1), (1, float("inf")), (1e5, 1e5)])
def test_impossible_loads_are_refused(rate: float, duration: float) -> None:
    with pytest.raises(InvalidArgumentError, match=r"--(rate|duration)"):
        arrivals(rate, duration, random.Random(7))


def test_percentiles_interpolate() -> None:
    assert [quantile([1.0, 2.0, 3.0, 4.0, 5.0], share) for share in (0, 0.25, 0.5, 0.9, 1)] == [1, 2, 3, 4.6, 5]
    assert quantile([7.0], 0.99) == 7.0
    assert latency([None, None]) is None
    found = latency([3.0, None, 1.0, 2.0])
    assert found is not None
    assert (found.count, found.quantiles[0.5], found.longest_s) == (3, 2.0, 3.0)


async def test_a_slow_answer_delays_no_later_request() -> None:
    clock = Clock()
    times = [1.0, 2.0, 3.0, 4.0]
    async with AsyncClient(
        "http://server", max_retries=0, transport=answering(clock, lambda number: 100.0 if number == 1 else 0.5)
    ) as sender:
        load = Load(sender, None, timeout_s=60, clock=clock.time, sleep=clock.sleep)
        shots: list[Shot] = await clock.run(load.run(times, "a fox", {}))
    assert [(shot.intended_s, shot.sent_s) for shot in shots] == [(at, at) for at in times]
    assert [shot.accepted_s for shot in shots] == [100.0, 0.5, 0.5, 0.5]


async def test_latency_counts_from_the_intended_time() -> None:
    """Where this machine sends too late, the delay is in the latency, and told."""
    clock = Clock()

    async def late(seconds: float) -> None:
        await clock.sleep(seconds + 2.0)

    async with AsyncClient("http://server", transport=answering(clock, lambda number: 0.5)) as sender:
        load = Load(sender, sender, timeout_s=60, clock=clock.time, sleep=late)
        (shot,) = await clock.run(load.run([1.0], "a fox", {}))
    assert (shot.sent_s, shot.accepted_s, shot.completed_s) == (3.0, 2.5, 3.0)
    found = summary([shot]).late
    assert found is not None
    assert found.longest_s == 2.0


@pytest.mark.slow
def test_load_prints_percentiles_and_writes_a_line_a_request(shell: Shell, wire: Wire) -> None:
    wire.standin.ticks = 1
    assert shell("load", "--rate", "40", "--duration", "0.5", "--out", "load.csv", "-q", "--steps", "4") == 0
    with Path("load.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert 5 < len(rows) == len(wire.jobs) < 60
    assert {row["outcome"] for row in rows} == {"ok"}
    assert [row["number"] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
    assert all(0 < float(row["accepted_s"]) < float(row["completed_s"]) for row in rows)
    assert all(float(row["intended_s"]) <= float(row["sent_s"]) for row in rows)
    assert wire.said == {"prompt": "a fox in a snowy forest at dusk", "steps": 4}
    table = [line.split() for line in shell.out.splitlines()]
    assert table[0] == ["seconds", "until", "count", "p50", "p90", "p95", "p99", "longest"]
    assert [line[0] for line in table] == ["seconds", "accepted", "completed", "sent", "outcome", "ok"]
    assert table[1][1] == table[2][1] == str(len(rows))


def test_errors_are_counted_by_their_codes_and_nothing_is_sent_twice(shell: Shell, wire: Wire) -> None:
    wire.standin.ticks = 1
    wire.faults = [Fault(CREATE, status=429, headers={"retry-after": "1"}), Fault(CREATE, cut_after=5)]
    wire.standin.error = JobError(code="out_of_memory", message="V2V needs 3 GiB more.")
    assert shell("load", "--rate", "30", "--duration", "0.4", "--json", "-q") == 0
    outcomes = shell.document["outcomes"]
    assert (outcomes["429 fault"], outcomes["no connection"]) == (1, 1)
    assert outcomes["failed out_of_memory"] == shell.document["sent"] - 2
    assert wire.count(CREATE) == shell.document["sent"]
    assert shell.document["accepted"]["count"] == shell.document["sent"] - 2
    assert shell.document["completed"] is None


def test_acceptance_alone_and_jobs_that_are_cancelled_at_the_end(shell: Shell, wire: Wire) -> None:
    wire.standin.ticks = 1_000_000
    assert shell("load", "--rate", "20", "--duration", "0.4", "--accept-only", "--cancel", "--json", "-q") == 0
    assert wire.count("GET") == 0
    assert shell.document["accepted"]["count"] == len(wire.jobs) > 0
    assert {job.error for job in wire.jobs} == {JobError(code="cancelled", message="The job was cancelled.")}


def test_a_job_that_takes_too_long_is_given_up(shell: Shell, wire: Wire) -> None:
    wire.standin.ticks = 1_000_000
    assert shell("load", "--rate", "20", "--duration", "0.3", "--timeout", "0.05", "--json", "-q") == 0
    assert list(shell.document["outcomes"]) == ["not completed in time"]


def test_no_server_is_3(shell: Shell) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    assert shell("load", "--rate", "20", "--duration", "0.3", "-q", url=nobody) == 3
    assert "no connection" in shell.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "1"], "Missing option '--duration'"),
        (["--rate", "0", "--duration", "1"], "--rate is 0; it must be above 0."),
        (["--rate", "1", "--duration", "1", "--out", "absent/load.csv"], "There is no folder absent for load.csv"),
        (["--rate", "9", "--duration", "1", "--url", "host"], "is not a server's address"),
        (["--rate", "9", "--duration", "1", "--prompt", "a\ud800"], "prompt holds signs that are not UTF-8"),
        (["--rate", "9", "--duration", "1", "--until", "end"], "Invalid value for '--until'"),
    ],
)
def test_wrong_usage_is_2_and_reaches_no_server(shell: Shell, wire: Wire, words: list[str], message: str) -> None:
    assert shell("load", *words) == 2
    assert message in shell.err
    assert wire.seen == []


async def test_requests_have_options_by_their_numbers_and_are_given_up_at_the_intended_times(wire: Wire) -> None:
    wire.standin.ticks = 1_000_000
    wire.faults = [Fault(CREATE, status=429)]
    start = time.time()
    shots = await send_openly(
        wire.url, [0.0, 0.3, 0.4], "a fox", lambda number: {"seed": 10 * number}, start=start, cancels={2: 0.5}
    )
    assert [shot.outcome for shot in shots] == ["429 fault", "ok", "ok"]
    refused, cancelled, kept = shots
    assert refused.id is None
    assert [shot.accepted_s is not None for shot in shots] == [False, True, True]
    assert {job.request.seed for job in wire.jobs} == {20, 30}
    assert time.time() >= start + 0.5
    assert {job.id: job.state for job in wire.jobs} == {cancelled.id: "cancelled", kept.id: "queued"}
