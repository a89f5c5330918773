"""The wheel: it holds the client and nothing else, and works in an empty environment against a live server.

Builds a copy of the repository with the build backend of this environment (nothing is downloaded for that), then lets
pip install the wheel with its dependencies into a new venv; that step needs a package index.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import av
import pytest

from client import Client, VideoFailedError
from tests.e2e.rig import Rig

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "*.safetensors", "*.mp4", "build", "dist", "out")
MODULES = {str(path.relative_to(ROOT / "client")) for path in (ROOT / "client").rglob("*.py")} | {"py.typed"}


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env=env, cwd=cwd
    )
    assert done.returncode == 0, (
        f"{command} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, folder / "source", ignore=LEFT_OUT)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, folder / "source")
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def venv(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a venv that holds the wheel and what pip installed for it."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    # Not in the repository's folder: the egg-info of a development install there would pass for an installed package.
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet")
    run(*pip, "--disable-pip-version-check", wheel, cwd=folder, env=elsewhere())
    return folder / "bin"


@pytest.fixture
def url(rig: Rig) -> str:
    return rig.url


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def elsewhere(**more: str) -> dict[str, str]:
    """An environment in which the repository cannot be imported by accident."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MAGICVIDEO_API_KEY")}
    return {**kept, **more}


def test_it_holds_the_client_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    (information,) = (top for top in tops if top.endswith(".dist-info"))
    assert tops == {"magicvideo_client", information}
    assert {name.removeprefix("magicvideo_client/") for name in names if not name.startswith(information)} == MODULES
    assert {f"{information}/licenses/{name}" for name in ("LICENSE", "NOTICE")} <= set(names)


def test_it_asks_for_what_the_client_needs_and_no_more(wheel: Path) -> None:
    wanted = metadata(wheel).get_all("Requires-Dist") or []
    core = {line.split(">")[0].split("[")[0].strip() for line in wanted if "extra ==" not in line}
    assert core == {"httpx", "pydantic", "rich", "typer"}


def test_its_version_is_the_one_that_the_package_says(wheel: Path) -> None:
    import client

    assert metadata(wheel)["Version"] == client.__version__


def test_the_environment_has_neither_torch_nor_ray_nor_our_servers_folders(venv: Path) -> None:
    code = (
        "import importlib.util as u, json; "
        "print(json.dumps([n for n in "
        "['torch', 'ray', 'numpy', 'fastapi', 'client', 'stages', 'deployments', 'cluster'] if u.find_spec(n)]))"
    )
    assert json.loads(run(venv / "python", "-c", code, env=elsewhere(), cwd=venv)) == []


def frames_of(path: Path) -> int:
    """How many pictures the file really holds."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_the_installed_command_makes_a_video_on_a_live_server(venv: Path, url: str, tmp_path: Path) -> None:
    target = tmp_path / "fox.mp4"
    words = ("generate", "a fox in a snowy forest at dusk", "-o", target, "--seed", "7", "--json", "--url", url)
    document = json.loads(run(venv / "magicvideo", *words, env=elsewhere(), cwd=tmp_path))
    assert (document["status"], document["seed"], document["path"]) == ("completed", 7, str(target))
    assert [stage["status"] for stage in document["stages"]] == ["completed"] * 4
    assert frames_of(target) == document["frames"]
    listed = json.loads(run(venv / "magicvideo", "list", "--json", env=elsewhere(MAGICVIDEO_URL=url)))
    assert document["id"] in [video["id"] for video in listed["data"]]
    assert run(venv / "python", "-m", "magicvideo_client", "health", "--url", url, cwd=tmp_path).startswith("ok: ")


def test_a_live_server_refuses_what_the_preset_cannot_do(venv: Path, url: str, tmp_path: Path) -> None:
    command = [str(venv / "magicvideo"), "generate", "a fox", "--size", "7x7", "-q", "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=elsewhere(), cwd=tmp_path)
    assert done.returncode == 2
    assert "7x7" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_installed_module_makes_a_video_on_a_live_server(venv: Path, url: str, tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\n"
        "from magicvideo_client import AsyncClient, Client, NotFoundError\n"
        "with Client(sys.argv[1]) as client:\n"
        "    video = client.videos.create_and_wait('a fox')\n"
        "    client.videos.download(video.id, 'fox.mp4')\n"
        "async def remove():\n"
        "    async with AsyncClient(sys.argv[1]) as client:\n"
        "        assert (await client.videos.delete(video.id)).deleted\n"
        "        try:\n"
        "            await client.videos.retrieve(video.id)\n"
        "        except NotFoundError:\n"
        "            print('gone', video.frames)\n"
        "asyncio.run(remove())\n"
    )
    printed = run(venv / "python", "-c", code, url, env=elsewhere(), cwd=tmp_path)
    assert printed == f"gone {frames_of(tmp_path / 'fox.mp4')}\n"


def test_the_same_key_twice_is_one_job_on_a_live_server(url: str) -> None:
    with Client(url) as client:
        first, second = (client.videos.create("an owl", idempotency_key="owl-1") for _ in range(2))
    assert first.id == second.id


def test_a_running_job_that_is_deleted_ends_as_cancelled_on_a_live_server(url: str) -> None:
    with Client(url) as client:
        video = client.videos.create("a whale")
        assert client.videos.delete(video.id).deleted
        with pytest.raises(VideoFailedError, match="cancelled"):
            client.videos.wait(video.id, timeout_s=120)


def test_the_wheel_is_typed(venv: Path) -> None:
    code = "from importlib.resources import files; print(files('magicvideo_client').joinpath('py.typed').is_file())"
    assert run(venv / "python", "-c", code, env=elsewhere(), cwd=venv) == "True\n"
