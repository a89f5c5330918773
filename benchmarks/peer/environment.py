"""Systems that this project does not depend on, each in a virtual environment of its own, made on first use with pip.

They ask for packages, and for a Ray, of their own choice, so they never enter this project's environment. `environment`
gives the Python of one under `~/.cache/magicvideo` (or `$MAGICVIDEO_CACHE`); `seconds_of` runs a function there over a
burst of jobs, on a Ray that the function starts itself. Where that cannot be done, for want of a network or of a
version for this Python, both raise one sentence, and the benchmark leaves the figure out.
"""

import json
import os
import pickle
import pkgutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peer.work import Work
from stages.training.scenes.fetch import cache_folder

INSTALL_S, RUN_S = 600, 600
CPUS = 16  # what Ray may hand out, as on the other sides
_ROOT = Path(__file__).resolve().parents[2]
_MARK = "SECONDS "
OURS = ("numpy", "av", "fsspec", "pydantic", "pillow", "safetensors", "rich")  # what the sides import of this project


class PeerError(RuntimeError):
    """Why there is no figure, in one sentence."""


@dataclass(frozen=True)
class Burst:
    """What a function in the other environment gets."""

    work: Work
    jobs: int
    store_bytes: int
    touched_bytes: int  # of the store, before anything is timed


@dataclass(frozen=True)
class Peer:
    """One system. `entry` is "module:function", from a `Burst` to seconds; `modules` are those that it imports."""

    name: str
    packages: Sequence[str]
    modules: Sequence[str]
    entry: str
    dashboard: bool = False  # of Ray, where the peer asks it
    settings: Mapping[str, str] = field(default_factory=dict)  # in the environment of its processes


def environment(peer: Peer) -> Path:
    """The Python that has the peer; made where it is missing.

    Raises:
        PeerError: pip cannot install it.
    """
    cache = cache_folder()
    home = cache / f"venv-{peer.name}"
    python = home / "bin" / "python"
    if _imports(python, peer):
        return python
    print(f"Installing {', '.join(peer.packages)} into {home}, once.", flush=True)
    try:
        bare = [sys.executable, "-m", "venv", "--without-pip", str(home)]
        subprocess.run(bare, check=True, capture_output=True, text=True)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        pip += ["--disable-pip-version-check", *peer.packages]
        subprocess.run(pip, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        raise PeerError(f"{peer.name} cannot be installed here: {said[-1] if said else error}") from error
    if not _imports(python, peer):
        raise PeerError(f"{peer.name} is installed in {home}, but cannot be imported.")
    return python


def seconds_of(peer: Peer, burst: Burst, folder: Path) -> float:
    """Seconds of the burst on the peer.

    Raises:
        PeerError: it cannot be installed here, or did not run to its end.
    """
    python = environment(peer)
    folder.mkdir(parents=True, exist_ok=True)
    task = folder / "task.pickle"
    task.write_bytes(pickle.dumps((peer, burst)))
    command = [str(python), "-c", "from benchmarks.peer.environment import child; child()", str(task)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "VIRTUAL_ENV"))}
    own = {"PYTHONPATH": str(_ROOT), "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    try:
        done = subprocess.run(
            command,
            cwd=_ROOT,
            env={**kept, **own, **peer.settings},
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PeerError(f"{peer.name} did not end within {RUN_S} s.") from error
    told = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if not told:
        last = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
        raise PeerError(f"{peer.name} did not run to its end; its last words are: {last}")
    return float(json.loads(told[-1].removeprefix(_MARK)))


def child() -> None:
    """What runs in the other environment: reads the task, starts Ray, prints the seconds."""
    import numpy as np
    import ray

    peer, burst = pickle.loads(Path(sys.argv[1]).read_bytes())
    entry: Any = pkgutil.resolve_name(peer.entry)
    ray.init(
        "local",
        num_cpus=CPUS,
        object_store_memory=burst.store_bytes,
        include_dashboard=peer.dashboard,
        log_to_driver=False,
    )
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address  # whatever else runs on this machine
    blocks = [ray.put(np.ones(burst.touched_bytes // 8, np.uint8)) for _ in range(8)]
    del blocks
    print(_MARK + json.dumps(float(entry(burst))), flush=True)


def _imports(python: Path, peer: Peer) -> bool:
    if not python.exists():
        return False
    needed = f"import {', '.join(peer.modules)}, {peer.entry.partition(':')[0]}"
    there = {**os.environ, "PYTHONPATH": str(_ROOT)}
    return subprocess.run([str(python), "-c", needed], capture_output=True, check=False, env=there).returncode == 0
