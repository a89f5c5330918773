"""Jobs survive anything: `python -m benchmarks.durability [--quick]`.

The real server (HTTP, journal on PostgreSQL, pipeline, keeper, encoder; stages replayed, so that they need no GPU)
takes 200 jobs while every two seconds one random process of it dies by SIGKILL: a stage's replica, the keeper, the
pipeline, the ingress, the proxy, and at least twice everything at once, after which the server is started again on the
same data. At shares of the jobs PostgreSQL crashes and recovers, a process is stopped by SIGSTOP for longer than a
lease, and the raylet dies, after which the server ends by itself and is started again.
Most jobs run through; some end early, pause and are continued, are remixes of others, or are cancelled on purpose.
Each is posted with an idempotency key until it is accepted. Afterwards the journal tells:

    lost            accepted jobs that did not end, or did not end as they should have
    finished_twice  jobs with more than one end
    stages_rerun    outputs that were safe, and were computed again
    made_twice      jobs over the number of keys
    wrong_bytes     results that are not in the store, or not as the journal recorded them
    orphan_files    files that no row names, after the sweep
    kills           processes killed; killing everything counts as one
    recovery_s      median seconds from a kill to the next output of what was killed, or of any stage where that
                    computes nothing itself (of the keeper: to the next output that is safe)
    recomputed_s    seconds of I2V that were computed again, of four films of eight seconds whose replica is killed
                    after six, on a server of their own whose calls give their state every second
    recomputed_without_s   the same without states
    waste_ratio     seconds of outputs that were computed again, over those of first outputs; what a kill cut off in the
                    middle of a call is in neither

About eight minutes. `--quick` makes 10 jobs and no films; PostgreSQL crashes once, one process is stopped and all die
once.
"""

import _thread
import itertools
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import httpx

from benchmarks.tools.chaos import (
    ALL,
    FROZEN,
    KINDS,
    POSTGRES,
    RAYLET,
    Kill,
    Target,
    crash_postgres,
    stand_in_config,
)
from benchmarks.tools.films import recomputed
from benchmarks.tools.ledger import Ledger, read, recovery_s, reran
from benchmarks.tools.leftovers import orphan_files, wrong_bytes
from benchmarks.tools.result import parser_of, result
from client import Client, Video
from client.errors import (
    APIConnectionError,
    ConflictError,
    NotFoundError,
    RateLimitError,
    ServerError,
    UnexpectedResponseError,
)
from deployments.files.store import ArtifactStore
from deployments.jobs.values import FINAL, Event, Job
from deployments.journal.database import DATABASE_AWAY, Database
from deployments.journal.journal import Journal
from deployments.settings.application import StorageArgs
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop
from stages.replay import ReplayProfile
from stages.types import StageName

T = TypeVar("T")
Troubles = Sequence[tuple[float, str]]  # a share of the jobs, and what happens once so many of them have ended

PROFILES: dict[StageName, ReplayProfile] = {
    "t2i": ReplayProfile(run_s=0.1, bytes_out=1_000_000),
    "i2v": ReplayProfile(run_s=0.2, bytes_out=3_000_000),
    "v2v": ReplayProfile(run_s=0.4, bytes_out=9_000_000),
    "vfi": ReplayProfile(run_s=0.05, bytes_out=600_000),
}
LEASE_S = 3.0
KILL_EVERY_S = 2.0
AT: Troubles = ((0.1, POSTGRES), (0.2, RAYLET), (0.3, ALL), (0.4, FROZEN), (0.6, ALL), (0.7, POSTGRES), (0.8, FROZEN))
QUICK_AT: Troubles = ((0.1, POSTGRES), (0.3, FROZEN), (0.5, ALL))
FROZEN_S = 2 * LEASE_S
ENDS_S = 120.0  # within which a server without its raylet has ended
IN_FLIGHT = 24  # jobs that wait or run at once, so that some are posted all the time
POLL_S, REQUEST_S = 0.25, 5.0
DEADLINE_S = 3600.0
STATES = {"recomputed_s": 1.0, "recomputed_without_s": 0.0}  # how often a call gives its state
PROMPT = "a fox in a snowy forest at dusk"


@dataclass
class Run:
    """What is known while it runs."""

    accepted: dict[str, str] = field(default_factory=dict)  # id of the job by key
    cancelled: set[str] = field(default_factory=set)
    kills: list[Kill] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)  # when the ingress was asked and did answer
    over: threading.Event = field(default_factory=threading.Event)


