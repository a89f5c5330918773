"""`python -m stages` refuses what it cannot do before it loads anything, and says why."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stages.__main__ import main
from stages.local.mp4 import write_mp4
from stages.presets import PAPER
from stages.settings import without
from stages.sheets import even_frames
from stages.types import Clip

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([""], "The prompt is empty"),
        (["a fox", "--preset", "huge"], "Unknown preset 'huge'"),
        (["a fox", "--preset", "[b]"], "Unknown preset '[b]'"),
        (["a fox", "--size", "1x1"], "'1x1' is not allowed with preset 'tiny'"),
        (["a fox", "--seed", "-4"], "The seed is -4"),
        (["a fox", "--steps", "999"], "steps is 999"),
        (["a fox", "--preset", "modern", "--steps", "4"], 'say it of one: "stages": {"i2v": {"steps": 4}}.'),
        (["a fox", "--preset", "modern", "--stages", '{"i2v": {"steps": 999}}'], "stages.i2v.steps is 999; it must be"),
        (["a fox", "-o", "fox.gif"], "fox.gif ends in .gif, and what is written is .mp4; name it like fox.mp4."),
        (["a fox", "-o", "fox"], "fox has no suffix, and what is written is .mp4"),
        (["a fox", "-o", "."], ". is a folder; name a file in it"),
        (["a fox", "-o", "absent/fox.mp4"], "There is no folder absent for fox.mp4; make it first."),
        (["a fox", "--contact-sheet", "six.bmp"], "six.bmp ends in .bmp, and what is written is .jpeg or .jpg"),
        (["a fox", "-o", "/dev/stdout", "--contact-sheet", "/dev/stdout"], "is to be written twice"),
        (["a fox", "-o", "-", "--contact-sheet", "/dev/fd/1"], "is to be written twice"),
        (["a fox", "--preset", "\x1b[31m"], "Unknown preset '\\x1b[31m'"),
        (["weights", "--preset", "[/x]"], "Unknown preset '[/x]'"),
    ],
)
def test_a_wrong_argument_is_exit_code_2_and_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert "torch" not in arguments


@pytest.mark.parametrize("words", [["--device", "gpu"], ["--threads", "0"], ["--steps", "many"], ["\x1b[31m"]])
def test_a_word_that_is_no_value_is_told_by_the_parser(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["a fox", *words])
    assert ended.value.code == 2
    assert "\x1b" not in capsys.readouterr().err


def test_single_stages_are_told_in_the_words_of_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    for text, told in (("i2v=20", "Invalid JSON"), ('{"i2v": {"stepz": 20}}', "i2v.stepz: "), ('{"vfi": {}}', "vfi: ")):
        with pytest.raises(SystemExit) as ended:
            main(["a fox", "--stages", text])
        assert ended.value.code == 2
        said = " ".join(capsys.readouterr().err.split())
        assert told in said
        assert 'it must look like {"i2v": {"steps": 20}}, of t2i, i2v and v2v' in said


@pytest.mark.slow
def test_a_device_that_is_not_there_is_told_before_weights_are_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["a fox", "--device", "cuda:99", "-o", str(tmp_path / "fox.mp4")]) == 2
    assert "The device is cuda:99, and torch finds" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_wrong_is_told_without_torch() -> None:
    """Seconds, else."""
    code = (
        "import sys; from stages.__main__ import main; from stages.training.__main__ import main as train\n"
        "codes = main(['a fox', '-o', 'a.gif']), train(['i2v', '--data', 'missing.jsonl', '--out', 'mine'])\n"
        "print(codes, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "(2, 2) False\n"
    assert "missing.jsonl cannot be read (No such file or directory)" in done.stderr


@pytest.mark.slow
def test_ctrl_c_is_quiet_and_leaves_yesterdays_file(tmp_path: Path) -> None:
    target = tmp_path / "fox.mp4"
    target.write_text("yesterday's")
    process = subprocess.Popen(
        [sys.executable, "-m", "stages", "a fox", "-o", str(target)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(os.listdir(tmp_path)) < 2 and time.monotonic() < deadline:  # its draft: it has begun
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in told
    assert told.splitlines()[-1] == "Interrupted; nothing was kept."
    assert target.read_text() == "yesterday's"
    assert os.listdir(tmp_path) == ["fox.mp4"]


@pytest.mark.slow
def test_a_video_goes_to_stdout_and_its_sheet_into_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("real.png")
    own = tmp_path / "own.mp4"
    write_mp4(own, [Clip(np.full((2, 64, 64, 3), 90, np.uint8), 8.0)])
    code = (
        "import sys; from stages.__main__ import main; code = main(); print(*sys.modules, file=sys.stderr); exit(code)"
    )
    command = [sys.executable, "-c", code, "a fox", "--video", str(own), "--enter", "vfi", "-o", "-"]
    done = subprocess.run(
        [*command, "--contact-sheet", str(tmp_path / "link.png")], cwd=ROOT, capture_output=True, check=True
    )
    assert len(even_frames(io.BytesIO(done.stdout), 2)) == 2
    assert b"stdout: " in done.stderr
    assert b" torch " in done.stderr
    assert b" diffusers " not in done.stderr, "stages that do not run were loaded"
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes().startswith(b"\x89PNG")


def test_the_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for option in ("--out", "--preset", "--seed", "--size", "--seconds", "--steps", "--guidance", "--device"):
        assert option in done.stdout


def test_an_unknown_mechanism_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a fox", "--without", "motion,wings"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "no mechanism 'wings' to switch off; choose from: motion, appearance, control, beside, prior" in told


def test_mechanisms_are_switched_off_in_the_preset() -> None:
    off = without(PAPER, ["motion", "appearance", "control", "prior", "gan", "sharing"])
    assert (off.motion, off.prior.weight, off.gan, off.share_spatial) == (False, 0.0, False, False)
    for guide in (off.i2v_guide, off.v2v_guide):
        assert (guide.image_scale, guide.controls) == (0.0, ())
    assert without(PAPER, []) == PAPER


def test_weights_and_cost_are_commands_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "--preset", "tiny"]) == 0
    assert "embedded:tiny/unet" in capsys.readouterr().out
