"""How a job is named in a shell: by its id, the beginning of it, or as the last one; and listed by how it stands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from client.schema import JobError
from tests.client.shell import Shell
from tests.client.standin import keyframe
from tests.client.wire import Wire

ROOT = Path(__file__).resolve().parents[3]


def beginning(wire: Wire, job_id: str) -> str:
    """The shortest beginning that no other job's id has, without what all have."""
    others = [job.id for job in wire.jobs if job.id != job_id]
    short = next(n for n in range(7, 39) if not any(other.startswith(job_id[:n]) for other in others))
    return job_id[6:short]


@pytest.mark.parametrize("command", ["status", "show", "watch", "download", "cancel", "delete", "remix", "extend"])
def test_every_verb_takes_last_and_a_beginning(shell: Shell, wire: Wire, command: str) -> None:
    words = {"remix": ["a whale", "-d"], "extend": ["-d"], "download": ["-q"], "watch": ["-q"]}.get(command, [])
    make = wire.add if command == "cancel" else wire.finished
    older, newer = make("a fox"), make("an owl")
    assert shell(command, "last", *words) == 0
    part = f"video_{beginning(wire, older)}" if command == "show" else beginning(wire, older)
    assert shell(command, part, *words) == 0
    paths = [request.line.split("/")[3:] for request in wire.seen if request.line.count("/") > 2]
    assert [path[0] for path in paths if path[0] in (older, newer)] != []
    assert list(dict.fromkeys(path[0] for path in paths if path[0] in (older, newer))) == [newer, older]


def test_a_whole_id_costs_no_request_more(shell: Shell, wire: Wire) -> None:
    assert shell("status", wire.finished()) == 0
    assert wire.count("GET /v1/videos$") == 0


def test_streams_upscales_and_continues_the_last(shell: Shell, wire: Wire) -> None:
    known = wire.finished()
    assert shell("stream", "last", "-o", "fox.mp4") == 0
    assert shell("upscale", "last", "-d") == 0
    assert wire.said["input_video"] == {"id": known}
    wire.finished(pause_after="t2i")
    assert shell("continue", "last", "-q") == 0


def test_a_file_that_is_called_last_is_a_file(shell: Shell, wire: Wire) -> None:
    wire.finished()
    Path("last").write_bytes(wire.payload)
    assert shell("upscale", "last", "-d") == 0
    assert wire.said["input_video"] == wire.payload


def test_a_beginning_of_several_names_them(shell: Shell, wire: Wire) -> None:
    first, second = wire.finished(), wire.finished()
    assert shell("status", "video_") == 2
    assert shell.err.startswith("Error: 'video_' begins the ids of 2 videos, ")
    assert first in shell.err
    assert second in shell.err
    assert shell.err.endswith("; give more of the one.\n")


def test_without_a_video_there_is_no_last(shell: Shell) -> None:
    assert shell("show", "last") == 2
    assert shell.err.startswith("Error: There is no last video, as there is none; make one: magicvideo generate ")


def test_a_list_of_those_that_stand_so(shell: Shell, wire: Wire) -> None:
    made = wire.finished("a fox")
    paused = wire.finished("an owl", pause_after="t2i")
    wire.standin.error = JobError(code="out_of_memory", message="V2V needs 3 GiB more.")
    failed = wire.finished("a whale")
    queued = wire.add("a rabbit")
    for status, known in {"completed": made, "paused": paused, "failed": failed, "queued": queued}.items():
        assert shell("list", "--status", status, "--json") == 0
        assert [video["id"] for video in shell.document["data"]] == [known]
    assert shell("list", "--search", "FOX", "--json") == 0
    assert [video["id"] for video in shell.document["data"]] == [made]
    assert shell("list", "--search", "a", "--status", "queued", "--json") == 0
    assert [video["id"] for video in shell.document["data"]] == [queued]
    assert shell("list", "--search", "a b " * 60) == 2
    assert "search has 239 characters; it may have 200" in shell.err
    assert shell("list", "--status", "in_progress") == 0
    assert shell.out.splitlines()[1:] == []
    assert shell("list", "--status", "done") == 2
    assert "'queued', 'in_progress', 'paused', 'completed', 'failed'" in " ".join(shell.err.split())


def test_a_list_by_status_looks_at_every_page(shell: Shell, wire: Wire) -> None:
    made = wire.finished("a fox")
    for number in range(110):
        wire.add(f"an owl, {number}")
    assert shell("list", "--status", "completed", "--json") == 0
    assert [video["id"] for video in shell.document["data"]] == [made]


def test_a_job_that_ends_with_a_picture_is_never_written_as_an_mp4(shell: Shell, wire: Wire) -> None:
    known = wire.finished(until="t2i")
    said = f"{known} ends at t2i, so fox.mp4 would hold a picture (PNG; WebP of a thumbnail); it is written as fox.png."
    assert shell("download", known, "-o", "fox.mp4") == 0
    assert (shell.out, shell.err) == ("fox.png\n", f"{said}\n")
    assert Path("fox.png").read_bytes() == keyframe(0)
    assert shell("download", known, "-q") == 0
    assert shell.out == f"{known}.png\n"
    assert sorted(os.listdir()) == sorted(["fox.png", f"{known}.png"])


def browser(folder: Path) -> dict[str, str]:
    """A browser that writes down what it is to open."""
    program = folder / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" >> {folder}/opened\n')
    program.chmod(0o755)
    return {"BROWSER": str(program)}


@pytest.mark.slow
def test_open_shows_the_page_of_a_job_or_its_file(wire: Wire, tmp_path: Path) -> None:
    known, environment = wire.finished(), {**os.environ, **browser(tmp_path), "MAGICVIDEO_URL": wire.url}
    environment["PYTHONPATH"] = str(ROOT)
    for words in ([], ["last"], [known, "--file"]):
        command = [sys.executable, "-m", "client", "open", *words]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    file = tmp_path / f"{known}.mp4"
    assert file.read_bytes() == wire.payload
    expected = [f"{wire.url}/", f"{wire.url}/#/video/{known}", file.as_uri()]
    assert (tmp_path / "opened").read_text().splitlines() == expected


def test_open_says_the_address_where_there_is_no_browser(wire: Wire, tmp_path: Path) -> None:
    environment = {**os.environ, "BROWSER": "/bin/false", "PATH": str(tmp_path), "MAGICVIDEO_URL": wire.url}
    environment.pop("DISPLAY", None)
    command = [sys.executable, "-m", "client", "open"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, f"{wire.url}/\n")
    assert done.stderr == "Error: There is no browser here; open that address in one.\n"


def test_a_shell_is_offered_commands_and_ids(wire: Wire) -> None:
    known = wire.finished("a fox in the snow")

    def offered(words: str) -> str:
        about = {"_MAGICVIDEO_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()))}
        about |= {"MAGICVIDEO_URL": wire.url, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
        command = [sys.executable, "-m", "client"]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **about}, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "generate" in offered("magicvideo ").split()
    assert offered("magicvideo show ").split() == ["last", known]
