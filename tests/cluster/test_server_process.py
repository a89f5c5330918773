"""A server as a process: what does not start says why, what does ends as on SIGTERM, and stopping twice is once."""

from pathlib import Path

import httpx
import pytest

from cluster.server_process import ServerError, ServerProcess
from tests.packaging.live import config

pytestmark = pytest.mark.slow


def test_what_does_not_start_is_one_sentence_with_its_reason(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    server = ServerProcess("--laptop", "--config", tmp_path / "absent.yaml", log=log)
    with pytest.raises(ServerError, match=r"The server did not start: .*absent\.yaml.* \(all of it: .*server\.log\)"):
        server.start()
    assert (server.alive(), server.returncode) == (False, 2)


def test_it_serves_at_its_address_until_it_is_stopped(tmp_path: Path) -> None:
    server = ServerProcess("--laptop", "--config", config(tmp_path), "--data-dir", tmp_path / "data", own_session=True)
    with server:
        assert server.alive()
        assert httpx.get(f"{server.url}/healthz").status_code == 200
    server.stop()
    assert (server.alive(), server.returncode) == (False, 0)
