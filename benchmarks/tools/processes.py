"""What a running server costs this machine: memory of a process tree, of a replica, bytes in Ray's object store.

Shared pages are divided among those that share them (Linux: PSS), so that a sum over processes counts each page once;
where a system does not tell, pages of one process alone are counted (USS), which is less. Sizes in bytes.

Knows processes by their titles and Ray by its memory report; nothing of jobs.
"""

import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil
import ray
from ray._private import internal_api


@dataclass(frozen=True)
class StoreBytes:
    """Ray's object stores, all nodes together. `spilled` is counted since Ray's start."""

    used: int
    spilled: int


def store_bytes() -> StoreBytes:
    """How it is now, on the Ray that this process is connected to."""
    state = internal_api.get_state_from_address(ray.get_runtime_context().gcs_address)
    stats = internal_api.get_memory_info_reply(state).store_stats
    return StoreBytes(int(stats.object_store_bytes_used), int(stats.spilled_bytes_total))


def replica_process(application: str, deployment: str) -> psutil.Process:
    """The process of a deployment's only replica, below this process.

    Raises:
        RuntimeError: there is none.
    """
    title = f"ServeReplica:{application}:{deployment}"
    for process in psutil.Process().children(recursive=True):
        try:
            if any(title in part for part in process.cmdline()):
                return process
        except psutil.Error:
            continue  # it ended while we looked
    raise RuntimeError(f"No process is called {title!r}; the application is not running, or Ray names it otherwise.")


def tree_bytes(root: psutil.Process) -> int:
    """Memory of `root` and all below it now, shared pages counted once."""
    total = 0
    for process in [root, *root.children(recursive=True)]:
        try:
            memory = process.memory_full_info()
        except psutil.Error:
            continue  # it ended while we looked
        total += int(getattr(memory, "pss", 0) or memory.uss)
    return total


class PeakOfTree:
    """`with PeakOfTree(pid) as peak:` looks once a second; `peak.bytes` is the most that was seen."""

    def __init__(self, pid: int, period_s: float = 1.0) -> None:
        self._root = psutil.Process(pid)
        self._period_s = period_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-of-tree", daemon=True)
        self.bytes = 0

    def look(self) -> None:
        self.bytes = max(self.bytes, tree_bytes(self._root))

    def _watch(self) -> None:
        while not self._end.wait(self._period_s):
            try:
                self.look()
            except psutil.NoSuchProcess:
                return

    def __enter__(self) -> Self:
        self.look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
