"""A server that other machines reach: keys and limits that are changed in its database take effect; Ctrl-C ends it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.tools.chaos import stand_in_config
from cluster.server_process import ROOT, free_port
from deployments.errors import ConfigError
from deployments.jobs.values import Limits
from deployments.journal.database import Database
from deployments.journal.limits import LimitBook
from deployments.server import LocalRay, start
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop
from deployments.tenants.keys import KeyBook
from stages.replay import ReplayProfile
from stages.types import STAGE_NAMES
from tests.e2e.rig import wait_for

pytestmark = pytest.mark.slow

VIDEOS = 4


def other_address() -> str:
    """An address of this machine that is not the loopback's."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and not address.address.startswith("127."):
                return address.address
    pytest.skip("this machine has no address but the loopback's")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/jobs.sqlite")) as opened:
        yield opened


@pytest.fixture
def short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mvt-"))  # Ray's sockets want short paths
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def serving(folder: Path, temp_dir: Path, port: int) -> Iterator["subprocess.Popen[str]"]:
    """The command, to every address of this machine; its folder for data is `folder`, as is that of its log."""
    profiles = dict.fromkeys(STAGE_NAMES, ReplayProfile(run_s=0.2))
    config = stand_in_config(folder / "config.yaml", profiles, lease_s=10.0)
    command = [sys.executable, "-m", "deployments", "serve", "--laptop", "--host", "0.0.0.0", "--port", str(port)]
    command += ["--config", str(config), "--data-dir", str(folder), "--threads", "1"]
    surroundings = {**os.environ, "TMPDIR": str(temp_dir)}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True, env=surroundings) as server,
    ):
        try:
            yield server
        finally:
            server.kill()


def test_a_server_for_other_machines_keeps_them_apart_and_stops_cleanly_on_ctrl_c(
    tmp_path: Path, short_folder: Path, database: Database
) -> None:
    port, address = free_port(), other_address()
    with pytest.raises(ConfigError, match="keys create"):
        start(laptop(load_config(), data_dir=tmp_path), host="0.0.0.0", port=port, where=LocalRay(num_cpus=4))
    text, others = (KeyBook(database).create(tenant)[1] for tenant in ("studio", "other"))
    LimitBook(database).change("studio", {"max_running": 1}, Limits())
    with serving(tmp_path, short_folder, port) as server:
        assert server.stdout is not None
        assert f"http://127.0.0.1:{port}" in server.stdout.readline(), (tmp_path / "log").read_text()
        outside = httpx.Client(base_url=f"http://{address}:{port}", timeout=60.0)
        inside = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60.0)
        studio, other = ({"authorization": f"Bearer {mine}"} for mine in (text, others))
        assert [client.get("/v1/videos").status_code for client in (outside, inside)] == [401, 401]

        ids = [outside.post("/v1/videos", json={"prompt": "a fox"}, headers=studio).json()["id"] for _ in range(VIDEOS)]
        assert inside.get(f"/v1/videos/{ids[0]}", headers=other).status_code == 404
        most = 0

        def all_done() -> bool:
            nonlocal most
            page = inside.get("/v1/videos", headers=studio).json()["data"]
            found = [video["status"] for video in page]
            most = max(most, found.count("in_progress"))
            return found == ["completed"] * VIDEOS

        wait_for("every video", all_done)
        assert most == 1

        def refused() -> bool:
            late = inside.post("/v1/videos", json={"prompt": "a fox", "deadline_s": 0.1}, headers=studio).json()
            return bool(late["error"]) and late["error"]["code"] == "deadline_infeasible"

        wait_for("a deadline out of reach", refused)

        for known in KeyBook(database).all():
            KeyBook(database).revoke(known.id)
        wait_for("the end of the keys", lambda: inside.get(f"/v1/videos/{ids[0]}", headers=studio).status_code == 401)
        assert inside.get("/v1/videos").status_code == 401
        KeyBook(database).open()
        wait_for("an open server", lambda: inside.get("/v1/videos").status_code == 200)
        assert inside.get("/v1/videos").json()["data"] == []
        assert outside.get("/v1/videos").status_code == 401
        assert inside.get("/v1/videos", headers={"x-forwarded-for": "1.2.3.4"}).status_code == 401
        assert outside.get("/healthz").status_code == 200
        for client in (outside, inside):
            client.close()
        server.send_signal(signal.SIGINT)
        rest, _ = server.communicate(timeout=120)
    assert (server.returncode, rest) == (0, "")
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert len(list((tmp_path / "artifacts").rglob("*.mp4"))) == VIDEOS
