"""The commands for jobs that begin, pause and go on anywhere, and for looking at them: what is sent, what is shown."""

import base64
import os
from pathlib import Path

import pytest

from client._display import print_list, stages_of
from client.schema import CreateVideo, JobError, Reference, RemixVideo, VideoList
from tests.client.shell import Shell
from tests.client.wire import PREVIEW, SHEET, THUMBNAIL, Fault, Wire, keyframe

PNG = b"\x89PNG\r\n\x1a\n a fox"
MP4 = b"\0\0\0\x20ftypisom a fox"


def test_every_new_option_of_generate_reaches_the_server(shell: Shell, wire: Wire) -> None:
    Path("fox.png").write_bytes(PNG)
    options = "--image fox.png --until vfi --priority 3 --deadline 90 --no-reuse --factor 4"
    assert shell("generate", "a fox", "-q", *options.split(), "--webhook-url", "https://example.com/told") == 0
    assert wire.last.request == CreateVideo(
        prompt="a fox",
        until="vfi",
        priority=3,
        deadline_s=90,
        reuse=False,
        factor=4,
        webhook_url="https://example.com/told",
    )
    assert wire.last.files == {"input_reference": PNG}


def test_the_keyframe_is_there_before_the_video(shell: Shell, wire: Wire) -> None:
    assert shell("generate", "a fox", "-o", "fox.mp4", "--keyframe", "key.png", "--json") == 0
    assert Path("key.png").read_bytes() == keyframe(0)
    assert shell.document["keyframes"] == ["key.png"]
    asked = [line for line, _ in wire.seen if line.startswith("GET")]
    assert asked.index("GET /v1/videos/video_0001/content") == 1  # right after the first state that has T2I done
    told = shell.err.splitlines()
    assert told.index("keyframe: key.png") < told.index("vfi frames: 4.5 s")


def test_a_keyframe_that_is_kept_late_is_asked_for_again(shell: Shell, wire: Wire) -> None:
    wire.faults = [Fault("content", status=409), Fault("content", status=409)]
    assert shell("generate", "a fox", "-q", "--keyframe", "key.png") == 0
    assert Path("key.png").read_bytes() == keyframe(0)


def test_a_keyframe_that_never_comes_is_told_and_costs_nothing_else(shell: Shell, wire: Wire) -> None:
    wire.late = {"keyframe"}
    assert shell("generate", "a fox", "-o", "fox.mp4", "--keyframe", "key.png") == 0
    assert "The server keeps no picture of T2I for video_0001, so key.png is not written.\n" in shell.err
    assert os.listdir() == ["fox.mp4"]


def test_candidates_are_looked_at_and_one_is_chosen(shell: Shell, wire: Wire) -> None:
    words = ["--pause-after", "t2i", "--candidates", "2", "--keyframe", "key.png"]
    assert shell("generate", "a fox", *words) == 0
    assert [Path(f"key-{number}.png").read_bytes() for number in (0, 1)] == [keyframe(0), keyframe(1)]
    assert shell.out == (
        "video_0001 is paused after t2i and uses no device.\n"
        "look: magicvideo download video_0001 --variant keyframe --candidate N\n"
        "go on: magicvideo continue video_0001 --candidate N\n"
    )
    assert shell("status", "video_0001") == 0
    assert "paused   after t2i; go on with: magicvideo continue video_0001\n" in shell.out
    assert shell("list") == 0
    assert "  paused" in shell.out
    assert shell("download", "video_0001", "--wait") == 2
    assert shell.err.endswith("is paused after t2i; let it go on with: magicvideo continue video_0001\n")
    assert shell("watch", "video_0001") == 0
    assert "go on: magicvideo continue video_0001 --candidate N" in shell.out
    assert shell("download", "video_0001", "--variant", "keyframe", "--candidate", "1") == 0
    assert Path("video_0001-keyframe.png").read_bytes() == keyframe(1)
    assert shell("continue", "video_0001", "--candidate", "2") == 2
    assert "candidates 0 to 1" in shell.err
    assert shell("continue", "video_0001", "--candidate", "1", "-o", "fox.mp4") == 0
    assert (wire.last.chosen, Path("fox.mp4").read_bytes()) == (1, wire.payload)
    assert shell("continue", "video_0001") == 2
    assert shell.err == "Error: Video video_0001 does not wait to be continued.\n"


