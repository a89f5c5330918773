"""The command line, in this process, against a real server: what it prints, where, and its exit codes."""

import json
import os
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from client import CreateOptions, ExtendOptions, InterpolateOptions, RemixOptions, UpscaleOptions
from client._version import __version__
from client.cli import app
from client.schema import Health, JobError
from cluster.server_process import free_port
from tests.client.shell import Shell
from tests.client.standin import sheet
from tests.client.wire import Fault, Wire


def test_generate_makes_the_file_and_tells_of_every_stage(shell: Shell, wire: Wire) -> None:
    assert shell("generate", "a fox", "-o", "fox.mp4", "--seed", "7") == 0
    assert Path("fox.mp4").read_bytes() == wire.payload
    assert shell.out == ("fox.mp4  46 frames, 24 fps, 256x256, seed 7\nt2i 1.5 s, i2v 2.5 s, v2v 3.5 s, vfi 4.5 s\n")
    told = shell.err.splitlines()
    assert [line for line in told if line.endswith(" s")] == [
        "t2i picture: 1.5 s",
        "i2v motion: 2.5 s",
        "v2v detail: 3.5 s",
        "vfi smoothness: 4.5 s",
    ]


def test_every_option_reaches_the_server(shell: Shell, wire: Wire) -> None:
    options = "--seed 7 --size 256x256 --seconds 4 --steps 9 --guidance 2.5 --model tiny --negative-prompt rain"
    assert shell("generate", "a fox", "-o", "fox.mp4", *options.split()) == 0
    assert wire.said == {
        "prompt": "a fox",
        "seed": 7,
        "size": "256x256",
        "seconds": "4",
        "steps": 9,
        "guidance": 2.5,
        "model": "tiny",
        "negative_prompt": "rain",
    }


def test_json_is_one_document_on_stdout(shell: Shell) -> None:
    assert shell("generate", "a fox", "-o", "fox.mp4", "--json", "-q") == 0
    document = json.loads(shell.out)
    assert (document["status"], document["path"], document["frames"]) == ("completed", "fox.mp4", 46)
    assert [stage["name"] for stage in document["stages"]] == ["t2i", "i2v", "v2v", "vfi"]
    assert shell.err == ""


def test_without_a_name_the_file_is_called_after_the_job(shell: Shell, wire: Wire) -> None:
    assert shell("generate", "a fox", "-q") == 0
    assert shell.out == f"{wire.last.id}.mp4\n"
    assert Path(f"{wire.last.id}.mp4").read_bytes() == wire.payload


def test_a_failed_job_is_1(shell: Shell, wire: Wire) -> None:
    wire.standin.error = JobError(code="out_of_memory", message="V2V needs 3 GiB more.")
    assert shell("generate", "a fox", "-o", "fox.mp4", "-q") == 1
    assert shell.err == f"Error: Video {wire.last.id} failed: V2V needs 3 GiB more. (out_of_memory)\n"
    assert os.listdir() == []
    assert shell("generate", "a fox", "-q", "--json") == 1
    assert json.loads(shell.out)["error"]["code"] == "out_of_memory"
    assert shell("status", wire.last.id) == 1
    assert "error    V2V needs 3 GiB more. (out_of_memory)" in shell.out


def test_a_refused_request_is_2(shell: Shell) -> None:
    said = "The prompt is empty; say in a few words what the video shows."
    assert shell("generate", "  ", "-q") == 2
    assert shell.err == f"Error: {said}\n"
    assert shell("generate", "  ", "-q", "--json") == 2
    about = {"type": "invalid_request_error", "param": "prompt", "code": "invalid_field"}
    assert json.loads(shell.out)["error"] == {"message": said, **about}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate"], "Missing argument 'PROMPT'"),
        (["generate", "a fox", "--seed", "many"], "Invalid value for '--seed'"),
        (["generate", "a fox", "--sede", "7"], "--sede"),
        (["generate", "a fox", "-o", "absent/fox.mp4"], "There is no folder absent for fox.mp4; make it first."),
        (["generate", "a fox", "--guidance", "nan"], "guidance is nan; it must be a finite number."),
        (["generate", "a fox", "--url", "localhost:8000"], "is not a server's address"),
        (["status", ".."], "'..' is not the id of a video"),
        (["list", "--limit", "0"], "--limit is 0; it must be at least 1."),
        (["paint", "a fox"], "No such command 'paint'"),
    ],
)
def test_wrong_usage_is_2_and_reaches_no_server(shell: Shell, wire: Wire, words: list[str], message: str) -> None:
    assert shell(*words) == 2
    assert message in shell.err
    assert wire.seen == []


