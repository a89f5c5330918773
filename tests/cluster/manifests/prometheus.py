"""A Prometheus of our own that scrapes a stand-in for the server: each metric of the table, in the shape of `/metrics`.

The numbers grow with each scrape, so rates are above zero. It is Debian's package `prometheus`; `needs_prometheus`
marks tests that cannot do without.
"""

import contextlib
import http.server
import itertools
import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.manifests.command import render
from cluster.pools.file import load_pools
from cluster.server_process import free_port
from deployments.observe.metrics import TABLE

KEY = "mv_test"
DEADLINE_S = 120.0
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="Prometheus is not here: apt-get install --no-install-recommends prometheus",
)
SCRAPED = {series.scraped(name): series for name, series in TABLE.items()}
STAGES = ("t2i", "i2v", "v2v", "vfi")
VALUES: dict[str, tuple[str, ...]] = {
    "stage": STAGES,
    "state": ("queued", "running", "succeeded", "failed"),
    "outcome": ("completed", "failed", "kept"),
    "origin": ("restored",),
    "method": ("GET",),
    "route": ("/v1/videos",),
    "status": ("200", "503"),
    "code": ("queue_full",),
    "what": ("files",),
    "pool": ("big", "small", "control"),
    "path": ("t2i", "t2i-i2v-v2v-vfi"),
}
_EDGES = ("0.1", "1.0", "10.0", "+Inf")
_OF_RAY = {"application": "magicvideo", "deployment": "some", "replica": "a1b2"}  # what Serve adds to what is counted


def files() -> dict[str, str]:
    """The committed manifests' own."""
    given = Path(__file__).with_name("rendered")
    text = (given / "serve_config.yaml").read_text()
    return render(load_pools(given / "pools.yaml"), text, image_name="magicvideo:latest")[0]


def text_at(turn: int) -> str:
    """What the server would answer at its `turn`th scrape."""
    lines = []
    for name, metric in SCRAPED.items():
        lines += [f"# HELP {name} Text.", f"# TYPE {name} {metric.kind}"]
        for values in itertools.product(*(VALUES[label] for label in metric.labels)):
            labels = dict(zip(metric.labels, values, strict=True))
            if metric.kind == "gauge":
                lines.append(f"{name}{_braces(labels)} {turn}")
                continue
            labels |= _OF_RAY
            if metric.kind == "counter":
                lines.append(f"{name}{_braces(labels)} {10 * turn}")
                continue
            lines += [f"{name}_bucket{_braces({**labels, 'le': edge})} {i * turn}" for i, edge in enumerate(_EDGES, 1)]
            lines += [f"{name}_count{_braces(labels)} {4 * turn}", f"{name}_sum{_braces(labels)} {9.5 * turn}"]
    return "\n".join(lines) + "\n"


def _braces(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""


class _Answer(http.server.BaseHTTPRequestHandler):
    turns = itertools.count(1)

    def do_GET(self) -> None:
        allowed = self.path == "/metrics" and self.headers.get("Authorization") == f"Bearer {KEY}"
        body = text_at(next(self.turns)).encode() if allowed else b""
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


class Prometheus:
    """One that runs, by its HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """`data` of an answer.

        Raises:
            ValueError: Prometheus refuses it, with its words.
            ConnectionError: It does not serve yet: 503 without JSON while it starts.
        """
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.headers.get_content_type() != "application/json":
                raise ConnectionError(f"{self.url}: {error}") from error
            raise ValueError(f"{parameters}: {json.load(error)['error']}") from error

    def result_of(self, query: str) -> list[Any]:
        found: list[Any] = self.ask("query", query=query)["result"]
        return found


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Prometheus]:
    """With the rendered files, but for address, key file and interval; after the third scrape."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    written = files()
    config = yaml.safe_load(written["prometheus/prometheus.yml"])
    (folder / "alerts.yml").write_text(written["prometheus/alerts.yml"])
    (folder / "key").write_text(KEY)
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    job = config["scrape_configs"][0]
    job["authorization"]["credentials_file"] = str(folder / "key")
    job["static_configs"] = [{"targets": [f"127.0.0.1:{server.server_port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = ["nice", "-n", "15", "prometheus", f"--config.file={folder}/prometheus.yml"]
    command += [f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            prometheus = Prometheus(f"http://127.0.0.1:{port}")
            _wait(prometheus, process, folder / "log")
            yield prometheus
        finally:
            process.terminate()
            process.wait(timeout=DEADLINE_S)
            server.shutdown()
            server.server_close()


def _wait(prometheus: Prometheus, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            found = prometheus.result_of("count_over_time(magicvideo_scrape_lacks[1m])")
            if found and float(found[0]["value"][1]) >= 3:
                return
        threading.Event().wait(0.2)
    raise AssertionError(f"Prometheus has not scraped three times in {DEADLINE_S} s: {log.read_text()}")
