"""`magicvideo study` against the application on a port: sets of every kind, links, results, and what is refused."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from benchmarks.study import own
from client.cli import app
from client.schema import JobError, StageState
from client.schema_studies import RaterLink
from deployments.files.mp4 import encode_chunk, join_chunks
from deployments.jobs.values import Update
from deployments.studies.votes import RaterBook
from stages.types import STAGE_NAMES, Clip
from tests.deployments.api.served import Served
from tests.deployments.studies.making import FPS, clip


class Worker:
    """Finishes every job with a video; its hue is that of the job's steps. The next one fails where it is told to."""

    def __init__(self, served: Served, folder: Path) -> None:
        self._served, self._folder, self._ends = served, folder, threading.Event()
        self.jobs, self.fails = 0, False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ends.wait(0.01):
            claimed = self._served.leases.claim("test", 60.0)
            if claimed is None:
                continue
            claim, job = claimed
            if self.fails:
                self.fails = False
                self._served.leases.finish(Update(claim), "failed", error=JobError(code="x", message="out of luck"))
                continue
            path = self._folder / "made.mp4"
            write(path, 10 * (job.request.steps or 1))
            made = self._served.store.put_file(path, f"videos/{claim.job_id}/{claim.fence}.mp4")
            states = tuple(StageState(name=name, status="completed", progress=100) for name in STAGE_NAMES)
            self._served.leases.finish(Update(claim, states), "succeeded", result=vars(made))
            self.jobs += 1

    def end(self) -> None:
        self._ends.set()
        self._thread.join()


def write(path: Path, hue: int) -> None:
    join_chunks([encode_chunk(Clip(clip(hue), FPS))], path, {})


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Worker]]:
    folder = tmp_path_factory.mktemp("served")
    served = Served(folder)
    served.start()
    worker = Worker(served, folder)
    yield served, worker
    worker.end()
    served.stop()


@pytest.fixture
def run(live: tuple[Served, Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("a fox\nan owl\n")

    def command(*words: str) -> Any:
        return CliRunner().invoke(app, ["study", *words], env={"MAGICVIDEO_URL": live[0].url}, catch_exceptions=False)

    return command


SETS = ("--a", "preset=tiny,steps=14", "--b", "preset=tiny,steps=6", "--prompts", "prompts.txt", "--seeds", "2")


@pytest.mark.slow
def test_a_study_of_two_settings_from_the_videos_to_the_results(run: Any, live: tuple[Served, Worker]) -> None:
    _, worker = live
    made = run("create", *SETS, "--raters", "3", "--overall", "--json", "-q")
    assert made.exit_code == 0, made.stderr
    told = json.loads(made.stdout)
    study, links = told["study"], told["links"]
    assert (study["pairs"], study["prompts"], len(links), worker.jobs) == (4, 2, 3, 8)
    assert study["systems"] == ["preset=tiny,steps=14", "preset=tiny,steps=6"]
    assert study["links"] == 3
    again = json.loads(run("create", *SETS, "--raters", "3", "--overall", "--json", "-q").stdout)
    assert (again["study"]["id"], again["links"], worker.jobs) == (study["id"], links, 8)
    for link in links:
        base, _, token = link["url"].partition("/rate#")
        seat = RaterBook(live[0].journal.database).seat(link["id"], closed=False)
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}) as person:
            state = person.get("/v1/rate").json()
            while state["next"]:
                trial = seat.trials[seat.number(state["next"]["id"])]
                choices = {"overall": "same", **seat.plan.expected(trial)}
                body = {"trial": state["next"]["id"], "choices": choices, "watched_s": 2.5}
                state = person.post("/v1/rate/votes", json=body).json()
    results = run("results", study["id"], "--plots", "plots")
    assert results.exit_code == 0, results.stderr
    assert "12 votes of 3 raters" in results.stdout
    assert "0/12/0" in results.stdout
    assert "18 votes are missing" in results.stdout
    assert [path.read_bytes()[1:4] for path in Path("plots").iterdir()] == [b"PNG"]
    assert run("export", study["id"], "-o", "votes.csv").exit_code == 0
    assert len(Path("votes.csv").read_text().splitlines()) == 1 + 3 * (4 + 2 + 8 + 2 + 6)
    exported = run("export", study["id"], "-o", "-")
    assert len([json.loads(line) for line in exported.stdout.splitlines()]) == 66
    assert run("export", study["id"], "-o", "-", "--json").exit_code == 2
    assert run("results", study["id"], "--plots", "votes.csv").stdout == ""
    assert "3 links, 66 votes" in run("status", study["id"]).stdout
    revoked = run("links", study["id"], "--revoke", links[0]["id"])
    assert "revoked" in revoked.stdout
    assert run("links", study["id"], "--make", "1").exit_code == 0
    assert study["id"] in run("list").stdout
    assert "raters" in run("power", "--difference", "0.2").stdout
    assert run("delete", study["id"]).exit_code == 0
    assert run("status", study["id"]).exit_code == 2


