"""Clients and estimates, measured: `python -m benchmarks.clients [--quick]`.

The conformance suite (`tests/conformance`) runs against a server whose stages are replayed: the packages of OpenAI,
LiteLLM and NVIDIA in environments of their own, made on the first run with pip and npm, and bodies as clients of other
open servers send them. Then mixed jobs run on a real tiny server, and what they were told is held against what they
took.

    clients_all, clients_failed          clients that could be run, and those of which anything failed
    operations_all, operations_failed    what they did
    eta_error_median                     |eta_s told at acceptance - seconds taken| / seconds taken, over jobs of mixed
                                         until, seconds, steps and factor

About ten minutes; `--quick` sends the bodies alone and a few jobs.
"""

import statistics
import tempfile
from pathlib import Path

from benchmarks.clients.etas import eta_errors
from benchmarks.tools.chaos import stand_in_config
from benchmarks.tools.result import parser_of, result
from cluster.server_process import ServerProcess
from tests.conformance.suite import FAST, Report, run_all, run_bodies


def main(arguments: list[str] | None = None) -> None:
    options = parser_of("clients", __doc__, quick="bodies alone, a few jobs").parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as name:
        folder = Path(name)
        config = stand_in_config(folder / "config.yaml", FAST, lease_s=10.0)
        with ServerProcess("--laptop", "--config", config, "--data-dir", folder / "data") as server:
            report = Report(run_bodies(server.url)) if options.quick else run_all(server.url)
    print(report.table(), flush=True)
    for client, why in report.left_out.items():
        print(f"left out: {client}: {why}", flush=True)
    for row in report.failed:
        print(f"failed: {row.client}, {row.operation}: {row.error}", flush=True)
    errors = eta_errors(options.quick)
    result("clients", {**report.figures(), "eta_error_median": statistics.median(errors)})


if __name__ == "__main__":
    main()