def test_an_unknown_id_is_2(shell: Shell) -> None:
    for command in ("status", "download", "delete"):
        assert shell(command, "video_9999") == 2
        assert shell.err.startswith("Error: No video has the id 'video_9999'")


@pytest.mark.slow
def test_no_server_is_3_and_one_sentence(shell: Shell) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    assert shell("generate", "a fox", url=nobody) == 3
    assert shell.err.count("\n") == 1
    assert shell.err.startswith(f"Error: No server answers at {nobody} (")
    assert "start one with `make serve`, or pass the right address" in shell.err
    assert shell("health", "--json", url=nobody) == 3
    assert nobody in json.loads(shell.out)["error"]["message"]


def test_a_server_that_breaks_is_3(shell: Shell, wire: Wire) -> None:
    wire.faults = [Fault("GET", status=502, body=b"<h1>Bad Gateway</h1>"), Fault("GET", status=200, body=b"{}")]
    assert shell("health") == 3
    assert shell("health") == 3
    assert "is not a Health" in shell.err


def test_health_says_what_runs_and_what_lacks(shell: Shell, wire: Wire) -> None:
    assert shell("health") == 0
    assert shell.out == "ok: model tiny, version 0.1.0, replicas: t2i 1, i2v 1, v2v 1, vfi 1\n"
    wire.health = Health(status="degraded", model="tiny", version="0.1.0", problems=["v2v has no replica"])
    assert shell("health") == 3
    assert "  problem: v2v has no replica\n" in shell.out


def test_status_and_list_show_jobs(shell: Shell, wire: Wire) -> None:
    known = wire.finished("a fox in a snowy forest")
    assert shell("status", known) == 0
    assert shell.out.startswith(f"{known}  completed  100 %\nprompt   a fox in a snowy forest\n")
    assert "  vfi smoothness 100 %  4.5 s" in shell.out
    owl = wire.finished("an owl")
    assert shell("list") == 0
    rows = shell.out.splitlines()
    assert rows[0].split() == ["id", "status", "progress", "created", "prompt"]
    assert [row.split()[0] for row in rows[1:]] == [owl, known]
    assert rows[1].rstrip().endswith("an owl")
    assert shell("list", "--limit", "1", "--json") == 0
    document = json.loads(shell.out)
    assert (len(document["data"]), document["has_more"], document["last_id"]) == (1, True, owl)
    assert shell("status", known, "--json") == 0
    assert json.loads(shell.out)["id"] == known


def test_list_walks_over_pages(shell: Shell, wire: Wire) -> None:
    for number in range(120):
        wire.add(f"a fox, {number}")
    assert shell("list", "--limit", "110", "--json") == 0
    assert len(json.loads(shell.out)["data"]) == 110
    assert wire.count("GET /v1/videos$") == 2


def test_a_prompt_cannot_steer_the_terminal(shell: Shell, wire: Wire) -> None:
    known = wire.finished("a fox\x1b[2J [red]and[/red] an owl")
    assert shell("status", known) == 0
    assert shell("list") == 0
    assert "\x1b" not in shell.out
    assert "[red]and[/red] an owl" in shell.out


def test_download_and_wait(shell: Shell, wire: Wire) -> None:
    known = wire.finished()
    assert shell("download", known, "-o", "fox.mp4") == 0
    assert shell.out == "fox.mp4\n"
    assert Path("fox.mp4").read_bytes() == wire.payload
    running = wire.add("an owl")
    assert shell("download", running) == 2
    assert f"Video {running} is in_progress; add --wait, or look with `magicvideo status`." in shell.err
    assert shell("download", running, "--wait", "--json", "-q") == 0
    assert json.loads(shell.out) == {"id": running, "path": f"{running}.mp4", "bytes": len(wire.payload)}


def test_a_contact_sheet_lies_beside_the_video(shell: Shell, wire: Wire) -> None:
    assert shell("generate", "a fox", "-o", "fox.mp4", "-q", "--contact-sheet", "fox.png") == 0
    assert (Path("fox.mp4").read_bytes(), Path("fox.png").read_bytes()) == (wire.payload, sheet())
    assert shell("download", wire.finished(), "-o", "again.mp4", "-q", "--contact-sheet", "again.png") == 0
    assert Path("again.png").read_bytes() == sheet()
    assert shell("generate", "a fox", "--contact-sheet", "nowhere/fox.png") == 2
    assert len(wire.jobs) == 2


