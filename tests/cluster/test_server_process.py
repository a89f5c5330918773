"""A server as a process: what does not start says why. One that does: `tests/e2e/cluster/test_short.py`."""

from pathlib import Path

import pytest

from cluster.server_process import ServerError, ServerProcess

pytestmark = pytest.mark.slow


def test_what_does_not_start_is_one_sentence_with_its_reason(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    server = ServerProcess("--laptop", "--config", tmp_path / "absent.yaml", log=log)
    with pytest.raises(ServerError, match=r"The server did not start: .*absent\.yaml.* \(all of it: .*server\.log\)"):
        server.start()
    assert (server.alive(), server.returncode) == (False, 2)
