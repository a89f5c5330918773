"""`python -m deployments`: run the server, and say who may use it.

    serve          the whole server in the foreground, until SIGINT or SIGTERM
    keys, limits   API keys, and what each tenant may do: `deployments.tenants.commands`
    backup, restore    the journal into a file, and back
    mcp            tools for assistants, of a server that runs anywhere: `deployments.mcp`

Each but the last works on one of two servers:

    --laptop    (default) everything on this machine: a Ray of its own, preset tiny, no GPU; with `--preset paper` or
                `--gpus auto|0,1` the same on this machine's GPUs, after it has said what it puts where
    --cluster   on the Ray cluster that runs here, as serve_config.yaml says; `serve` ends it with this command, too. To
                leave it running, hand the same file to Ray: `serve deploy serve_config.yaml`

Whatever cannot be done ends in one sentence: exit code 2 for what is asked or configured, 3 for trouble from outside,
as when the own Ray of `serve` dies.
"""

import argparse
import os
import signal
import sys
import time
from contextlib import redirect_stdout
from types import FrameType
from typing import get_args

from client._shell.ending import OUTSIDE, WRONG, Parser, end
from client._shell.outputs import judge_folder
from deployments import box as boxes
from deployments.api.gate import check_exposure
from deployments.errors import ConfigError, StartError
from deployments.mcp.command import add_mcp_command
from deployments.observe.logs import Format, Level
from deployments.settings.application import AppArgs
from deployments.settings.reading import load_config
from deployments.settings.variants import LOCAL_STORE_BYTES, box, laptop
from deployments.tenants.commands import add_admin_commands, add_place_options
from stages.presets import PRESETS

OWN_RAY = "own"
_LOOK_S = 1.0  # between two looks at whether our own Ray lives


class _Stopped(BaseException):
    """A signal asked for the end."""


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    return end(run, arguments, codes={ConfigError: WRONG, StartError: OUTSIDE})


def run(words: list[str]) -> int:
    """What the words say."""
    options = _parser().parse_args(words)
    ran: int = options.run(options)
    return ran


def _serve_until_signal(options: argparse.Namespace) -> int:
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


def _serve(options: argparse.Namespace) -> int:
    boxes.check_words(options)
    given, found = _arguments(options)
    args = _telling(given, options)
    if options.plan:
        return 0
    from deployments.server import LocalRay, abandon, adopt_orphans, dead_part, ray_parts, start, stop  # loads Ray

    cpus = os.cpu_count() or 1
    where: LocalRay | str = options.address
    if not options.cluster or options.address == OWN_RAY:
        store = LOCAL_STORE_BYTES if found is None else max(LOCAL_STORE_BYTES, found.store_bytes)
        where = LocalRay(
            max(2, cpus),
            store if options.object_store_mb is None else options.object_store_mb * 2**20,
            quiet=not options.verbose,
            dashboard_port=options.dashboard_port,
            num_gpus=0 if found is None else len(found.gpus),
            gpus=() if found is None else found.visible,
        )
    adopt_orphans()
    print(f"Starting preset {args.preset}; this takes a moment ...", file=sys.stderr, flush=True)
    out = sys.stdout  # scripts read our address there, and Ray prints what its processes say
    with redirect_stdout(sys.stderr):
        server = start(args, host=options.host, port=options.port, where=where)
        try:
            told = f"Serving preset {args.preset} at {server.url}, which a browser shows too; Ctrl-C stops it"
            print(told, file=out, flush=True)
            parts = ray_parts()
            while (dead := dead_part(parts)) is None:
                time.sleep(_LOOK_S)
            abandon(server.temp_dir)
            print(f"error: Ray's {dead} has died and with it all replicas; start the server again.", file=sys.stderr)
            sys.stderr.flush()
            os._exit(OUTSIDE)  # Ray's own farewell would wait for what has died
        finally:
            print("Stopping ...", file=sys.stderr, flush=True)
            stop(server.temp_dir)


def _arguments(options: argparse.Namespace) -> tuple[AppArgs, boxes.Box | None]:
    """The application's, and the GPU box that it is to run on, of which the terminal is told."""
    given = load_config(options.config)
    if options.cluster:
        return given, None
    judge_folder(options.data_dir)
    cpus = os.cpu_count() or 1
    alone = laptop(given, data_dir=options.data_dir, threads=options.threads or cpus)
    if not boxes.on_gpus(options):
        if options.plan:
            print(f"Preset {alone.preset} on the CPU, {alone.stages['t2i'].threads} threads a stage.")
        return alone, None
    check_exposure(options.host, alone.storage.database())  # before what takes seconds
    if not options.plan:
        from deployments.server import check_port  # here, as loading Ray takes seconds

        check_port(options.host, options.port)
    found = boxes.look(options.preset or alone.preset, options.gpus or "auto")
    print(found.report(options.host, options.port), file=sys.stdout if options.plan else sys.stderr, flush=True)
    threads = options.threads or max(1, cpus // len(given.stages))
    return box(
        given,
        found.placement,
        data_dir=options.data_dir,
        preset=found.preset,
        threads=threads,
        max_jobs=boxes.MAX_JOBS,
    ), found


def _telling(args: AppArgs, options: argparse.Namespace) -> AppArgs:
    """With what the command says of the log."""
    said = {"log_format": options.log_format, "log_level": options.log_level}
    changed = args.observability.model_copy(update={name: value for name, value in said.items() if value is not None})
    return args.model_copy(update={"observability": changed})


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(
        prog="python -m deployments", description=(__doc__ or "").partition("\n")[0]
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_admin_commands(commands)
    add_mcp_command(commands)
    command = commands.add_parser("serve", help="start the server and stay in the foreground until SIGINT or SIGTERM")
    command.set_defaults(run=_serve_until_signal)
    add_place_options(command)
    command.add_argument(
        "--preset", help=f"on this machine: {', '.join(PRESETS)} (tiny, on the CPU; each other on its GPUs)"
    )
    command.add_argument("--gpus", metavar="auto|0,1", help="on this machine: which GPUs (those that CUDA shows)")
    command.add_argument("--plan", action="store_true", help="on this machine: say what goes where, and stop there")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    command.add_argument("--port", type=_port, default=8000, help="port to listen on (%(default)s)")
    command.add_argument(
        "--address",
        default="auto",
        help=f"with --cluster: address of Ray (%(default)s); {OWN_RAY}: one that is started for it",
    )
    command.add_argument("--threads", type=_positive, help="laptop: CPU threads of each stage (all CPUs)")
    command.add_argument(
        "--object-store-mb",
        type=_positive,
        help=f"laptop: shared memory for values between stages ({LOCAL_STORE_BYTES // 2**20}; on GPUs what it takes)",
    )
    command.add_argument(
        "--dashboard-port", type=_port, help="where a Ray that is started here shows its dashboard (it shows none)"
    )
    command.add_argument("--log-format", choices=get_args(Format), help="lines of text or JSON (else as configured)")
    command.add_argument("--log-level", choices=get_args(Level), help="from this severity on (else as configured)")
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