def test_words_that_the_model_does_not_know_are_told(shell: Shell, wire: Wire) -> None:
    note = "This model knows few words: it reads 'Paris' as 'a city'."
    assert shell("generate", "a fox in Paris", "-o", "fox.mp4") == 0
    assert note in shell.err
    assert shell("generate", "a fox in Paris", "-o", "fox.mp4", "--json") == 0
    assert json.loads(shell.out)["note"] == note
    assert shell("generate", "a fox in Paris", "--detach") == 0
    assert (shell.out, shell.err) == (f"{wire.last.id}\n", f"{note}\n")
    assert shell("status", wire.last.id) == 0
    assert f"note     {note}" in shell.out.splitlines()
    Path("list.jsonl").write_text(json.dumps({"name": "one", "prompt": "a fox in Paris"}))
    assert shell("batch", "list.jsonl", "--out", "batch", "--json") == 0
    assert [row["note"] for row in json.loads(shell.out)["rows"]] == [note]
    assert note in shell.err


def test_a_prompt_without_a_subject_is_refused_with_one_that_is_like_it(shell: Shell, wire: Wire) -> None:
    assert shell("generate", "a wolf in a city", "-o", "wolf.mp4") == 2
    assert "Like 'wolf' it knows 'fox' and 'dog'." in " ".join(shell.err.split())
    assert not wire.jobs


def test_cancel(shell: Shell, wire: Wire) -> None:
    running = wire.add("an owl")
    assert shell("cancel", running) == 0
    assert shell.out == f"{running} is cancelled.\n"
    wire.standin.ticks = 1_000_000
    running = wire.add("an owl")
    assert shell("status", running) == 0
    assert shell("cancel", running) == 0
    assert shell.out == f"{running} is being cancelled.\n"  # its stage learns of it next
    assert shell("watch", running, "-q") == 1
    assert shell.err == f"Error: Video {running} failed: The job was cancelled. (cancelled)\n"
    assert shell("cancel", wire.finished(), "--json") == 2
    assert json.loads(shell.out)["error"]["code"] == "video_ended"


def test_delete(shell: Shell, wire: Wire) -> None:
    first, second = wire.finished(), wire.finished()
    assert shell("delete", first) == 0
    assert shell.out == f"{first} is deleted.\n"
    assert shell("delete", second, "--json") == 0
    assert json.loads(shell.out) == {"id": second, "object": "video.deleted", "deleted": True}
    assert wire.jobs == []


def test_help_names_every_command_option_and_exit_code(shell: Shell) -> None:
    assert shell("--help") == 0
    names = "generate remix continue extend upscale interpolate batch watch status show list open download stream"
    for command in (*names.split(), "cancel", "delete", "health", "pools", "load"):
        assert f"\n  {command} " in shell.out
    assert "..." not in shell.out.split("Commands:")[1]  # every short help is whole
    assert shell("generate", "--help") == 0
    options = (
        "--output --seed --size --seconds --steps --guidance --negative-prompt --model --url --api-key --json --quiet "
        "--until --pause-after --candidates --image --priority --deadline --reuse --factor --webhook-url --keyframe "
        "--contact-sheet --detach"
    )
    for option in options.split():
        assert option in shell.out
    text = " ".join(shell.out.split())
    for meaning in ("0 done", "1 the job failed", "2 wrong usage", "3 no server", "130 stopped by Ctrl-C"):
        assert meaning in text
    assert "MAGICVIDEO_URL" in text


@pytest.mark.parametrize(
    ("command", "options", "without"),
    [
        ("generate", CreateOptions, {"input_video", "enter"}),
        ("remix", RemixOptions, set()),
        ("extend", ExtendOptions, set()),
        ("upscale", UpscaleOptions, set()),
        ("interpolate", InterpolateOptions, {"seed", "steps", "guidance", "stages", "negative_prompt"}),
    ],
)
def test_what_a_verb_takes_its_command_takes(command: str, options: type, without: set[str]) -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    taken = {name: parameter for parameter in group.commands[command].params if (name := parameter.name)}
    assert set(options.__annotations__) - set(taken) == {"idempotency_key", *without}
    assert set(taken) >= {"output", "contact_sheet", "detach", "url", "api_key", "as_json", "quiet"}
    assert [name for name, parameter in taken.items() if not getattr(parameter, "help", None)] == []


def test_every_argument_and_option_has_a_help(shell: Shell) -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for name, command in group.commands.items():
        assert shell(name, "--help") == 0
        for parameter in command.params:
            meaning = str(getattr(parameter, "help", None) or "")
            assert meaning, (name, parameter.name)
            assert "".join(meaning.split()) in "".join(shell.out.split()), (name, parameter.name)


def test_version(shell: Shell) -> None:
    assert shell("--version") == 0
    assert shell.out == f"magicvideo {__version__}\n"
