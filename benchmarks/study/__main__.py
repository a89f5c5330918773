"""What a study says is true, and no vote is lost: `python -m benchmarks.study [--quick]`.

The paper's table is computed anew; simulated crowds of 61 raters and 500 pairs (each rater votes on 100), six of whom
do not look, vote as a known preference says, and as none; then 50 raters vote at once on one server, which is killed
in between and started again. No Ray, no GPU, no person. Figures:

    ratio_error          the largest difference from the five ratios that the paper prints
    recovered_of_100     crowds whose known preference lies in its interval of 95 %
    null_kept_of_100     crowds without a preference of which the study says "no difference"
    spammers_found       share of raters who do not look that the plan's rule leaves out
    others_left_out      share of those who look that it leaves out too
    bootstrap_s          seconds for the results of one such study of 6,100 votes
    vote_p99_ms          of a vote until it is on the disk, while 50 raters vote about once a second each
    votes_lost           votes that were answered and are not in the journal, or are there twice

About eight minutes on two cores.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
import uvicorn
from rich.console import Console
from rich.progress import track
from sqlalchemy import insert

from benchmarks.tools.result import parser_of, result
from client.schema import Health
from client.schema_studies import CreateStudy, Criterion, Media, StudySystem, StudyVideo
from cluster.server_process import free_port
from deployments.api.ingress import create_app
from deployments.bulkheads import Bulkhead
from deployments.files.keeper import Keeper
from deployments.files.store import ArtifactStore
from deployments.jobs.values import NOBODY
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.tables import studies
from deployments.settings.application import AppArgs
from deployments.studies.book import Record
from deployments.studies.crowd import Crowd, vote_all
from deployments.studies.plan import Kept, Plan, ids_of, make_plan
from deployments.studies.results import results_of
from deployments.studies.statistics import ratio, supposed_interval
from deployments.studies.tokens import token_of
from deployments.studies.votes import RaterBook
from deployments.tenants.links import Links

PAPER: Mapping[str, tuple[tuple[int, int, int], float]] = {  # good, same, bad; and the ratio, of the paper's table
    "MoonValley": ((4099, 1242, 759), 2.67),
    "Pika 1.0": ((4263, 927, 1010), 2.68),
    "Morph": ((4129, 1230, 741), 2.72),
    "Gen-2": ((3448, 1279, 1373), 1.78),
    "SVD-XT": ((3169, 1591, 1340), 1.62),
}
PREFERENCE, NULL = (0.45, 0.25, 0.30), (0.35, 0.30, 0.35)
RATERS, PAIRS, TRIALS, SPAMMERS = 61, 500, 100, 6
FIRST_SEED = 5000  # no threshold was chosen with these
AT_ONCE, THINKING_S = 50, (0.5, 1.5)
MEDIA = Media(width=256, height=256, fps=24.0, frames=46, seconds=46 / 24, kbit_s=900)
OVERALL = [Criterion(name="overall", question="Which video is better?")]

console = Console(stderr=True)


def plan_of(raters: int, pairs: int, trials: int, seed: int) -> Plan:
    """A plan of videos that nobody has made."""
    sides = [
        StudySystem(name=name, videos=[StudyVideo(prompt=f"prompt {n}", video_id=f"{name}-{n}") for n in range(pairs)])
        for name in ("one", "two")
    ]
    asked = CreateStudy(systems=sides, criteria=OVERALL, raters=raters, trials=trials, min_watch_s=0.0)
    facts: dict[str, Any] = {"sha256": "", "size_bytes": 1, "width": 256, "height": 256, "frames": 46, "fps": 24.0}
    kept = {name: Kept(id=name, key=f"videos/{name}/1.mp4", **facts) for name in ids_of(asked)}
    return make_plan(asked, kept, seed)


def record_of(plan: Plan) -> Record:
    counts = dict.fromkeys(("prepared", "links", "votes"), 0)
    said: dict[str, Any] = {"error": None, "title": "", "instructions": "", "note": None, **counts}
    return Record("study", NOBODY, 0.0, "ready", digest=plan.digest, plan=plan, media=MEDIA, **said)


@dataclass
class Crowds:
    """What studies of simulated crowds found."""

    recovered: int = 0
    kept: int = 0
    found: int = 0
    left_out: int = 0
    seconds: list[float] = field(default_factory=list)


def crowds(count: int) -> Crowds:
    """Studies of a known preference, and as many of none."""
    made = Crowds()
    for seed in track(range(FIRST_SEED, FIRST_SEED + count), "crowds", console=console):
        plan = plan_of(RATERS, PAIRS, TRIALS, seed)
        for shares in (PREFERENCE, NULL):
            crowd = Crowd(shares, spammers=SPAMMERS, seed=seed)
            ballots, spammers = vote_all(plan, crowd)
            begun = time.perf_counter()
            results = results_of(record_of(plan), ballots)
            made.seconds.append(time.perf_counter() - begun)
            [comparison] = results.comparisons
            if shares == NULL:
                made.kept += comparison.verdict == "no difference"
                continue
            low, high = comparison.preference_interval or (1.0, 0.0)
            made.recovered += low <= crowd.expected[0] + crowd.expected[1] / 2 <= high
            out = {rater.link for rater in results.quality if rater.excluded}
            made.found += len(out & spammers)
            made.left_out += len(out - spammers)
    return made


def serve(folder: Path, port: int) -> None:
    """The application over a journal, without Ray, until it is killed."""
    journal, store = Journal(Database(f"sqlite:///{folder}/jobs.sqlite")), ArtifactStore(f"file://{folder}/artifacts")
    health = Health(status="ok", model="tiny", version="1")

    async def nudge() -> None:
        """Nobody listens."""

    app = create_app(AppArgs(), journal, store, nudge=nudge, health=lambda: health, show=Keeper(store.url).show)
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


@dataclass
class Server:
    """A process that is killed and started again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "benchmarks.study", "--serve", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@dataclass
