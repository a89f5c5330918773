"""`python -m stages` refuses what it cannot do before it loads anything, and says why."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([""], "The prompt is empty"),
        (["a fox", "--preset", "huge"], "Unknown preset 'huge'"),
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