@pytest.mark.slow
def test_folders_and_earlier_jobs_are_mixed(run: Any, live: tuple[Served, Worker]) -> None:
    folder = Path("theirs")
    folder.mkdir()
    for number in (1, 2):
        write(folder / f"{number}.mp4", 60 * number)
    first = json.loads(run("create", *SETS[:6], "--raters", "1", "--json", "-q").stdout)["study"]["id"]
    rows = httpx.get(f"{live[0].url}/v1/videos?limit=100").json()["data"]
    ids = [next(row["id"] for row in rows if row["prompt"] == prompt) for prompt in ("a fox", "an owl")]
    Path("earlier.txt").write_text("\n".join(ids))
    made = run("create", "--a", "theirs", "--b", "earlier.txt", "--also", SETS[1], "--prompts", "prompts.txt", "-q")
    assert made.exit_code == 0, made.stderr
    shown = run("status", made.stdout.strip()).stdout
    assert "6 pairs of 2 prompts: theirs against earlier against preset=tiny,steps=14" in shown
    assert first != made.stdout.strip()
    words = ("create", "--a", "theirs", "--b", "earlier.txt", "--also", SETS[1], "--prompts", "prompts.txt", "--json")
    assert json.loads(run(*words).stdout)["study"]["id"] == made.stdout.strip()  # nothing was sent twice


@pytest.mark.slow
def test_a_job_that_failed_is_made_anew_by_the_same_command(run: Any, live: tuple[Served, Worker]) -> None:
    _, worker = live
    words = ("create", "--a", "steps=12", "--b", "steps=13", "--prompts", "prompts.txt", "--raters", "1")
    worker.fails, before = True, worker.jobs
    failed = run(*words)
    assert failed.exit_code == 1
    assert "out of luck" in failed.stderr
    made = run(*words)
    assert made.exit_code == 0, made.stderr
    assert worker.jobs == before + 4


@pytest.mark.slow
def test_our_own_study_is_rated_by_simulated_raters_and_goes_on_after_a_kill(
    live: tuple[Served, Worker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--url", live[0].url, "--out", str(tmp_path), "--prompts", "2"]
    rate = own.rate

    def killed(link: RaterLink, *seen: Any, **more: Any) -> bool:
        if link.rater == 4:
            raise KeyboardInterrupt
        return rate(link, *seen, **more)

    monkeypatch.setattr(own, "rate", killed)
    with pytest.raises(KeyboardInterrupt):
        own.main(words)
    monkeypatch.setattr(own, "rate", rate)
    before = live[1].jobs
    own.main(words)
    assert live[1].jobs == before + 4  # of the other study
    for name in own.STUDIES:
        results = json.loads((tmp_path / f"{name}.json").read_text())
        assert results["raters"] >= 6  # of eight, of whom some may seem not to look
        assert results["comparisons"][0]["missing"] > 0
        assert (tmp_path / f"{name}.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--a", "nowhere", "--b", "preset=tiny"),
            "'nowhere' is no folder of mp4s, no file with ids of videos, and no",
        ),
        (("--a", "stepps=14", "--b", "preset=tiny"), "'stepps=14' is no option of a set"),
        (("--a", "steps=many", "--b", "preset=tiny"), "'steps=many' needs a number, like steps=14."),
        (("--a", "preset=tiny", "--b", "steps=6"), "--prompts is missing"),
        (("--a", "steps=6,steps=7", "--b", "steps=8"), "'steps=6,steps=7' says steps twice"),
        (("--a", "steps=6", "--b", "steps=6", "--prompts", "prompts.txt"), "'steps=6' is named twice"),
        (("--a", "odd", "--b", "deep/odd"), "'deep/odd' lacks 1 of the 1 videos of 'odd', the first of them number 1"),
        (("--a", "steps=6", "--b", "steps=7", "--prompts", "prompts.txt", "--raters", "0"), "raters: Input should be"),
        (("--a", "steps=6", "--b", "steps=7", "--prompts", "prompts.txt", "--days", "0"), "days: Input should be"),
        (("--a", "steps=6", "--b", "steps=999", "--prompts", "prompts.txt"), "999"),
        (("--a", "steps=6", "--b", "steps=7", "--prompts", "gap.txt"), "gap.txt has no prompt on line 2"),
        (("--a", "steps=6", "--b", "steps=7", "--prompts", "twice.txt"), "twice.txt has 'a fox' twice"),
        (("--a", "empty", "--b", "odd"), "empty holds no mp4"),
        (("--a", "odd", "--b", "broken", "--prompts", "prompts.txt"), "odd/fox.mp4 does not say its prompt"),
        (("--a", "odd", "--b", "broken"), "broken/fox.mp4 is no video that the server can decode"),
        (("--a", "steps=6", "--b", "steps=7", "--prompts", "prompts.txt", "--seeds", "0"), "--seeds is 0"),
    ],
)
def test_what_cannot_be_is_one_sentence_with_exit_code_2(run: Any, words: tuple[str, ...], said: str) -> None:
    Path("gap.txt").write_text("a fox\n\nan owl\n")
    Path("twice.txt").write_text("a fox\na fox\n")
    for name in ("empty", "odd", "broken", "deep/odd"):
        Path(name).mkdir(parents=True)
    write(Path("odd/fox.mp4"), 3)
    write(Path("deep/odd/owl.mp4"), 3)
    Path("broken/fox.mp4").write_bytes(b"no video")
    ended = run("create", *words)
    assert ended.exit_code == 2
    assert said in ended.stderr