@pytest.mark.parametrize(("stage", "look"), [("i2v", "look: magicvideo download ID --variant preview\n"), ("v2v", "")])
def test_a_pause_says_what_can_be_looked_at(shell: Shell, stage: str, look: str) -> None:
    assert shell("generate", "a fox", "--pause-after", stage) == 0
    assert shell.out.replace("video_0001", "ID") == (
        f"ID is paused after {stage} and uses no device.\n{look}go on: magicvideo continue ID\n"
    )
    assert shell("generate", "a fox", "--pause-after", stage, "-q") == 0
    assert shell.out == "video_0002\n"
    assert shell("generate", "a fox", "--pause-after", stage, "--json", "-q") == 0
    assert (shell.document["paused_after"], "path" in shell.document) == (stage, False)


def test_a_job_that_ends_with_a_picture_gives_one(shell: Shell) -> None:
    assert shell("generate", "a fox", "--until", "t2i", "-q") == 0
    assert shell.out == "video_0001.png\n"
    assert shell("generate", "a fox", "--until", "t2i") == 0
    assert shell.out.startswith("video_0002.png  one picture, 256x256, seed 1234\n")
    assert shell("download", "video_0001", "--wait", "-q") == 0
    assert shell.out == "video_0001.png\n"


def test_detach_prints_the_id_and_does_not_wait(shell: Shell, wire: Wire) -> None:
    assert shell("generate", "a fox", "--detach") == 0
    assert (shell.out, shell.err, wire.count("GET")) == ("video_0001\n", "", 0)
    assert shell("generate", "a fox", "-d", "--json") == 0
    assert shell.document["status"] == "queued"
    assert os.listdir() == []


def test_the_place_in_the_queue_is_told_once(shell: Shell, wire: Wire) -> None:
    wire.position = 2
    assert shell("generate", "a fox", "-o", "fox.mp4") == 0
    assert shell.err.splitlines()[0] == "queued: 2 go first, done in about 30 s"
    assert shell.err.count("queued") == 1


def test_remix(shell: Shell, wire: Wire) -> None:
    known = wire.finished("a fox")
    options = "--from i2v --seed 8 --steps 4 --guidance 2 --factor 3 --priority 1 --deadline 60 --until vfi"
    assert shell("remix", known, "an owl", "-o", "owl.mp4", "--negative-prompt", "rain", *options.split()) == 0
    assert wire.last.change == RemixVideo(
        prompt="an owl",
        from_stage="i2v",
        seed=8,
        steps=4,
        guidance=2,
        factor=3,
        priority=1,
        deadline_s=60,
        until="vfi",
        negative_prompt="rain",
    )
    assert Path("owl.mp4").read_bytes() == wire.payload
    assert "t2i image: reused\n" in shell.err
    assert shell("remix", known, "-q") == 0
    assert wire.last.change == RemixVideo()
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
    assert wire.last.request == CreateVideo(prompt="a fox", enter="v2v", seed=7)
    assert wire.last.files == {"input_video": MP4}
    assert shell("upscale", known, "-q") == 0
    assert wire.last.request == CreateVideo(prompt="an owl", enter="v2v", input_video=Reference(id=known))
    assert shell("interpolate", "old.mp4", "--factor", "3", "-o", "smooth.mp4") == 0
    assert (wire.last.request.enter, wire.last.request.factor) == ("vfi", 3)
    assert shell.err.startswith("t2i image: uploaded\ni2v keyframes: uploaded\nv2v redraw: uploaded\n")
    assert shell("interpolate", "absent.mp4") == 2
    assert "there is no file 'absent.mp4' and no video has such an id" in shell.err
    assert shell("upscale", "video_9999") == 2
    assert shell.err == "Error: There is no video 'video_9999'.\n"


