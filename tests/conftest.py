"""What holds for all tests: one torch thread a process, since two on a loaded machine spin in turn; Ctrl-C; and order.

`make test` shares the tests between two processes, a file to each at a time. Those that share one server (`rig`) mostly
wait, so one process has them all and begins with them; those that start servers of their own mostly wait too, and the
other process begins with them. A third process gained nothing on two cores.

A shell starts what it puts in the background with SIGINT ignored, and children inherit that; tests that send a child
SIGINT would then wait for ever.
"""

import gc
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

if TYPE_CHECKING:
    from tests.e2e.rig import Rig

OWN = (  # what starts a server or a cluster of its own
    *("tests/e2e/cluster/", "tests/e2e/test_chaos.py", "tests/e2e/test_experiment.py", "tests/e2e/test_box.py"),
    *("tests/e2e/test_tenancy.py", "tests/e2e/test_start.py::test_a_broken_stage"),
    "tests/test_readme.py::test_the_commands_that_make_a_video",
)
SERVED = (  # what uses the one server
    *("tests/e2e/", "tests/conformance/test_clients.py"),
    *("tests/packaging/test_wheel.py", "tests/test_readme.py"),
)

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else every process compiles all that it imports of ours anew
sys.dont_write_bytecode = False
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read by torch at import, here and in every process that a test starts
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test downloads a model
os.environ.setdefault("RAY_worker_niceness", "0")  # else Ray's own 15, and the other test process leaves it nothing
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`make quick` does not load files that are slow as a whole: what they import takes longer than its tests do."""
    if collection_path.suffix != ".py" or "not slow" not in config.option.markexpr:
        return None
    return bool(re.search(r"^pytestmark = .*pytest\.mark\.slow", collection_path.read_text(), re.MULTILINE)) or None


class FilesTogether(LoadScopeScheduling):  # type: ignore[misc]
    """Shares out files, those of `OWN` as one, and those of `SERVED` as one."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(OWN):
            return "own"
        return "served" if nodeid.startswith(SERVED) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FilesTogether:
    """Asked by pytest-xdist."""
    return FilesTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest rows first, then files with slow tests; the short ones at the end let all processes end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(
        key=lambda item: (
            not item.nodeid.startswith(OWN),  # where all is one process: a cluster before the one server is there
            not item.nodeid.startswith(SERVED),
            item.nodeid.startswith("tests/conformance/"),
            item.path not in slow,
        )
    )


def pytest_collection_finish() -> None:
    """What is imported lives to the end; looking through it for cycles again and again is a tenth of all work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_unconfigure() -> None:
    """PostgreSQL's processes and files end with the session."""
    if found := sys.modules.get("tests.postgres"):
        found.stop()


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Rig]":
    """One server for the session: the real application on a real Ray, its stages replayed, all else as served."""
    from tests.e2e.rig import Rig  # here, as Ray is slow to load and most tests need none

    with Rig(tmp_path_factory.mktemp("data")) as running:
        yield running
