"""Starts and stops the application: Ray, the preflight of pools, the deployment, the port.

`start` brings the application up and returns when it answers HTTP, or raises one sentence; `stop` takes it down and
leaves nothing behind. Used by `python -m deployments serve`, by the tests and by the benchmarks. Imports no torch.
"""

import contextlib
import ctypes
import io
import logging
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import ray
from ray import serve

from cluster.pools.needs import find_lacks
from cluster.pools.ray_nodes import living_nodes
from deployments.api.gate import check_exposure
from deployments.app import APP_NAME, build
from deployments.errors import ConfigError, MissingPoolError, StartError
from deployments.on_ray.health import stage_needs
from deployments.on_ray.ray_internals import apply_config, look_often
from deployments.settings.application import IMPORT_PATH, POLICY_PATH, AppArgs
from deployments.settings.reading import check_environment
from deployments.settings.variants import LOCAL_STORE_BYTES

ROOT = Path(__file__).resolve().parent.parent
_POLL_S = 1.0
_DEPLOY_POLL_S = 0.2
_CONNECT_S = 5.0
_CLEAR_S = 10.0  # until no process of a Ray that died is left
_SUBREAPER = 36  # of Linux' prctl: processes whose parent dies become our children
_SENTENCE = re.compile(r"(?:StartError|ConfigError|MissingPoolError|ArtifactError)\S*: (.+)")


@dataclass(frozen=True)
class LocalRay:
    """Ray on this machine alone, in a folder of its own that `stop` removes."""

    num_cpus: int
    object_store_bytes: int = LOCAL_STORE_BYTES
    quiet: bool = True
    dashboard_port: int | None = None  # Ray's own HTTP, with Serve's REST interface; None: it does not run
    num_gpus: int = 0  # that Ray counts, whether there are any or not
    gpus: tuple[str, ...] = ()  # that its processes see, by index; () leaves that as it is


@dataclass(frozen=True)
class Server:
    """A running application."""

    host: str
    port: int
    temp_dir: Path | None  # Ray's, when it is ours

    @property
    def url(self) -> str:
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        return f"http://{shown}:{self.port}"


def start(args: AppArgs, *, host: str, port: int, where: LocalRay | str) -> Server:
    """Bring the application up on a Ray of its own (`LocalRay`) or on the cluster at an address ("auto").

    Raises:
        StartError: one sentence; what had been started is stopped again.
    """
    check_environment()
    check_exposure(host, args.storage.database())
    check_port(host, port)
    temp_dir = start_ray(where)
    deploying = False
    try:
        if args.missing_pool == "refuse":
            check_pools(args, wait_s=args.pool_wait_s)
        check_absent()
        deploying = True
        deploy(args, host=host, port=port)
    except BaseException:
        if deploying:
            stop(temp_dir)
        else:
            leave(temp_dir)
        raise
    return Server(host, port, temp_dir)


def start_ray(where: LocalRay | str) -> Path | None:
    """Connect to a cluster, or start one; gives the folder of the latter."""
    look_often()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S", "1")  # a dead proxy is replaced only then
    if isinstance(where, str):
        _connect(where)
        return None
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # replicas import this tree wherever we were started from
    if where.gpus:
        os.environ.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=",".join(where.gpus))
    temp_dir = Path(tempfile.mkdtemp(prefix="mv-"))  # short: Ray puts sockets there, whose paths are limited
    level = logging.ERROR if where.quiet else logging.INFO
    logging.getLogger("ray").setLevel(level)
    logging.getLogger("ray.serve").setLevel(level)
    with _own_signals():
        ray.init(
            address="local",
            num_cpus=where.num_cpus,
            num_gpus=where.num_gpus,
            object_store_memory=where.object_store_bytes,
            include_dashboard=where.dashboard_port is not None,
            dashboard_host="127.0.0.1",
            dashboard_port=where.dashboard_port,
            log_to_driver=not where.quiet,
            logging_level=level,
            namespace="magicvideo",
            _temp_dir=str(temp_dir),
        )
    return temp_dir


