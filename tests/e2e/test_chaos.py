"""Faults of whole processes on a server of its own, the command that users run: nothing is lost, nothing done twice."""

import json
import os
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from benchmarks.tools.chaos import ALL, RAYLET, Kill, Target, stand_in_config
from benchmarks.tools.ledger import Ledger, read
from deployments.jobs.values import FINAL, Job
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.journal.leases import Leases
from deployments.settings.application import PipelineArgs
from stages.replay import ReplayProfile
from stages.types import StageName
from tests.e2e.faulty import POISONS
from tests.e2e.rig import wait_for

pytestmark = pytest.mark.slow

LEASE_S = 5.0
PROFILES: dict[StageName, ReplayProfile] = {
    "t2i": ReplayProfile(run_s=0.1, bytes_out=300_000),
    "i2v": ReplayProfile(run_s=0.3, bytes_out=1_000_000),
    "v2v": ReplayProfile(run_s=1.5, bytes_out=3_000_000),
    "vfi": ReplayProfile(run_s=0.05, bytes_out=600_000),
}


class Siege:
    """A running server, its HTTP and its journal, which outlives it."""

    def __init__(self, target: Target, data_dir: Path, log: Path) -> None:
        self.target, self.log = target, log
        self.http = httpx.Client(base_url=target.url, timeout=60.0)
        self.journal = Journal(Database(f"sqlite:///{data_dir}/jobs.sqlite"))

    def create(self, seed: int) -> str:
        body = json.dumps({"prompt": "a fox", "seed": seed})
        headers = {"content-type": "application/json", "idempotency-key": f"seed-{seed}"}

        def accepted() -> str | None:
            try:
                answer = self.http.post("/v1/videos", content=body, headers=headers)
            except httpx.TransportError:
                return None
            return str(answer.json()["id"]) if answer.status_code == 200 else None

        return wait_for(f"the job of seed {seed}", accepted)

    def ended(self, job_id: str) -> Job:
        return wait_for(
            f"the end of {job_id}", lambda: job if (job := self.journal.get(job_id)).state in FINAL else None
        )

    def kinds(self, job_id: str) -> list[str]:
        return [event.kind for event in self.journal.events(job_id)]

    def kept(self, job_id: str, stage: StageName) -> int:
        return len(self.journal.get(job_id).outputs.get(stage, {}))

    def strike(self, kind: str) -> Kill:
        """Kill a process of that kind; proves that it is gone."""
        kill = wait_for(f"a process of {kind}", lambda: self.target.kill(kind))
        wait_for("its end", lambda: not any(map(alive, kill.pids)))
        return kill

    def ledger(self, ids: list[str]) -> Ledger:
        return read(
            ids, (), {job: self.journal.get(job) for job in ids}, {job: self.journal.events(job) for job in ids}
        )


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    folder = tmp_path_factory.mktemp("chaos")
    short = Path(tempfile.mkdtemp(prefix="mvc-"))  # what a killed Ray leaves
    config = stand_in_config(folder / "config.yaml", PROFILES, LEASE_S)
    document = yaml.safe_load(config.read_text())
    document["applications"][0]["args"]["stages"]["v2v"]["factory"] = "tests.e2e.faulty:Faulty"
    config.write_text(yaml.safe_dump(document))
    with Target(config, folder / "data", short, log=folder / "log") as target:
        made = Siege(target, folder / "data", folder / "log")
        yield made
        made.http.close()
        made.journal.database.close()
    shutil.rmtree(short, ignore_errors=True)


