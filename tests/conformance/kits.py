"""Programs of others, pinned, each in an environment of its own below `~/.cache/magicvideo/kits`, made on first use.

They are no dependencies of this project and often contradict each other's. A kit is named after what is in it, so that
another version is another folder; two processes that want one make it once. Where it cannot be made, because node or
npm is missing or a registry is away, `NoKitError` says why in a sentence.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

KITS: Mapping[str, Sequence[str]] = {
    "openai-python": ("openai==3.57.0",),
    "openai-python-2": ("openai==2.54.0",),
    "litellm": ("litellm==1.110.2",),
    "litellm-proxy": ("litellm[proxy]==1.108.7",),
    "aiperf": ("aiperf==0.13.0",),
    "openapi-python-client": ("openapi-python-client==0.29.1",),
    "node": (
        "openai@6.49.0",
        "openapi-typescript@7.13.0",
        "openapi-fetch@0.17.0",
        "typescript@5.9.3",
        "@types/node@24.0.0",
    ),
}
ROOT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "magicvideo" / "kits"
_INSTALL_S = 900


class NoKitError(Exception):
    """It cannot be had here."""


def kit(name: str) -> Path:
    """The folder of a kit: a virtual environment, or one with `node_modules`.

    Raises:
        NoKitError: it cannot be made.
    """
    wanted = "\n".join(KITS[name])
    folder = ROOT / f"{name}-{hashlib.sha256(wanted.encode()).hexdigest()[:10]}"
    done = folder / "complete"
    if done.exists():
        return folder
    ROOT.mkdir(parents=True, exist_ok=True)
    with _alone(folder.with_suffix(".lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            for command in _commands(name, folder):
                _run(command, name, folder)
            done.write_text(wanted)
    return folder


def program(name: str, command: str) -> Path:
    """What a kit has for the command line."""
    return kit(name) / ("node_modules/.bin" if name == "node" else "bin") / command


def _commands(name: str, folder: Path) -> list[list[str]]:
    if name != "node":
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
        bare = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        return [bare, [*pip, "--disable-pip-version-check", *KITS[name]]]
    if missing := [tool for tool in ("node", "npm") if shutil.which(tool) is None]:
        raise NoKitError(f"{' and '.join(missing)} cannot be found; install Node.js 20 or newer.")
    folder.mkdir()
    install = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact"]
    return [[*install, *KITS[name]]]


def _run(command: list[str], name: str, folder: Path) -> None:
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise NoKitError(f"{', '.join(KITS[name])} was not installed within {_INSTALL_S} s.") from None
    if ran.returncode:
        said = (ran.stderr.strip() or ran.stdout.strip()).splitlines() or ["no word"]
        raise NoKitError(f"{', '.join(KITS[name])} cannot be installed into {folder}: {said[-1]}")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
