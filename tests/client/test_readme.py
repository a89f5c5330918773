"""The folder's README: its snippets are run as they stand, its tables name what there is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import client
from client import cli, errors
from client._core.client import Videos
from client.commands import outcome
from tests.client.wire import Wire

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "client" / "README.md").read_text()
SNIPPETS: list[tuple[str, str]] = re.findall(r"```(python|sh)\n(.*?)```", README, flags=re.DOTALL)


def test_there_is_something_to_run() -> None:
    assert [language for language, _ in SNIPPETS].count("python") >= 3
    assert "sh" in [language for language, _ in SNIPPETS]


@pytest.mark.parametrize(
    ("language", "code"),
    [
        # Each start of the command takes a third of a second.
        pytest.param(kind, code, id=f"{number}-{kind}", marks=[pytest.mark.slow] if kind == "sh" else [])
        for number, (kind, code) in enumerate(SNIPPETS)
    ],
)
def test_snippets_run(wire: Wire, tmp_path: Path, language: str, code: str) -> None:
    """With the address of the test's server; the command is the one that the development install put beside Python."""
    folder = Path(sys.executable).parent
    environment = {**os.environ, "MAGICVIDEO_URL": wire.url, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    code = code.replace("http://127.0.0.1:8000", wire.url)
    command = [sys.executable, "-c", code] if language == "python" else ["sh", "-euc", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    made = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert made != []
    assert {path.read_bytes() for path in made if path.suffix == ".mp4"} <= {wire.payload}


def test_every_command_is_in_a_table_and_in_a_snippet() -> None:
    shown = "".join(code for language, code in SNIPPETS if language == "sh")
    apart = {"watch", "stream", "status", "cancel", "open"}  # they need a running job or a browser, or say less
    assert [name for name in cli.COMMANDS if f"`{name}" not in README] == []
    assert [name for name in cli.COMMANDS if f"magicvideo {name}" not in shown and name not in apart] == []


def test_every_public_error_and_verb_is_in_a_table() -> None:
    kinds = [name for name in client.__all__ if isinstance(getattr(errors, name, None), type)]
    verbs = [name for name in vars(Videos) if not name.startswith("_")]
    assert len(kinds) > 10
    assert [name for name in (*kinds, *verbs) if f"`{name}" not in README] == []


def test_the_exit_codes_are_the_commands() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)}
    assert told == {0, outcome.FAILED, outcome.REFUSED, outcome.UNREACHABLE, outcome.INTERRUPTED, outcome.UNREAD}


def test_every_file_beside_the_rooms_is_explained() -> None:
    files = {path.name for path in (ROOT / "client").glob("*.py") if not path.name.startswith("_")}
    assert [name for name in sorted(files) if f"`{name}`" not in README] == []