def main(arguments: list[str] | None = None) -> None:
    from tests.postgres import new_database

    parser = parser_of("durability", __doc__, quick="10 jobs instead of 200")
    quick = parser.parse_args(arguments).quick
    jobs, troubles = (10, QUICK_AT) if quick else (200, AT)
    with tempfile.TemporaryDirectory(prefix="mvd-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        config = stand_in_config(folder / "config.yaml", PROFILES, LEASE_S)
        url = new_database(durable=True)
        journal = Journal(Database(url))
        try:
            with Target(config, folder / "data", folder, database_url=url) as target:
                run = survive(target, journal, jobs, url, troubles)
            films = {
                name: recomputed(folder / name, PROFILES, LEASE_S, every_s)
                for name, every_s in STATES.items()
                if not quick
            }
            report(run, journal, url, find_store(folder / "data"), films)
        finally:
            journal.database.close()


def find_store(data_dir: Path) -> str:
    """Where the server of that `--data-dir` keeps files."""
    return laptop(load_config(), data_dir=data_dir).storage.artifacts_url


def survive(target: Target, journal: Journal, jobs: int, database_url: str, troubles: Troubles) -> Run:
    """All jobs through all kills."""
    run = Run()
    helpers = [
        threading.Thread(
            target=kill_on_and_on, args=(target, journal, run, jobs, database_url, troubles), name="killer"
        ),
        threading.Thread(target=ask_on_and_on, args=(target.url, run), name="prober"),
    ]
    for helper in helpers:
        helper.start()
    try:
        with Client(target.url, timeout_s=REQUEST_S) as client:
            post_all(Customer(client, run), journal, run, jobs)
            wait_all(Customer(client, run), journal)
    finally:
        run.over.set()
        for helper in helpers:
            helper.join()
    return run


class Customer:
    """Asks until it is answered, always with the same key."""

    def __init__(self, client: Client, run: Run) -> None:
        self._videos, self._run = client.videos, run

    def create(
        self, number: int, *, until: StageName | None = None, pause_after: Literal["t2i", "v2v"] | None = None
    ) -> str:
        """The id of the new job."""
        key = f"job-{number}"
        return self._new(
            key,
            lambda: self._videos.create(PROMPT, seed=number, until=until, pause_after=pause_after, idempotency_key=key),
        )

    def remix(self, number: int, parent: str) -> str:
        """The id of a job that takes the first two stages' outputs of another one."""
        key = f"job-{number}"
        return self._new(key, lambda: self._videos.remix(parent, from_stage="v2v", seed=number, idempotency_key=key))

    def cancel(self, video_id: str) -> None:
        with suppress(ConflictError):  # it has ended, or an earlier answer was lost
            until_answered(lambda: self._videos.cancel(video_id))

    def go_on(self, video_id: str) -> None:
        with suppress(ConflictError):  # it goes on already: an earlier answer was lost
            until_answered(lambda: self._videos.continue_(video_id))

    def _new(self, key: str, ask: Callable[[], Video]) -> str:
        job_id = until_answered(ask).id
        if self._run.accepted.setdefault(key, job_id) != job_id:
            raise RuntimeError(f"The key {key} has made {self._run.accepted[key]} and {job_id}.")
        return job_id


def until_answered(ask: Callable[[], Video]) -> Video:
    """The first answer that is about the request, and not about the server's own state."""
    while True:
        try:
            return ask()
        except (APIConnectionError, UnexpectedResponseError, ServerError, RateLimitError):
            time.sleep(POLL_S)
        except NotFoundError as error:
            if error.code == "video_not_found":  # and not Ray Serve's proxy, which knows no route yet
                raise
            time.sleep(POLL_S)


def post_all(customer: Customer, journal: Journal, run: Run, jobs: int) -> None:
    """The mix, `IN_FLIGHT` at once."""
    for number in range(jobs):
        while unfinished(journal) >= IN_FLIGHT:
            continue_paused(customer, journal)
            time.sleep(POLL_S)
        kind = number % 10
        if kind == 5:
            customer.create(number, until="i2v")
        elif kind == 6:
            customer.create(number, pause_after="t2i")
        elif kind == 7:
            customer.create(number, pause_after="v2v")
        elif kind == 8:
            run.cancelled.add(job_id := customer.create(number))
            customer.cancel(job_id)
        elif kind == 9 and (parent := a_finished(journal)) is not None:
            customer.remix(number, parent)
        else:
            customer.create(number)


def looked_up(look: Callable[[], T]) -> T:
    """Once the database answers."""
    while True:
        try:
            return look()
        except DATABASE_AWAY:
            time.sleep(POLL_S)


def unfinished(journal: Journal) -> int:
    return sum(count for state, count in looked_up(journal.counts).items() if state not in FINAL)


def a_finished(journal: Journal) -> str | None:
    """A job that has ended with a video of all stages."""
    whole = [job.id for job in all_jobs(journal) if job.state == "succeeded" and job.request.until == "vfi"]
    return random.choice(whole) if whole else None


def all_jobs(journal: Journal) -> list[Job]:
    return looked_up(lambda: journal.page(limit=10_000, order="asc"))[0]


def continue_paused(customer: Customer, journal: Journal) -> None:
    for job in all_jobs(journal) if looked_up(journal.counts).get("paused") else ():
        if job.state == "paused":
            customer.go_on(job.id)


def wait_all(customer: Customer, journal: Journal) -> None:
    """Until every job has ended; what has not by the deadline is lost."""
    end = time.monotonic() + DEADLINE_S
    while unfinished(journal) and time.monotonic() < end:
        continue_paused(customer, journal)
        time.sleep(POLL_S)


def kill_on_and_on(
    target: Target, journal: Journal, run: Run, jobs: int, database_url: str, troubles: Troubles
) -> None:
    """A random process every two seconds, and the troubles. Without a server the run is over."""
    try:
        _kill_on_and_on(target, journal, run, jobs, database_url, troubles)
    except BaseException:
        _thread.interrupt_main()
        raise


def _kill_on_and_on(
    target: Target, journal: Journal, run: Run, jobs: int, database_url: str, troubles: Troubles
) -> None:
    left = list(troubles)
    began = time.monotonic()
    while not run.over.wait(KILL_EVERY_S):
        ended = sum(count for state, count in looked_up(journal.counts).items() if state in FINAL)
        if left and ended >= left[0][0] * jobs:
            _, what = left.pop(0)
            if what == POSTGRES:
                kill: Kill | None = crash_postgres(database_url)
            elif what == FROZEN:
                kill = target.freeze(random.choice(target.present()), lambda: run.over.wait(FROZEN_S))
            else:
                kill = target.kill(what)
            told(run, began, ended, kill)
            if what == RAYLET and not target.ended(ENDS_S):
                raise RuntimeError(f"The server without its raylet has not ended within {ENDS_S:g} s.")
            if what in (RAYLET, ALL):
                target.start()
        elif not target.alive():
            raise RuntimeError("The server ended by itself.")
        elif present := target.present():
            told(run, began, ended, target.kill(random.choice(present)))


def told(run: Run, began: float, ended: int, kill: Kill | None) -> None:
    if kill is not None:
        run.kills.append(kill)
        print(f"{time.monotonic() - began:7.1f} s  {ended:>4} jobs ended  killed {kill.kind}", flush=True)


def ask_on_and_on(url: str, run: Run) -> None:
    """Note when the ingress answers."""
    with httpx.Client(base_url=url, timeout=REQUEST_S) as http:
        while not run.over.wait(POLL_S):
            asked = time.time()
            try:
                if http.get("/v1/videos", params={"limit": 1}).status_code == 200:
                    run.answered.append(asked)
            except httpx.TransportError:
                continue


def report(run: Run, journal: Journal, database_url: str, artifacts_url: str, films: Mapping[str, float]) -> None:
    """The table and the figures."""
    jobs = {job.id: job for job in all_jobs(journal)}
    events = {job_id: journal.events(job_id) for job_id in jobs}
    by_time = sorted(itertools.chain.from_iterable(events.values()), key=lambda event: event.at)
    ledger = read(run.accepted.values(), run.cancelled, jobs, events)
    recoveries = print_table(run, by_time)
    for job_id in run.accepted.values():
        if reran(events.get(job_id, ())):
            print(f"{job_id}: " + "; ".join(f"{e.at:.1f} {e.kind} {e.data}" for e in events[job_id]))
        if job_id not in jobs or jobs[job_id].state not in ("succeeded", "cancelled"):
            job = jobs.get(job_id)
            print(f"{job_id}: {job.state if job else 'absent'} {job.error if job else ''}")
    storage = StorageArgs(database_url=database_url, artifacts_url=artifacts_url)
    before, orphans = orphan_files(journal.database, storage)
    print(f"{before} files that no row names before the sweep, {orphans} after it")
    damage = {"wrong_bytes": wrong_bytes(jobs.values(), ArtifactStore(artifacts_url)), "orphan_files": orphans}
    result("durability", {**figures(ledger, run, len(jobs), recoveries), **damage, **films})


def figures(ledger: Ledger, run: Run, jobs: int, recoveries: Sequence[float]) -> dict[str, float | int | None]:
    return {
        "lost": ledger.lost,
        "finished_twice": ledger.finished_twice,
        "stages_rerun": ledger.stages_rerun,
        "made_twice": jobs - len(run.accepted),
        "kills": len(run.kills),
        "recovery_s": statistics.median(recoveries) if recoveries else None,
        "waste_ratio": ledger.waste_ratio,
    }


def print_table(run: Run, by_time: Sequence[Event]) -> list[float]:
    """A line for each kind of process; gives all recoveries."""
    print(f"{'killed':<10}{'times':>6}{'median s to the next output':>30}{'longest':>10}{'HTTP back, median s':>22}")
    every: list[float] = []
    for kind in (*KINDS, FROZEN, RAYLET, POSTGRES, ALL):
        kills = [kill for kill in run.kills if kill.kind == kind]
        own = [seconds for kill in kills if (seconds := recovery_s(kill, by_time)) is not None]
        back = [next((at - kill.at for at in run.answered if at > kill.at), None) for kill in kills]
        http = [seconds for seconds in back if seconds is not None]
        every += own
        print(f"{kind:<10}{len(kills):>6}{middle(own):>30}{longest(own):>10}{middle(http):>22}")
    return every


def middle(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}" if values else "-"


def longest(values: Sequence[float]) -> str:
    return f"{max(values):.2f}" if values else "-"


if __name__ == "__main__":
    main()