class Load:
    """What the raters saw."""

    latencies_ms: list[float] = field(default_factory=list)
    acknowledged: list[tuple[str, int]] = field(default_factory=list)  # link, trial
    repeated: int = 0


async def rate(url: str, link_id: str, token: str, load: Load, seed: int) -> None:
    """One rater to the end of their trials. A vote that is not answered is sent again until it is."""
    chance = random.Random(seed)
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=10) as person:
        state = await insist(person, "GET", "/v1/rate", None, load)
        while (trial := state["next"]) is not None:
            await asyncio.sleep(chance.uniform(*THINKING_S))
            choice = chance.choice(state["choices"])
            body = {"trial": trial["id"], "choices": {"overall": choice}, "watched_s": 1.0}
            state = await insist(person, "POST", "/v1/rate/votes", body, load)
            load.acknowledged.append((link_id, trial["number"] - 1))


async def insist(person: httpx.AsyncClient, method: str, path: str, body: Any, load: Load) -> Any:
    first = True
    while True:
        begun = time.perf_counter()
        try:
            answer = await person.request(method, path, json=body)
        except httpx.TransportError:
            first = False
            load.repeated += 1
            await asyncio.sleep(0.2)
            continue
        answer.raise_for_status()
        if first and method == "POST":
            load.latencies_ms.append((time.perf_counter() - begun) * 1000)
        return answer.json()


async def vote_at_once(folder: Path, raters: int, trials: int) -> tuple[Load, int]:
    """All raters at once, with a kill in between; and how many votes are missing from the journal, or there twice."""
    database = Database(f"sqlite:///{folder}/jobs.sqlite")
    plan = plan_of(raters, max(trials, 4), trials, 0)
    row = {"id": "study_0", "tenant": NOBODY, "body_hash": "", "created_at": database.time(), "state": "ready"}
    said = {"title": "", "instructions": "", "plan": plan.model_dump(mode="json"), "digest": plan.digest}
    with database.write() as connection:
        connection.execute(insert(studies).values(**row, **said, media=MEDIA.model_dump()))
    book = RaterBook(database)
    links = Links(database, Bulkhead("The journal's database", threads=1, wait_s=10), lasts_s=None)
    made = {link.id: await token_of(links, link.id) for link in book.make("study_0", None, 1.0, tenant=NOBODY)}
    server, load = Server(folder, free_port()), Load()
    server.start()
    try:
        url = f"http://127.0.0.1:{server.port}"
        people = [rate(url, link_id, token, load, n) for n, (link_id, token) in enumerate(made.items())]
        voting = asyncio.gather(*people)
        total = sum(len(own) for own in plan.raters)
        while not voting.done() and len(load.acknowledged) < total // 2:
            await asyncio.sleep(0.05)
        server.kill()
        server.start()
        await voting
    finally:
        server.kill()
    kept = [(ballot.link_id, ballot.number) for ballot in book.ballots("study_0")]
    database.close()
    lost = len(set(load.acknowledged) - set(kept)) + len(kept) - len(set(kept)) + abs(total - len(kept))
    return load, lost


def main() -> None:
    parser = parser_of("study", __doc__ or "", quick="two crowds, 8 raters with a few votes each")
    parser.add_argument("--serve", type=Path, help="internal: be the server over this folder")
    parser.add_argument("--port", type=int, default=0, help="internal: of that server")
    args = parser.parse_args()
    if args.serve is not None:
        serve(args.serve, args.port)
        return
    error = max(abs(round(float(ratio(*counts)), 2) - printed) for counts, printed in PAPER.values())
    console.print(f"ratios of the paper: off by {error:.2f} at most")
    for name, (counts, printed) in PAPER.items():
        if_votes, if_pairs = (supposed_interval(*counts, independent=many) for many in (sum(counts), 100))
        console.print(
            f"{name}: {printed}, {if_votes[0]:.2f}-{if_votes[1]:.2f} were votes independent, "
            f"{if_pairs[0]:.2f}-{if_pairs[1]:.2f} if only 100 pairs are"
        )
    count = 2 if args.quick else 100
    found = crowds(count)
    console.print(f"of {count} crowds {found.recovered} are recovered, of {count} without preference {found.kept} kept")
    raters, trials = (8, 4) if args.quick else (AT_ONCE, 60)
    with tempfile.TemporaryDirectory(prefix="magicvideo-study-") as folder:
        load, lost = asyncio.run(vote_at_once(Path(folder), raters, trials))
    p99_ms = quantiles(load.latencies_ms, n=100, method="inclusive")[-1]
    votes = len(load.acknowledged)
    console.print(f"{votes} votes of {raters} raters: p99 {p99_ms:.0f} ms, {load.repeated} sent again, {lost} lost")
    result(
        "study",
        {
            "ratio_error": error,
            "recovered_of_100": round(100 * found.recovered / count),
            "null_kept_of_100": round(100 * found.kept / count),
            "spammers_found": found.found / (count * SPAMMERS),
            "others_left_out": found.left_out / (count * (RATERS - SPAMMERS)),
            "bootstrap_s": max(found.seconds),
            "vote_p99_ms": p99_ms,
            "votes_lost": lost,
        },
    )


if __name__ == "__main__":
    main()
