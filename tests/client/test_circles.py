"""No file of the client imports itself by a detour, not even for types alone."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

CLIENT = Path(__file__).resolve().parents[2] / "client"


def imported(path: Path) -> set[Path]:
    """The files of the client that a file imports; of the package's face only its submodules count."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split(".") if node.module else ())
            found |= {base.with_suffix(".py"), *((base / alias.name).with_suffix(".py") for alias in node.names)}
    return {file for file in found if file.exists()}


def test_no_circle_of_files() -> None:
    graph = {path: imported(path) for path in CLIENT.rglob("*.py")}
    assert len(graph) > 20
    assert sum(len(files) for files in graph.values()) > 60
    TopologicalSorter(graph).prepare()  # raises with the circle where there is one
