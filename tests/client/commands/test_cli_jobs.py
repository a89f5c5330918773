"""The commands for jobs that begin, pause and go on anywhere, and for looking at them: what is sent, what is shown."""

import base64
import io
import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from client.commands.display import describe, print_list, print_pools, stages_of
from client.commands.watching import Bars, Lines
from client.schema import JobError, Pools, PoolState, VideoList
from deployments.api.answers import video_of
from tests.client.shell import Shell
from tests.client.standin import keyframe, preview, sheet, thumbnail
from tests.client.wire import Fault, Wire

PNG, MP4 = keyframe(5), preview()
PAUSED = "Paused for an urgent job; continues in about 40 s."


def test_every_new_option_of_generate_reaches_the_server(shell: Shell, wire: Wire) -> None:
    Path("fox.png").write_bytes(PNG)
    options = "--image fox.png --until vfi --priority 3 --deadline 90 --no-reuse --factor 4"
    assert shell("generate", "a fox", "-q", *options.split(), "--webhook-url", "https://example.com/told") == 0
    assert wire.said == {
        "prompt": "a fox",
        "until": "vfi",
        "priority": "3",
        "deadline_s": "90.0",
        "reuse": "false",
        "factor": "4",
        "webhook_url": "https://example.com/told",
        "input_reference": PNG,
    }


def test_the_keyframe_is_there_before_the_video(shell: Shell, wire: Wire) -> None:
    assert shell("generate", "a fox", "-o", "fox.mp4", "--keyframe", "key.png", "--json") == 0
    assert Path("key.png").read_bytes() == keyframe(0)
    assert shell.document["keyframes"] == ["key.png"]
    asked = [request.line for request in wire.seen if request.line.startswith("GET")]
    assert asked.index(f"GET /v1/videos/{wire.last.id}/content") == 1  # right after the first state that has T2I done
    told = shell.err.splitlines()
    assert told.index("keyframe: key.png") < told.index("vfi smoothness: 4.5 s")


def test_a_keyframe_that_is_kept_late_is_asked_for_again(shell: Shell, wire: Wire) -> None:
    wire.faults = [Fault("content", status=409), Fault("content", status=409)]
    assert shell("generate", "a fox", "-q", "--keyframe", "key.png") == 0
    assert Path("key.png").read_bytes() == keyframe(0)


def test_a_keyframe_that_never_comes_is_told_and_costs_nothing_else(shell: Shell, wire: Wire) -> None:
    wire.standin.keeps = False
    assert shell("generate", "a fox", "-o", "fox.mp4", "--keyframe", "key.png") == 0
    assert f"The server keeps no picture of T2I for {wire.last.id}, so key.png is not written.\n" in shell.err
    assert os.listdir() == ["fox.mp4"]


def test_candidates_are_looked_at_and_one_is_chosen(shell: Shell, wire: Wire) -> None:
    words = ["--pause-after", "t2i", "--candidates", "2", "--keyframe", "key.png"]
    assert shell("generate", "a fox", *words) == 0
    assert [Path(f"key-{number}.png").read_bytes() for number in (0, 1)] == [keyframe(0), keyframe(1)]
    held = wire.last.id
    assert shell.out == (
        f"{held} is paused after t2i and uses no device.\n"
        f"look: magicvideo download {held} --variant keyframe --candidate N\n"
        f"go on: magicvideo continue {held} --candidate N\n"
    )
    assert shell("status", held) == 0
    assert f"paused   after t2i; go on with: magicvideo continue {held}\n" in shell.out
    assert shell("list") == 0
    assert "  paused" in shell.out
    assert shell("download", held, "--wait") == 2
    assert shell.err.endswith(f"is paused after t2i; let it go on with: magicvideo continue {held}\n")
    assert shell("watch", held) == 0
    assert f"go on: magicvideo continue {held} --candidate N" in shell.out
    assert shell("download", held, "--variant", "keyframe", "--candidate", "1") == 0
    assert Path(f"{held}-keyframe.png").read_bytes() == keyframe(1)
    assert shell("continue", held, "--candidate", "2") == 2
    assert "candidates 0 to 1" in shell.err
    assert shell("continue", held, "--candidate", "1", "-o", "fox.mp4") == 0
    assert (wire.last.request.candidate, Path("fox.mp4").read_bytes()) == (1, wire.payload)
    assert shell("continue", held) == 2
    assert "not paused; only a job with --pause-after waits to be continued" in shell.err


@pytest.mark.parametrize(("stage", "look"), [("i2v", "look: magicvideo download ID --variant preview\n"), ("v2v", "")])
def test_a_pause_says_what_can_be_looked_at(shell: Shell, wire: Wire, stage: str, look: str) -> None:
    assert shell("generate", "a fox", "--pause-after", stage) == 0
    assert shell.out.replace(wire.last.id, "ID") == (
        f"ID is paused after {stage} and uses no device.\n{look}go on: magicvideo continue ID\n"
    )
    assert shell("generate", "a fox", "--pause-after", stage, "-q") == 0
    assert shell.out == f"{wire.last.id}\n"
    assert shell("generate", "a fox", "--pause-after", stage, "--json", "-q") == 0
    assert (shell.document["paused_after"], "path" in shell.document) == (stage, False)