def test_everything_dies_at_once_and_every_job_goes_on_where_it_was(siege: Siege) -> None:
    ids = [siege.create(seed) for seed in range(10, 14)]
    wait_for("kept windows", lambda: siege.kept(ids[0], "v2v") >= 1)
    running = [job_id for job_id in ids if siege.journal.get(job_id).state == "running"]
    assert running, "the fault would strike nothing"
    kill = siege.strike(ALL)
    assert len(kill.pids) > 8
    assert not siege.target.alive()
    siege.target.start()
    assert siege.create(10) == ids[0]  # the same key, after the restart
    assert {siege.ended(job_id).state for job_id in ids} == {"succeeded"}
    ledger = siege.ledger(ids)
    assert (ledger.lost, ledger.finished_twice, ledger.stages_rerun) == (0, 0, 0)
    for job_id in running:
        assert "restarted" in siege.kinds(job_id)
    assert "stage_restored" in siege.kinds(ids[0])


def frozen_outside_of_writes(siege: Siege, process: psutil.Process) -> bool:
    """Stop a process; one that holds SQLite's only write lock is let go again, for it would hold everybody."""
    process.suspend()
    wait_for("the freeze", lambda: process.status() == psutil.STATUS_STOPPED)
    with closing(sqlite3.connect(str(siege.journal.database.engine.url.database), timeout=0.5)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
            other.rollback()
        except sqlite3.OperationalError:
            process.resume()
            return False
    return True


def test_a_pipeline_that_is_frozen_past_its_leases_writes_nothing_under_them(siege: Siege) -> None:
    job_id = siege.create(20)
    wait_for("kept keyframes", lambda: siege.kept(job_id, "i2v") == 1)
    [process] = siege.target.processes("pipeline")
    wait_for("a freeze outside of any transaction", lambda: frozen_outside_of_writes(siege, process))
    database = Database(siege.journal.database.engine.url.render_as_string(hide_password=False))
    stranger = Leases(database)
    try:
        claim, _ = wait_for("the lapse of its lease", lambda: stranger.claim("a stranger", 100 * LEASE_S))
        assert claim.job_id == job_id
        before = siege.journal.events(job_id)
        os.kill(process.pid, signal.SIGCONT)
        other = siege.create(21)  # it works again
        assert siege.ended(other).state == "succeeded"
        assert siege.journal.events(job_id) == before
        stranger.release([claim])
    finally:
        database.close()
    assert siege.ended(job_id).state == "succeeded"
    ledger = siege.ledger([job_id, other])
    assert (ledger.lost, ledger.finished_twice, ledger.stages_rerun) == (0, 0, 0)


def test_failures_count_over_deaths_of_the_pipeline(siege: Siege) -> None:
    job_id = siege.create(POISONS)
    wait_for("a failure", lambda: siege.journal.get(job_id).failures.get("v2v") == 1)
    siege.strike("pipeline")
    job = siege.ended(job_id)
    assert (job.state, job.error and job.error.code) == ("failed", "stage_failed")
    assert siege.kinds(job_id).count("stage_retried") == PipelineArgs().stage_failures
    assert "restarted" in siege.kinds(job_id)


@pytest.mark.parametrize("kind", ["keeper", "ingress", "proxy", "vfi"])
def test_one_process_dies_and_the_job_does_not(siege: Siege, kind: str) -> None:
    seed = 30 + ["keeper", "ingress", "proxy", "vfi"].index(kind)
    job_id = siege.create(seed)
    wait_for("a kept picture", lambda: siege.kept(job_id, "t2i") == 1)
    siege.strike(kind)
    assert siege.create(seed) == job_id
    assert siege.ended(job_id).state == "succeeded"
    ledger = siege.ledger([job_id])
    assert (ledger.lost, ledger.finished_twice, ledger.stages_rerun) == (0, 0, 0)


def test_a_server_whose_raylet_dies_ends_with_a_sentence_and_leaves_nothing(siege: Siege) -> None:
    """The last one: nobody starts it again."""
    below = siege.target.tree()[1:]
    siege.strike(RAYLET)
    assert siege.target.ended(120.0)
    siege.target.stop()
    assert siege.target.returncode == 3
    assert siege.log.read_text().strip().splitlines()[-1].startswith("error: Ray's raylet has died")
    assert psutil.wait_procs(below, timeout=120.0)[1] == []
