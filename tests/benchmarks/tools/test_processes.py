"""Memory of process trees, on real processes."""

import subprocess
import sys

import psutil
import pytest

from benchmarks.tools.processes import PeakOfTree, replica_process, tree_bytes

HELD = 200 * 2**20
CHILD = f"held = bytearray({HELD}); held[:: 4096] = b'x' * len(held[:: 4096]); print('held', flush=True); input()"


def test_a_child_counts_and_a_peak_outlives_it() -> None:
    with PeakOfTree(psutil.Process().pid) as peak:
        before = tree_bytes(psutil.Process())
        with subprocess.Popen([sys.executable, "-c", CHILD], stdin=-1, stdout=-1, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "held\n"
            peak.look()
            assert tree_bytes(psutil.Process()) >= before + HELD
            child.communicate("\n")
        assert child.returncode == 0
        assert tree_bytes(psutil.Process()) < before + HELD / 2
    assert peak.bytes >= before + HELD


def test_a_replica_that_is_not_there_is_named() -> None:
    with pytest.raises(RuntimeError, match="ServeReplica:magicvideo:nobody"):
        replica_process("magicvideo", "nobody")
