"""`python -m deployments serve`: the whole server in the foreground, until SIGINT or SIGTERM.

    --laptop    (default) everything on this machine: a Ray of its own, preset tiny, no GPU
    --cluster   on the Ray cluster that runs here, as serve_config.yaml says; ends with this command, too. To leave it
                running, hand the same file to Ray: `serve deploy serve_config.yaml`

Whatever cannot be served ends in one sentence and exit code 1. Knows nothing of stages.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from deployments.config import CONFIG_PATH, AppArgs, laptop, load_config
from deployments.errors import StartError
from deployments.server import LOCAL_STORE_BYTES, LocalRay, start, stop


class _Stopped(BaseException):
    """A signal asked for the end."""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)

    def stopping(_signal: int, _frame: FrameType | None) -> None:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)  # the end is already under way
        raise _Stopped

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, stopping)
    try:
        return _serve(options)
    except _Stopped:
        return 0
    except StartError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1


def _serve(options: argparse.Namespace) -> int:
    args = _arguments(options)
    cpus = os.cpu_count() or 1
    where: LocalRay | str = options.address
    if not options.cluster:
        where = LocalRay(max(2, cpus), options.object_store_mb * 2**20, quiet=not options.verbose)
    print(f"Starting preset {args.preset}; this takes a moment ...", file=sys.stderr, flush=True)
    server = start(args, host=options.host, port=options.port, where=where)
    try:
        print(f"Serving preset {args.preset} at {server.url}", flush=True)
        while True:
            signal.pause()
    finally:
        print("Stopping ...", file=sys.stderr, flush=True)
        stop(server.temp_dir)


def _arguments(options: argparse.Namespace) -> AppArgs:
    given = load_config(options.config)
    if options.cluster:
        return given
    threads = options.threads or os.cpu_count() or 1
    return laptop(given, data_dir=options.data_dir, threads=threads)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deployments", description=(__doc__ or "").partition("\n")[0])
    command = parser.add_subparsers(required=True).add_parser(
        "serve", help="start the server and stay in the foreground until SIGINT or SIGTERM"
    )
    place = command.add_mutually_exclusive_group()
    place.add_argument("--laptop", action="store_true", help="everything on this machine, without a GPU (the default)")
    place.add_argument("--cluster", action="store_true", help="on a running Ray cluster, as the config file says")
    command.add_argument("--config", type=Path, default=CONFIG_PATH, help="Serve config file (%(default)s)")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    command.add_argument("--port", type=_port, default=8000, help="port to listen on (%(default)s)")
    command.add_argument("--address", default="auto", help="with --cluster: address of Ray (%(default)s)")
    command.add_argument(
        "--data-dir", type=Path, default=Path("data"), help="laptop: where jobs and videos are kept (%(default)s)"
    )
    command.add_argument("--threads", type=_positive, help="laptop: CPU threads of each stage (all CPUs)")
    command.add_argument(
        "--object-store-mb",
        type=_positive,
        default=LOCAL_STORE_BYTES // 2**20,
        help="laptop: shared memory for values between stages (%(default)s)",
    )
    command.add_argument("--verbose", action="store_true", help="laptop: show what Ray and the replicas log")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; it must be between 1 and 65535")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
