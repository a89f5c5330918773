"""The table of mechanisms in `stages/README.md`: every file and every test that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "stages" / "README.md").read_text()
ROWS = [line for line in README.splitlines() if line.startswith("| ")]


def test_every_file_and_test_of_the_table_is_there() -> None:
    named = [word for row in ROWS for word in re.findall(r"`((?:stages|tests)/[\w/]+\.py(?:::\w+)?)`", row)]
    assert len(named) > 30
    for word in named:
        path, _, test = word.partition("::")
        assert (ROOT / path).is_file(), word
        assert not test or f"def {test}(" in (ROOT / path).read_text(), word


def test_every_file_of_the_folder_is_explained() -> None:
    for path in (ROOT / "stages").iterdir():
        if path.name == "README.md" or (path.name.startswith("__") and path.name != "__main__.py"):
            continue
        name = path.name if path.is_file() else f"{path.name}/"
        assert f"`{name}`" in README, name
