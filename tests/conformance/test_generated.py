"""What generators make of `/openapi.json` makes a video and downloads it: Python and TypeScript."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.kits import NoKitError, kit, program
from tests.conformance.suite import PROGRAMS
from tests.conformance.worked import Worked

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = Worked(tmp_path_factory.mktemp("generated"))
    running.start()
    yield running.url
    running.stop()


def run(folder: Path, *command: str | Path) -> str:
    ran = subprocess.run(
        [str(word) for word in command], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def made(said: str) -> Any:
    """The last line of a program."""
    return json.loads(said.splitlines()[-1])


def needed(name: str) -> Path:
    try:
        return kit(name)
    except NoKitError as error:
        pytest.skip(str(error))


def test_the_python_client_of_a_generator_makes_a_video(url: str, tmp_path: Path) -> None:
    needed("openapi-python-client")
    generator = program("openapi-python-client", "openapi-python-client")
    where = ("--meta", "none", "--output-path", "generated_client")
    run(tmp_path, generator, "generate", "--url", f"{url}/openapi.json", *where)
    (tmp_path / "main.py").write_text((PROGRAMS / "generated.py").read_text())
    video = made(run(tmp_path, program("openapi-python-client", "python"), "main.py", url))
    assert (video["id"][:6], video["seed"], video["bytes"] > 100) == ("video_", 7, True)


def test_the_typescript_client_of_a_generator_compiles_and_makes_a_video(url: str, tmp_path: Path) -> None:
    modules = needed("node") / "node_modules"
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    run(tmp_path, program("node", "openapi-typescript"), f"{url}/openapi.json", "--output", "schema.d.ts")
    (tmp_path / "main.ts").write_text((PROGRAMS / "generated.ts").read_text())
    strict = ("--strict", "--module", "nodenext", "--target", "es2022", "--types", "node", "main.ts")
    run(tmp_path, program("node", "tsc"), *strict)
    video = made(run(tmp_path, "node", "main.js", url))
    assert (video["id"][:6], video["seed"], video["bytes"] > 100) == ("video_", 7, True)