def test_a_job_that_ends_with_a_picture_gives_one(shell: Shell, wire: Wire) -> None:
    assert shell("generate", "a fox", "--until", "t2i", "-q") == 0
    first = wire.last.id
    assert (shell.out, Path(f"{first}.png").read_bytes()) == (f"{first}.png\n", keyframe())
    assert shell("generate", "a fox", "--until", "t2i", "--seed", "7") == 0
    assert shell.out.startswith(f"{wire.last.id}.png  one picture, 256x256, seed 7\n")
    assert shell("status", wire.last.id) == 0
    assert "model    tiny, 256x256, one picture, seed 7" in shell.out.splitlines()
    assert shell("download", first, "--wait", "-q") == 0
    assert shell.out == f"{first}.png\n"


def test_detach_prints_the_id_and_does_not_wait(shell: Shell, wire: Wire) -> None:
    assert shell("generate", "a fox", "--detach") == 0
    assert (shell.out, shell.err, wire.count("GET")) == (f"{wire.last.id}\n", "", 0)
    assert shell("generate", "a fox", "-d", "--json") == 0
    assert shell.document["status"] == "queued"
    assert os.listdir() == []


def test_the_place_in_the_queue_is_told_once(shell: Shell, wire: Wire) -> None:
    wire.finished()  # what every stage takes is known
    for _ in range(2):
        wire.add("an owl")
    assert shell("generate", "a fox", "-o", "fox.mp4") == 0
    assert re.fullmatch(r"queued: 2 go first, done in about \d+ s", shell.err.splitlines()[0])
    assert shell.err.count("queued") == 1


def test_remix(shell: Shell, wire: Wire) -> None:
    known = wire.finished("a fox")
    options = "--from t2i --seed 8 --steps 4 --guidance 2 --factor 3 --priority 1 --deadline 60 --until vfi"
    assert shell("remix", known, "an owl", "-o", "owl.mp4", "--negative-prompt", "rain", *options.split()) == 0
    assert wire.said == {
        "prompt": "an owl",
        "from_stage": "t2i",
        "seed": 8,
        "steps": 4,
        "guidance": 2,
        "factor": 3,
        "priority": 1,
        "deadline_s": 60,
        "until": "vfi",
        "negative_prompt": "rain",
    }
    assert Path("owl.mp4").read_bytes() == wire.payload
    assert shell("remix", known, "--from", "i2v", "-o", "fox.mp4") == 0
    assert wire.said == {"from_stage": "i2v"}
    assert "t2i picture: reused\n" in shell.err
    assert shell("remix", known, "-q") == 2
    assert wire.said == {}
    assert shell.err.startswith("Error: Nothing would change; give a prompt,")
    assert shell("remix", known, "--from", "end") == 2
    assert "Invalid value for '--from'" in shell.err


def test_extend(shell: Shell, wire: Wire) -> None:
    known = wire.finished("a fox")
    assert shell("extend", known, "it runs away", "--seconds", "4", "-o", "long.mp4", "-q") == 0
    assert (wire.last.request.prompt, wire.last.request.seconds) == ("it runs away", "4")
    assert Path("long.mp4").read_bytes() == wire.payload


def test_upscale_and_interpolate_take_a_file_or_an_id(shell: Shell, wire: Wire) -> None:
    Path("old.mp4").write_bytes(MP4)
    known = wire.finished("an owl")
    assert shell("upscale", "old.mp4", "--prompt", "a fox", "--seed", "7", "-q") == 0
    assert wire.said == {"prompt": "a fox", "enter": "v2v", "seed": "7", "input_video": MP4}
    assert shell("upscale", known, "-q") == 0
    assert wire.said == {"prompt": "", "enter": "v2v", "input_video": {"id": known}}
    assert shell("interpolate", "old.mp4", "--factor", "3", "-o", "smooth.mp4") == 0
    assert (wire.last.request.enter, wire.last.request.factor) == ("vfi", 3)
    assert "\nv2v detail: uploaded\n" in shell.err
    assert shell("interpolate", "absent.mp4") == 2
    assert "there is no file 'absent.mp4' and no video has such an id" in shell.err
    assert shell("upscale", "video_9999") == 2
    assert shell.err.startswith("Error: No video has the id 'video_9999'")


def test_variants_have_names_of_their_own(shell: Shell, wire: Wire) -> None:
    known = wire.finished()
    wanted = {
        "thumbnail.webp": thumbnail(),
        "spritesheet.png": sheet(),
        "keyframe.png": keyframe(0),
        "preview.mp4": preview(),
    }
    for name, content in wanted.items():
        assert shell("download", known, "--variant", name.partition(".")[0], "-q") == 0
        assert (shell.out, Path(f"{known}-{name}").read_bytes()) == (f"{known}-{name}\n", content)


