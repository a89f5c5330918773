"""`python -m stages` refuses what it cannot do before it loads anything, and says why."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.__main__ import main
from stages.presets import PAPER
from stages.settings import without

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
    ],
)
def test_a_wrong_argument_is_exit_code_2_and_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert "torch" not in arguments


def test_the_help_names_every_option() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for option in ("--out", "--preset", "--seed", "--size", "--seconds", "--steps", "--guidance", "--device"):
        assert option in done.stdout


def test_an_unknown_mechanism_names_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["a fox", "--without", "motion,wings"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "no mechanism 'wings' to switch off; choose from: motion, appearance, control, prior" in told


def test_mechanisms_are_switched_off_in_the_preset() -> None:
    off = without(PAPER, ["motion", "appearance", "control", "prior", "gan", "sharing"])
    assert (off.motion, off.prior.weight, off.gan, off.share_spatial) == (False, 0.0, False, False)
    for guide in (off.i2v_guide, off.v2v_guide):
        assert (guide.image_scale, guide.controls) == (0.0, ())
    assert without(PAPER, []) == PAPER


def test_weights_and_cost_are_commands_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "--preset", "tiny"]) == 0
    assert "embedded:tiny/unet" in capsys.readouterr().out
