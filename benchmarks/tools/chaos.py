"""A real server whose processes can be killed: `python -m deployments serve --laptop` below this process.

`Target` starts it, finds its processes by their titles, kills one of them or all of them with SIGKILL, or stops one for
a while, and starts it again on the same data. `crash_postgres` has its database go down and recover. They touch only
processes that descend from what was started here. `stand_in_config` writes the file
with replayed stages that the server is given. Knows nothing of jobs.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg
import yaml

from cluster.server_process import STOP_S, ServerError, ServerProcess
from deployments.app import APP_NAME
from deployments.settings.reading import CONFIG_PATH
from stages.replay import ReplayProfile
from stages.types import STAGE_NAMES, StageName

ALL = "all"  # the whole process tree
KINDS: tuple[str, ...] = (*STAGE_NAMES, "keeper", "pipeline", "ingress", "proxy")
RAYLET, POSTGRES, FROZEN = "raylet", "postgres", "frozen"
STARTS = 5  # of the whole server, one after the other, before it counts as broken


@dataclass(frozen=True)
class Kill:
    """One process, or all, that was killed."""

    kind: str
    at: float  # seconds since the epoch
    pids: frozenset[int]


def stand_in_config(
    path: Path, profiles: Mapping[StageName, ReplayProfile], lease_s: float, state_every_s: float = 0.0
) -> Path:
    """serve_config.yaml with replayed stages and a short lease."""
    document = yaml.safe_load(CONFIG_PATH.read_text())
    args = document["applications"][0]["args"]
    args["pipeline"]["lease_s"] = lease_s
    args.setdefault("keeper", {})["state_every_s"] = state_every_s
    for name in STAGE_NAMES:
        args["stages"][name]["factory"] = "stages.replay:ReplayStage"
        args["stages"][name]["options"] = {"stage": name, **profiles[name].options()}
    path.write_text(yaml.safe_dump(document))
    return path


class Target:
    """`with Target(...)` runs the server; `url` stays the same over every restart."""

    def __init__(
        self, config: Path, data_dir: Path, temp_dir: Path, database_url: str | None = None, log: Path | None = None
    ) -> None:
        """`temp_dir`: for what a killed Ray leaves behind; a short path, as Ray puts sockets there."""
        options = ("--laptop", "--config", config.absolute(), "--data-dir", data_dir, "--threads", 1)
        environment = {"TMPDIR": str(temp_dir), **({"DATABASE_URL": database_url} if database_url else {})}
        self._server = ServerProcess(*options, environment=environment, log=log)
        self.url, self.port = self._server.url, self._server.port
        self.starts = 0

    def start(self) -> None:
        """Returns when it serves.

        Raises:
            RuntimeError: it ended instead, `STARTS` times.
        """
        for _ in range(STARTS):
            self.starts += 1
            with suppress(ServerError):  # it has said why
                self._server.start()
                return
        raise RuntimeError(f"The server did not start {STARTS} times; see above why.")

    def alive(self) -> bool:
        return self._server.alive()

    def present(self) -> list[str]:
        """The kinds of processes that there are now."""
        return [kind for kind in KINDS if self.processes(kind)]

    def kill(self, kind: str) -> Kill | None:
        """Kill one process of a kind; None where there is none. `ALL` kills the server's whole tree."""
        if kind == ALL:
            return Kill(ALL, time.time(), frozenset(process.pid for process in self._kill_tree()))
        found = self.processes(kind)
        if not found:
            return None
        victim = random.choice(found)
        with suppress(psutil.NoSuchProcess):
            victim.kill()
            return Kill(kind, time.time(), frozenset({victim.pid}))
        return None

    def freeze(self, kind: str, wait: Callable[[], object]) -> Kill | None:
        """Stop one process of a kind with SIGSTOP until `wait` returns; None where there is none."""
        for victim in self.processes(kind)[:1]:
            at = time.time()
            with suppress(psutil.NoSuchProcess):
                victim.suspend()
                wait()
                victim.resume()
            return Kill(FROZEN, at, frozenset({victim.pid}))
        return None

    def ended(self, limit_s: float) -> bool:
        """Whether the server has ended by itself within that time."""
        return self._server.ended(limit_s)

    @property
    def returncode(self) -> int | None:
        """Of a server that was stopped, or had ended before that."""
        return self._server.returncode

    def stop(self) -> None:
        """In order, as SIGTERM asks for; by force where that takes too long."""
        tree = self.tree()
        self._server.stop()
        _kill(tree)

    def tree(self) -> list[psutil.Process]:
        """The server and all processes below it."""
        if not self.alive():
            return []
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self._server.pid)
            return [root, *root.children(recursive=True)]
        return []

    def processes(self, kind: str) -> list[psutil.Process]:
        title = {"proxy": "ProxyActor", RAYLET: "/raylet/raylet "}.get(kind, f"ServeReplica:{APP_NAME}:{kind}")
        return [process for process in self.tree() if title in _command(process)]

    def _kill_tree(self) -> Sequence[psutil.Process]:
        tree = self.tree()  # taken before the first of them dies, as orphans belong to nobody
        _kill(tree)
        self._server.stop()
        return tree

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def crash_postgres(url: str) -> Kill:
    """Kill one backend with SIGKILL: PostgreSQL then ends all of them, and recovers from its log."""
    with psycopg.connect(url, autocommit=True) as connection:
        pid = connection.info.backend_pid
        at = time.time()
        psutil.Process(pid).kill()
    return Kill(POSTGRES, at, frozenset({pid}))


def _kill(tree: Sequence[psutil.Process]) -> None:
    for process in tree:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(tree, timeout=STOP_S)


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""  # it ended while we looked