def test_watch_follows_to_the_end_and_downloads_nothing(shell: Shell, wire: Wire) -> None:
    running = wire.add("an owl")
    assert shell("watch", running) == 0
    assert "vfi smoothness: 4.5 s\n" in shell.err
    assert shell.out.startswith(f"{running}  completed  100 %\n")
    assert os.listdir() == []
    wire.standin.error = JobError(code="out_of_memory", message="V2V needs 3 GiB more.")
    failing = wire.add("an owl")
    assert shell("watch", failing, "--json", "-q") == 1
    assert shell.document["error"]["code"] == "out_of_memory"


def test_show_tells_everything(shell: Shell, wire: Wire) -> None:
    wire.standin.error = JobError(code="out_of_memory", message="V2V needs\x1b more.")
    known = wire.finished("a fox in Paris", seed=7)
    assert shell("show", known) == 0
    lines = shell.out.splitlines()
    assert lines[:4] == [
        f"id        {known}",
        "status    failed, 85 %",
        "prompt    a fox in Paris",
        "model     tiny, 256x256, 2 s, seed 7",
    ]
    assert "error     V2V needs  more. (out_of_memory)" in lines
    note = "This model knows few words: it reads 'Paris' as 'a city'."
    assert f"note      {note}" in lines
    table = [line.split() for line in lines[lines.index("") + 1 :]]
    assert table[0] == ["stage", "status", "progress", "queued", "run", "out", "memory"]
    assert table[1] == ["t2i", "picture", "completed", "100", "%", "0.10", "s", "1.50", "s", "0.00", "MB", "-"]
    assert table[4][:3] == ["vfi", "smoothness", "failed"]
    assert shell("show", known, "--json") == 0
    assert shell.document["note"] == note


def test_pools_are_a_table(shell: Shell, wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    state = PoolState(stage="t2i", pool="a10", replicas=1, wanted=2, queued=3, running=1, utilisation=0.5)
    print_pools(Pools(stages=[state], jobs={"queued": 3, "running": 1}))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["stage", "pool", "replicas", "queued", "running", "used", "median", "run"]
    assert rows[1] == ["t2i", "picture", "a10", "1", "of", "2", "3", "1", "50%", "-"]
    assert rows[-1] == ["jobs:", "queued", "3,", "running", "1"]
    wire.add()
    assert shell("pools") == 0
    assert [line.split()[0] for line in shell.out.splitlines()] == ["stage", "t2i", "i2v", "v2v", "vfi", "jobs:"]
    assert shell("pools", "--json") == 0
    assert shell.document["jobs"] == {"queued": 1}


def test_keys_are_made_elsewhere(shell: Shell) -> None:
    assert shell("keys") == 2
    assert shell.err == (
        "Keys are made where the server runs, not here; there, run: python -m deployments keys --help\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "a fox", "--image", "absent.png"], "--image: there is no file 'absent.png'; check the"),
        (
            ["generate", "a fox", "--keyframe", "absent/key.png"],
            "There is no folder absent for key.png; make it first.",
        ),
        (["generate", "a fox", "--until", "end"], "Invalid value for '--until'"),
        (["generate", "a fox", "--deadline", "inf"], "--deadline is inf; it must be a finite number."),
        (["download", "video_0001", "--variant", "poster"], "Invalid value for '--variant'"),
        (["download", "video_0001", "--candidate", "1"], "candidate is 1 with the variant 'video'"),
        (["interpolate", base64.b64encode(b"fox.mp4").decode() + ".mp4"], "there is no file"),
        (["continue"], "Missing argument 'ID'"),
    ],
)
def test_wrong_usage_is_2_and_reaches_no_server(shell: Shell, wire: Wire, words: list[str], message: str) -> None:
    assert shell(*words) == 2
    assert message in shell.err
    assert wire.seen == []


def test_stages_that_a_job_has_not_are_not_shown(wire: Wire) -> None:
    shown = stages_of(video_of(wire.journal.get(wire.add(until="i2v"))))
    assert [stage.name for stage in shown] == ["t2i", "i2v"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_job_that_stops_for_an_urgent_one_says_so_while_it_is_watched(wire: Wire, terminal: bool) -> None:
    video = video_of(wire.journal.get(wire.add()))
    held = video.model_copy(update={"status": "in_progress", "waits_for": PAUSED})
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with Bars(console) if terminal else Lines(console) as watch:
        for shown in (held, held, held.model_copy(update={"waits_for": None})):
            watch.on_video(shown)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().count(PAUSED) == 1
    assert f"waits    {PAUSED}" in describe(held)


@pytest.mark.parametrize(("columns", "dated"), [(60, False), (80, False), (100, True)])
def test_a_narrow_terminal_cuts_the_prompt_and_never_the_id(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wire: Wire, columns: int, dated: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    known = wire.add("a fox " * 20)
    print_list(VideoList(data=[video_of(wire.journal.get(known))]))
    row = capsys.readouterr().out.splitlines()[1].rstrip()
    assert re.fullmatch(rf"{known}  queued  0 %       {'[-0-9]+ [:0-9]+  ' if dated else ''}a fox .*…", row)
    assert len(row) == max(columns, len(known) + 28)
