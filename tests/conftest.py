"""What holds for all tests: one torch thread a process, since two on a loaded machine spin in turn; Ctrl-C; and order.

`make test` shares the tests between two processes, a file to each at a time. Those of `tests/e2e` share one server and
mostly wait, so one process has them all and begins with them, while the other computes.

A shell starts what it puts in the background with SIGINT ignored, and children inherit that; tests that send a child
SIGINT would then wait for ever.
"""

import os
import signal

import pytest

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read by torch at import, here and in every process that a test starts
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test downloads a model
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests stay together, and put the longest row of them first."""

    def served(item: pytest.Item) -> bool:
        return item.nodeid.startswith("tests/e2e/")

    items.sort(key=lambda item: not served(item))
    for item in items:
        item.add_marker(pytest.mark.xdist_group("e2e" if served(item) else str(item.path)))
