"""Batches: bad lines are told before anything is sent, a rerun creates nothing twice and fetches what is missing."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from client import AsyncClient, OutputError
from client._many.batch import STATE, Batch, Entry, Row, State
from client._many.batch_lines import Line, read_lines
from client.schema import JobError
from cluster.server_process import free_port
from tests.client.rig import until
from tests.client.shell import Shell
from tests.client.standin import keyframe
from tests.client.wire import Fault, Wire

ROOT = Path(__file__).resolve().parents[3]
PNG = keyframe(5)
CREATE = "POST /v1/videos$"


def write(*lines: dict[str, Any] | str) -> None:
    Path("prompts.jsonl").write_text(
        "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    )


def run(shell: Shell, *words: str) -> int:
    return shell("batch", "prompts.jsonl", "--out", "out", "-q", *words)


def made() -> list[str]:
    return sorted(name for name in os.listdir("out") if name != STATE)


def test_every_line_becomes_a_file(shell: Shell, wire: Wire) -> None:
    Path("fox.png").write_bytes(PNG)
    write(
        {"prompt": "A fox, running!", "seed": 7, "guidance": 2.5},
        "",
        {"prompt": "an owl", "name": "owl", "input_reference": "fox.png", "until": "vfi"},
        {"prompt": "a whale", "name": "whale", "until": "t2i"},
    )
    assert run(shell, "--concurrency", "1") == 0
    fox = next(name for name in made() if name.startswith("a-fox-running-"))
    assert made() == sorted([fox, "owl.mp4", "whale.png"])
    wanted = {fox: wire.payload, "owl.mp4": wire.payload, "whale.png": keyframe()}
    assert {name: Path("out", name).read_bytes() for name in made()} == wanted
    assert [request.fields for request in wire.seen if request.line.startswith("POST")] == [
        {"prompt": "A fox, running!", "seed": 7, "guidance": 2.5},
        {"prompt": "an owl", "until": "vfi", "input_reference": PNG},
        {"prompt": "a whale", "until": "t2i"},
    ]
    rows = [line.split() for line in shell.out.splitlines()]
    assert rows[0][:3] == ["outcome", "took", "file,"]
    assert rows[2][::2] == ["done", "s"]
    assert rows[2][3:] == [os.path.join("out", "owl.mp4")]


def test_a_rerun_creates_nothing_and_fetches_what_is_missing(shell: Shell, wire: Wire) -> None:
    write({"prompt": "a fox", "name": "fox"}, {"prompt": "an owl", "name": "owl"})
    assert run(shell) == 0
    Path("out/owl.mp4").unlink()
    write(
        {"prompt": "a whale", "name": "whale"}, {"prompt": "an owl", "name": "owl"}, {"prompt": "a fox", "name": "fox"}
    )
    wire.seen.clear()
    assert run(shell, "--json") == 0
    assert [(row["name"], row["outcome"]) for row in shell.document["rows"]] == [
        ("whale", "done"),
        ("owl", "done"),
        ("fox", "already done"),
    ]
    assert (wire.count(CREATE), len(wire.jobs)) == (1, 3)
    assert made() == ["fox.mp4", "owl.mp4", "whale.mp4"]


def test_equal_lines_are_two_jobs_and_keep_their_names(shell: Shell, wire: Wire) -> None:
    write({"prompt": "a fox"}, {"prompt": "a fox"})
    for _ in range(2):
        assert run(shell) == 0
        assert (len(wire.jobs), len(made())) == (2, 2)


def test_bad_lines_are_told_with_their_numbers_before_anything_is_sent(shell: Shell, wire: Wire) -> None:
    write(
        {"prompt": "a fox", "name": "fox"},
        "{prompt}",
        '["a fox"]',
        {"prompt": " "},
        {"prompt": "a fox", "sede": 7},
        {"prompt": "a fox", "seed": "many"},
        {"prompt": "a fox", "name": "../fox"},
        {"prompt": "an owl", "name": "FOX"},
        {"prompt": "a fox", "input_reference": "absent.png"},
        {"prompt": "a fox", "input_reference": {"url": "https://example.com/fox.png"}},
        {"prompt": "a fox", "guidance": float("nan")},
    )
    assert run(shell) == 2
    told = shell.err.splitlines()
    starts = [line.partition(": ")[2].partition(": ")[0] for line in told]
    assert starts == [f"prompts.jsonl:{number}" for number in range(2, 12)]
    for line, part in zip(
        told,
        [
            "not JSON",
            "not a JSON object",
            '"prompt" is missing or empty',
            "unknown field 'sede'; the fields are name, prompt,",
            "seed: Input should be a valid integer",
            "it names the file, so it must be",
            "name 'FOX' is line 1's; choose another",
            "there is no file 'absent.png'",
            "input_reference: url: Extra inputs are not permitted",
            "guidance is nan",
        ],
        strict=True,
    ):
        assert part in line
    assert (wire.seen, os.path.exists("out")) == ([], False)
    assert run(shell, "--json") == 2
    assert shell.document["error"]["code"] == "bad_lines"


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (None, [], "prompts.jsonl cannot be read (No such file or directory)"),
        (b"\xe4", [], "prompts.jsonl is not UTF-8 (unexpected end of data at byte 0); save it as UTF-8."),
        (b"\n", [], 'has no line; write some like {"prompt": "a fox", "name": "fox"}'),
        (b'{"prompt": "a fox"}', ["--concurrency", "0"], "--concurrency is 0; it must be at least 1."),
    ],
)
def test_a_file_that_cannot_be_used(
    shell: Shell, wire: Wire, text: bytes | None, words: list[str], message: str
) -> None:
    if text is not None:
        Path("prompts.jsonl").write_bytes(text)
    assert run(shell, *words) == 2
    assert message in shell.err
    assert wire.seen == []


def test_a_line_that_changed_under_its_name_is_refused(shell: Shell, wire: Wire) -> None:
    write({"prompt": "a fox", "name": "fox"})
    assert run(shell) == 0
    write({"prompt": "a fox", "name": "fox", "seed": 8})
    wire.seen.clear()
    assert run(shell) == 2
    assert "Line 1: 'fox' asked for something else when its job was made; give it another name" in shell.err
    assert wire.seen == []


def test_failures_are_1_and_are_made_anew_only_when_asked(shell: Shell, wire: Wire) -> None:
    wire.standin.error = JobError(code="out_of_memory", message="V2V needs 3 GiB more.")
    write({"prompt": "a fox", "name": "fox"})
    assert run(shell) == 1
    assert "V2V needs 3 GiB more. (out_of_memory)" in shell.out
    wire.standin.error = None
    wire.seen.clear()
    assert run(shell) == 1
    assert "V2V needs 3 GiB more. (out_of_memory)" in shell.out
    assert wire.seen == []
    assert run(shell, "--retry-failed") == 0
    assert (len(wire.jobs), made()) == (2, ["fox.mp4"])
    assert run(shell, "--retry-failed") == 0
    assert len(wire.jobs) == 2


def test_a_line_that_the_server_refuses_fails_alone(shell: Shell, wire: Wire) -> None:
    wire.faults = [Fault(CREATE, status=400)]
    write({"prompt": "a fox", "name": "fox"}, {"prompt": "an owl", "name": "owl"})
    assert run(shell, "-n", "1", "--json") == 1
    assert [(row["outcome"], row["error"]) for row in shell.document["rows"]] == [
        ("failed", "refused on purpose"),
        ("done", None),
    ]
    assert run(shell) == 0  # nothing was made for it, so it is asked for again
    assert made() == ["fox.mp4", "owl.mp4"]


def test_a_job_that_is_gone_is_a_failure_that_can_be_made_anew(shell: Shell, wire: Wire) -> None:
    write({"prompt": "a fox", "name": "fox"})
    assert run(shell) == 0
    Path("out/fox.mp4").unlink()
    gone = wire.last.id
    wire.forget(gone)
    assert run(shell) == 1
    assert f"No video has the id '{gone}'" in shell.out
    assert run(shell, "--retry-failed") == 0
    assert made() == ["fox.mp4"]


def test_paused_jobs_are_told_and_fetched_once_they_went_on(shell: Shell, wire: Wire) -> None:
    write({"prompt": "a fox", "name": "fox", "pause_after": "t2i"})
    assert run(shell) == 0
    assert "paused" in shell.out
    assert f"go on with: magicvideo continue {wire.last.id}" in shell.out
    assert shell("continue", wire.last.id, "-d") == 0
    assert run(shell) == 0
    assert (made(), len(wire.jobs)) == (["fox.mp4"], 1)


@pytest.mark.slow
def test_no_server_is_3_and_a_refused_key_2(shell: Shell, wire: Wire) -> None:
    write({"prompt": "a fox"}, {"prompt": "an owl"})
    nobody = f"http://127.0.0.1:{free_port()}"
    assert shell("batch", "prompts.jsonl", "--out", "out", url=nobody) == 3
    assert f"No server answers at {nobody}" in shell.err
    wire.lock()
    assert run(shell) == 2
    assert "This server needs an API key" in shell.err
    wire.unlock()
    assert run(shell) == 0
    assert len(wire.jobs) == 2


def test_progress_is_a_line_a_job(shell: Shell) -> None:
    write({"prompt": "a fox", "name": "fox"})
    assert shell("batch", "prompts.jsonl", "--out", "out") == 0
    assert shell.err == "fox: done\n"


def test_a_folder_with_something_else_for_a_state_is_refused(tmp_path: Path) -> None:
    (tmp_path / STATE).write_text("not a state\n")
    with pytest.raises(OutputError, match="is not the state of a batch of this version; choose another --out"):
        State(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be used"):
        State(tmp_path / "file")


def test_a_state_that_was_cut_while_it_was_written_is_read(tmp_path: Path) -> None:
    line = Line(1, "fox", "a fox", {}, "digest")
    key = State(tmp_path).key(line, 1)
    with (tmp_path / STATE).open("a") as file:
        file.write('{"name": "fox", "dig')
    again = State(tmp_path)
    assert (again.get("fox"), again.key(line, 1)) == (None, key)
    again.put("fox", Entry("digest", id="video_1"))
    assert State(tmp_path).get("fox") == Entry("digest", id="video_1")
    assert len({key, again.key(line, 2), State(tmp_path / "other").key(line, 1)}) == 3


def lines_of(folder: Path, count: int) -> list[Line]:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"a fox, {number}"}) + "\n" for number in range(count)))
    lines, problems = read_lines(path)
    assert problems == []
    return lines


@pytest.mark.slow
async def test_at_most_so_many_jobs_are_unfinished_at_once(wire: Wire, tmp_path: Path) -> None:
    most = 0

    class Watching(AsyncClient):
        async def _send(self, request: Any) -> Any:
            nonlocal most
            most = max(most, sum(job.state != "succeeded" for job in wire.jobs))
            return await super()._send(request)

    async with Watching(wire.url) as client:
        batch = Batch(client, State(tmp_path), tmp_path)
        rows = await batch.run(lines_of(tmp_path, 9), concurrency=3)
    assert [row.outcome for row in rows] == ["done"] * 9
    assert most == 3


async def test_a_full_server_is_waited_for(wire: Wire, tmp_path: Path) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with AsyncClient(wire.url, max_retries=0) as client:
        wire.faults = [Fault(CREATE, status=429, headers={"retry-after": "90"}), Fault(CREATE, status=429)]
        batch = Batch(client, State(tmp_path), tmp_path, sleep=pause)
        (row,) = await batch.run(lines_of(tmp_path, 1), 1)
        assert (row.outcome, pauses, len(wire.jobs)) == ("done", [90.0, 5.0], 1)
        wire.faults = [Fault(CREATE, status=429, headers={"retry-after": "86400"})]
        (tmp_path / "b").mkdir()
        rows = await Batch(client, State(tmp_path / "b"), tmp_path / "b", sleep=pause).run(lines_of(tmp_path, 1), 1)
    assert [(row.outcome, row.error) for row in rows] == [("failed", "refused on purpose")]


async def test_two_runs_at_once_make_each_job_once(wire: Wire, tmp_path: Path) -> None:
    lines = lines_of(tmp_path, 5)

    async def one() -> list[Row]:
        async with AsyncClient(wire.url) as client:
            return await Batch(client, State(tmp_path), tmp_path).run(lines, 5)

    for rows in await asyncio.gather(one(), one()):
        assert {row.outcome for row in rows} <= {"done", "already done"}
    assert len(wire.jobs) == 5


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_moment_is_taken_up_again(wire: Wire, tmp_path: Path) -> None:
    lines_of(tmp_path, 6)
    words = [sys.executable, "-m", "client", "batch", str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "MAGICVIDEO_URL": wire.url}
    wire.standin.ticks = 1_000_000
    wire.faults = [Fault(CREATE, cut_after=0)]  # one job is made, and its id never arrives
    process = subprocess.Popen([*words, "-q"], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(wire.jobs) < 4:
        assert time.monotonic() < deadline, f"{len(wire.jobs)} jobs came"
        time.sleep(0.01)  # between two looks
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=120)
    wire.standin.ticks = 4
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(wire.jobs) == 6
    assert len(list((tmp_path / "out").glob("*.mp4"))) == 6


def test_ctrl_c_says_how_to_go_on(wire: Wire, tmp_path: Path) -> None:
    lines_of(tmp_path, 2)
    wire.standin.ticks = 1_000_000
    words = [sys.executable, "-m", "client", "batch", str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        words, cwd=ROOT, env={**os.environ, "MAGICVIDEO_URL": wire.url}, stderr=subprocess.PIPE, text=True
    )
    until(wire, "GET", 4)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.splitlines()[-1].startswith("Stopped; the jobs that were sent go on. Run the same command again:")
