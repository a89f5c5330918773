"""Commands that docstrings of modules name: each exists, with the verbs and options that stand there."""

import ast
import importlib
import importlib.util
import itertools
import re
import shlex
import sys
from typing import Any

import pytest
import typer

from tests.test_architecture import ROOMS, ROOT

STARTS = ("python -m ", "make ", "magicvideo ", "serve ", "ray ")
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
PLAIN = {"deployments.demo"}  # they take words alone, and have no help
CLICK = {"serve": "ray.serve.scripts", "ray": "ray.scripts.scripts", "magicvideo": "client.cli"}


def commands_of(docstring: str) -> set[str]:
    """What stands between backticks, and lines that are indented; without brackets, dots and what explains it."""
    indented = [line.strip() for line in docstring.splitlines() if line.startswith("    ")]
    quoted = [" ".join(words.split()) for words in re.findall(r"`([^`]+)`", docstring)]
    lines = [re.split(r"\s{2,}", line)[0] for line in (*indented, *quoted)]
    return {re.sub(r"[][]| ?\.\.\.", "", line) for line in lines if line.startswith(STARTS) and "<" not in line}


def all_commands() -> dict[str, str]:
    """The first file that names it, by command."""
    found: dict[str, str] = {}
    for folder in (*ROOMS, "benchmarks", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for command in sorted(commands_of(ast.get_docstring(ast.parse(path.read_text())) or "")):
                found.setdefault(command, str(path.relative_to(ROOT)))
    return found


COMMANDS = all_commands()


def options_of_click(name: str, verbs: list[str]) -> str:
    """Of a command of click or typer, also those that its help hides."""
    found: Any = importlib.import_module(CLICK[name])
    command = typer.main.get_command(found.app) if name == "magicvideo" else found.cli
    for verb in verbs:
        if hasattr(command, "commands"):
            assert verb in command.commands, f"there is no command {name} {verb}"
            command = command.commands[verb]
    return " ".join(option for parameter in command.params for option in parameter.opts)


def help_of_module(
    name: str, verbs: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    name = name.replace("magicvideo_client", "client")  # the wheel's name of it
    if name == "client":
        return options_of_click("magicvideo", verbs)
    found = importlib.util.find_spec(name)
    assert found is not None, f"there is no module {name}"
    if name in PLAIN:
        return ""
    main = importlib.import_module(f"{name}.__main__" if found.submodule_search_locations else name).main
    monkeypatch.setattr(sys, "argv", [name, *verbs, "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 0, told.err
    return told.out


def test_there_are_commands_of_every_folder() -> None:
    assert {name.partition("/")[0] for name in COMMANDS.values()} >= {*ROOMS, "benchmarks"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_a_docstring_exists(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(command)
    options = [word for word in words if word.startswith("--")]
    if words[0] == "make":
        assert words[1] in TARGETS
        return
    place = 3 if words[0] == "python" else 1
    verbs = list(itertools.takewhile(lambda word: not word.startswith("-"), words[place:]))
    if words[0] == "python":
        told = help_of_module(words[2], verbs, monkeypatch, capsys)
    else:
        told = options_of_click(words[0], verbs)
    assert [option for option in options if option not in told] == [], COMMANDS[command]