def test_variants_have_names_of_their_own(shell: Shell, wire: Wire) -> None:
    known = wire.finished()
    wanted = {
        "thumbnail.webp": THUMBNAIL,
        "spritesheet.png": SHEET,
        "keyframe.png": keyframe(0),
        "preview.mp4": PREVIEW,
    }
    for name, content in wanted.items():
        assert shell("download", known, "--variant", name.partition(".")[0], "-q") == 0
        assert (shell.out, Path(f"{known}-{name}").read_bytes()) == (f"{known}-{name}\n", content)


def test_watch_follows_to_the_end_and_downloads_nothing(shell: Shell, wire: Wire) -> None:
    running = wire.add(CreateVideo(prompt="an owl")).video().id
    assert shell("watch", running) == 0
    assert "vfi frames: 4.5 s\n" in shell.err
    assert shell.out.startswith(f"{running}  completed  100 %\n")
    assert os.listdir() == []
    wire.error = JobError(code="out_of_memory", message="V2V needs 3 GiB more.")
    failing = wire.add(CreateVideo(prompt="an owl")).video().id
    assert shell("watch", failing, "--json", "-q") == 1
    assert shell.document["error"]["code"] == "out_of_memory"


def test_show_tells_everything(shell: Shell, wire: Wire) -> None:
    wire.note, wire.error = "It leaves out 'Paris'.", JobError(code="out_of_memory", message="V2V needs\x1b more.")
    known = wire.finished("a fox in Paris")
    assert shell("show", known) == 0
    lines = shell.out.splitlines()
    assert lines[:4] == [
        f"id        {known}",
        "status    failed, 100 %",
        "prompt    a fox in Paris",
        "model     tiny, 256x256, 2 s, seed 1234",
    ]
    assert "error     V2V needs  more. (out_of_memory)" in lines
    assert "note      It leaves out 'Paris'." in lines
    table = [line.split() for line in lines[lines.index("") + 1 :]]
    assert table[0] == ["stage", "status", "progress", "queued", "run", "out"]
    assert table[1] == ["t2i", "image", "completed", "100", "%", "0.10", "s", "1.50", "s", "-"]
    assert table[4][:3] == ["vfi", "frames", "failed"]
    assert shell("show", known, "--json") == 0
    assert shell.document["note"] == wire.note


def test_pools_are_a_table(shell: Shell) -> None:
    assert shell("pools") == 0
    rows = [line.split() for line in shell.out.splitlines()]
    assert rows[0] == ["stage", "pool", "replicas", "queued", "running", "used", "median", "run"]
    assert rows[1] == ["t2i", "t2i", "1", "of", "2", "3", "1", "50%", "-"]
    assert rows[-1] == ["jobs:", "queued", "3,", "running", "1"]
    assert shell("pools", "--json") == 0
    assert shell.document["jobs"] == {"queued": 3, "running": 1}


def test_keys_are_made_elsewhere(shell: Shell) -> None:
    assert shell("keys") == 2
    assert shell.err == (
        "Keys are made where the server runs, not here; there, run: python -m deployments keys --help\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "a fox", "--image", "absent.png"], "input_reference: there is no file 'absent.png'; check the"),
        (
            ["generate", "a fox", "--keyframe", "absent/key.png"],
            "There is no folder absent for key.png; make it first.",
        ),
        (["generate", "a fox", "--until", "end"], "Invalid value for '--until'"),
        (["generate", "a fox", "--deadline", "inf"], "deadline_s is inf; it must be a finite number."),
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
    video = wire.add(CreateVideo(prompt="a fox")).video()
    skipped = video.stages[0].model_copy(update={"status": "skipped"})
    shown = stages_of(video.model_copy(update={"stages": [skipped, *video.stages[1:]]}))
    assert [stage.name for stage in shown] == ["i2v", "v2v", "vfi"]


def test_a_narrow_terminal_cuts_the_prompt_and_never_the_id(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, wire: Wire
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    page = VideoList(data=[wire.add(CreateVideo(prompt="a fox " * 20)).video()])
    print_list(page)
    row = capsys.readouterr().out.splitlines()[1]
    assert row.startswith("video_0001  queued  0 %")
    assert row.rstrip().endswith("…")
