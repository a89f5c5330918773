"""What holds for all tests: one torch thread a process, since two on a loaded machine spin in turn; Ctrl-C; and order.

`make test` shares the tests between two processes, a file to each at a time. Those of `tests/e2e` share one server and
mostly wait, so one process has them all and begins with them, while the other computes.

A shell starts what it puts in the background with SIGINT ignored, and children inherit that; tests that send a child
SIGINT would then wait for ever.
"""

import os
import signal
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read by torch at import, here and in every process that a test starts
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test downloads a model
os.environ.setdefault("RAY_worker_niceness", "0")  # else Ray's own 15, and the other test process leaves it nothing
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc]
    """Shares out files, and `tests/e2e` as one."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/e2e" if nodeid.startswith("tests/e2e/") else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    """Asked by pytest-xdist."""
    return FilesTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest row first."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/e2e/"))
