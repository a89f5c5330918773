"""Every client against one server, and the table of what worked.

Bodies (`bodies`) are sent by this process; programs (`programs/`) run with the packages of their kits (`kits`), each
printing a line for every operation. A client whose kit cannot be had has no rows, but a reason.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import yaml

from cluster.server_process import free_port
from stages.replay import ReplayProfile
from stages.types import STAGE_NAMES, StageName
from tests.conformance import bodies
from tests.conformance.kits import NoKitError, kit, program
from tests.e2e.rig import wait_for

PROGRAMS = Path(__file__).with_name("programs")
PROGRAM_S = 600
PROXY_LACKS = ("list", "edit", "delete")  # of LiteLLM: it asks for a provider, asks api.openai.com, has no such route
FAST: Mapping[StageName, ReplayProfile] = dict.fromkeys(STAGE_NAMES, ReplayProfile(run_s=0.02, bytes_out=200_000))
"""Stages for a server that is asked and not measured."""


@dataclass(frozen=True)
class Row:
    """How one operation of one client went; `error` None: well."""

    client: str
    operation: str
    error: str | None


@dataclass
class Report:
    """Of all clients. `left_out`: why a client has no rows."""

    rows: list[Row] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[Row]:
        return [row for row in self.rows if row.error is not None]

    def figures(self) -> dict[str, int]:
        clients, failed = {row.client for row in self.rows}, {row.client for row in self.failed}
        return {
            "clients_all": len(clients),
            "clients_failed": len(failed),
            "operations_all": len(self.rows),
            "operations_failed": len(self.failed),
        }

    def table(self) -> str:
        """Clients by operations, as the README shows it: yes, no, or nothing that the client does."""
        operations = list(dict.fromkeys(row.operation for row in self.rows))
        found = {(row.client, row.operation): "no" if row.error else "yes" for row in self.rows}
        lines = [f"| client | {' | '.join(operations)} |", f"|---|{'---|' * len(operations)}"]
        for client in dict.fromkeys(row.client for row in self.rows):
            cells = " | ".join(found.get((client, operation), "") for operation in operations)
            lines.append(f"| {client} | {cells} |")
        return "\n".join(lines)


def run_bodies(url: str) -> list[Row]:
    """The bodies alone: no kit is needed."""
    rows = []
    for client, operation, act in bodies.attempts(url):
        try:
            act()
            error = None
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}"
        rows.append(Row(client, operation, error))
    return rows


def run_program(client: str, command: Sequence[object], environment: Mapping[str, str] | None = None) -> list[Row]:
    """What a program told; one that told nothing or ended badly has failed as a whole."""
    ran = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    told = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    rows = [Row(client, one["operation"], one["error"]) for one in told]
    if ran.returncode or not rows:
        rows.append(Row(client, "end", f"exit code {ran.returncode}: {ran.stderr.strip()[-2000:]}"))
    return rows


def run_programs(url: str, folder: Path, clients: Collection[str]) -> Report:
    """Their programs, one after the other."""
    picture = folder / "first.png"
    picture.write_bytes(bodies.png())
    report = Report()
    for client in clients:
        try:
            report.rows += CLIENTS[client](client, url, picture)
        except NoKitError as error:
            report.left_out[client] = str(error)
    return report


def run_all(url: str) -> Report:
    """Programs, then bodies."""
    with tempfile.TemporaryDirectory(prefix="magicvideo-clients-") as folder:
        report = run_programs(url, Path(folder), CLIENTS)
    report.rows += run_bodies(url)
    return report


def _openai_python(name: str) -> Callable[[str, str, Path], list[Row]]:
    def run(client: str, url: str, picture: Path) -> list[Row]:
        return run_program(client, [program(name, "python"), PROGRAMS / "openai_python.py", url, picture])

    return run


def _openai_node(client: str, url: str, picture: Path) -> list[Row]:
    script = kit("node") / "openai_node.mjs"  # beside the modules that it imports
    script.write_text((PROGRAMS / "openai_node.mjs").read_text())
    return run_program(client, ["node", script, url, picture])


def _litellm_sdk(client: str, url: str, picture: Path) -> list[Row]:
    command = [program("litellm", "python"), PROGRAMS / "litellm_sdk.py", url, picture]
    return run_program(client, command, {"LITELLM_LOCAL_MODEL_COST_MAP": "True"})


def _litellm_proxy(client: str, url: str, picture: Path) -> list[Row]:
    with _proxy(url, picture.parent) as proxy:
        command = [program("openai-python", "python"), PROGRAMS / "openai_python.py", proxy, picture]
        return run_program(client, [*command, *PROXY_LACKS])


def _aiperf(client: str, url: str, picture: Path) -> list[Row]:
    root = urlsplit(url)._replace(path="").geturl()  # as it is given a host and a port
    command = [program("aiperf", "python"), PROGRAMS / "aiperf_run.py", root, picture.parent / "aiperf"]
    return run_program(client, command)


CLIENTS: Mapping[str, Callable[[str, str, Path], list[Row]]] = {
    "openai-python 3": _openai_python("openai-python"),
    "openai-python 2": _openai_python("openai-python-2"),
    "openai-node 6": _openai_node,
    "LiteLLM SDK": _litellm_sdk,
    "LiteLLM proxy": _litellm_proxy,
    "AIPerf": _aiperf,
}


@contextmanager
def _proxy(url: str, folder: Path) -> Iterator[str]:
    """A LiteLLM proxy before the server."""
    port, config, log = free_port(), folder / "litellm.yaml", folder / "litellm.log"
    served = {"model": "openai/tiny", "api_base": f"{url}/v1", "api_key": "none"}
    config.write_text(yaml.safe_dump({"model_list": [{"model_name": "tiny", "litellm_params": served}]}))
    command = [program("litellm-proxy", "litellm"), "--config", config, "--port", port, "--host", "127.0.0.1"]
    weak = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}  # it listens on this machine alone
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", **weak}
    with log.open("w") as said:
        process = subprocess.Popen([str(word) for word in command], stdout=said, stderr=said, env=environment)
    try:

        def ready() -> bool:
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=30).status_code == 200
            except httpx.TransportError:
                return False

        wait_for("LiteLLM's proxy", ready)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(120)