def _connect(address: str) -> None:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host and port.isdecimal():  # ask first: Ray itself tries for minutes and then aborts the process
            socket.create_connection((host, int(port)), timeout=_CONNECT_S).close()
        with _own_signals():
            ray.init(address=address, namespace="magicvideo", log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise StartError(f"No Ray cluster answers at {address!r} ({error}); start one or use --laptop.") from error


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts its own SIGTERM handler in the place of ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in ours.items():
            signal.signal(name, handler)


def check_port(host: str, port: int) -> None:
    """Refuse a port that something else listens on.

    Raises:
        ConfigError: it is taken, or this host has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"Port {port} of {host} cannot be used ({error.strerror}); stop what listens there or choose another "
                "one with --port."
            ) from error


def check_pools(args: AppArgs, *, wait_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until every stage has a pool.

    Raises:
        MissingPoolError: after `wait_s` some stage has none; a sentence for each.
    """
    deadline = time.monotonic() + wait_s
    while lacks := find_lacks(stage_needs(args), living_nodes()):
        if time.monotonic() >= deadline:
            raise MissingPoolError(" ".join(lack.sentence for lack in lacks))
        sleep(_POLL_S)


def check_absent() -> None:
    """Refuse to replace an application that somebody else runs on this cluster.

    Raises:
        ConfigError: there is one of our name.
    """
    if APP_NAME in serve.status().applications:
        raise ConfigError(
            f"An application {APP_NAME!r} already runs on this cluster; change it with `serve deploy`, or delete it."
        )


def deploy(args: AppArgs, *, host: str, port: int) -> None:
    """Put the application on the Ray that is connected, and wait until it serves.

    Raises:
        StartError: a replica did not start.
    """
    serve.start(http_options={"host": host, "port": port}, logging_config={"enable_access_log": False})
    if args.scaling is not None:
        declare(args, host=host, port=port)
        return
    application = build(args)
    try:
        outside = args.external_scaler
        if args.missing_pool == "degraded":
            target = serve.RunTarget(application, name=APP_NAME, route_prefix="/", external_scaler_enabled=outside)
            serve.run_many([target], wait_for_applications_running=False)
        else:
            serve.run(application, name=APP_NAME, route_prefix="/", external_scaler_enabled=outside)
    except (RuntimeError, TimeoutError) as error:
        raise StartError(sentence_of("\n".join((str(error), *_deployment_messages())))) from error


def declare(args: AppArgs, *, host: str, port: int, name: str = APP_NAME, route_prefix: str = "/") -> None:
    """Deploy by a config: Serve takes a policy for a whole application in no other way.

    Raises:
        StartError: a replica did not start.
    """
    build(args)  # here too, for its sentences: Serve's own builder only says that it failed
    apply_config(
        {
            "http_options": {"host": host, "port": port},
            "logging_config": {"enable_access_log": False},
            "applications": [
                {
                    "name": name,
                    "route_prefix": route_prefix,
                    "import_path": IMPORT_PATH,
                    "args": args.model_dump(mode="json"),
                    "autoscaling_policy": {"policy_function": POLICY_PATH},
                }
            ],
        }
    )
    while args.missing_pool != "degraded":
        found = serve.status().applications.get(name)
        if found and found.status == "RUNNING":
            return
        if found and found.status in ("DEPLOY_FAILED", "UNHEALTHY"):
            raise StartError(sentence_of("\n".join((found.message, *_deployment_messages(name)))))
        time.sleep(_DEPLOY_POLL_S)


def _deployment_messages(name: str = APP_NAME) -> list[str]:
    application = serve.status().applications.get(name)
    return [deployment.message for deployment in application.deployments.values()] if application else []


def sentence_of(message: str) -> str:
    """What our own code said, out of the report that Ray Serve wraps around it."""
    found = _SENTENCE.findall(message)
    if found:
        return str(found[-1]).strip()
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return f"The application did not start: {lines[0] if lines else 'Ray Serve gave no reason.'}"


def stop(temp_dir: Path | None) -> None:
    """Take the application down; with `temp_dir` also Serve and the Ray that were started for it."""
    try:
        if ray.is_initialized():
            if temp_dir is None:
                serve.delete(APP_NAME)
            else:
                with _silence():
                    serve.shutdown()
    finally:
        leave(temp_dir)


def adopt_orphans() -> None:
    """Replicas whose raylet dies stay our children, so that `abandon` finds them; Linux alone can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def ray_parts() -> dict[str, psutil.Process]:
    """Those of a Ray that was started here without which nothing works, by name."""
    names = ("raylet", "gcs_server")
    return {name: child for child in psutil.Process().children() if (name := child.name()) in names}


def dead_part(parts: Mapping[str, psutil.Process]) -> str | None:
    """The name of one of them that has died."""
    for name, part in parts.items():
        with contextlib.suppress(psutil.NoSuchProcess):
            if part.status() != psutil.STATUS_ZOMBIE:
                continue
        return name
    return None


def abandon(temp_dir: Path | None) -> None:
    """End every process of a Ray that has died, and remove its folder: it cannot be asked to stop any more."""
    deadline = time.monotonic() + _CLEAR_S
    while (left := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)
    if temp_dir is not None:
        shutil.rmtree(temp_dir, ignore_errors=True)


def leave(temp_dir: Path | None) -> None:
    """Disconnect from Ray; one that was started here ends, and its folder goes."""
    with _silence():
        ray.shutdown()
    if temp_dir is not None:
        shutil.rmtree(temp_dir, ignore_errors=True)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Ray calls its own farewell an error, and prints it; what fails in earnest is raised."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield
