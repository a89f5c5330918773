"""Runs of an experiment on a real server: `python -m deployments serve` as a process, with replicas as each run wants.

    fixed           one server for all runs; replicas are set from outside, through Serve's external-scaler interface
    serve_default   a server for each run, whose stages Serve scales by its own rule
    look_ahead      a server for each run, with `cluster.autoscaler` as the application's policy

The server is the whole application on a Ray of its own. Its stages are replayed (`cluster.replay`): they take the
seconds of the experiment, each time the same, and give values of the bytes it says; or they are the real ones of a
preset. What a start-up takes is added to what Ray needs for a replica anyway. GPUs are counted, not used: only the
bounds of replicas and the look-ahead's own budget hold them.

Imports neither Ray nor `deployments`: it writes a config file, and talks HTTP. Ray's dashboard gets a token that is
made for this server alone.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from cluster.experiment_runs import RunPlan
from cluster.experiment_spec import ExperimentError, PolicySpec, Spec
from cluster.live_load import Api, LiveError, drive
from cluster.measures import held_gpu_s, measure
from cluster.serve_policy import ServeDefault
from cluster.simulator import Run
from cluster.traces import Arrival, Trace
from stages.model.windows import plan_windows
from stages.presets import RequestError, get_preset, plan
from stages.types import STAGE_NAMES

__all__ = ["Bench", "LiveError", "app_args", "check_live"]

ROOT = Path(__file__).resolve().parent.parent
START_S, SCALE_S, SETTLE_S, STOP_S = 240.0, 120.0, 60.0, 60.0
_POLL_S = 0.2
_SLIVER = 0.01  # CPUs of a replica: Ray only counts them here
_STEP_S = 0.1  # of a replayed stage, about
_MAX_STEPS = 20
_LIVE_DEFAULT = {
    "target_ongoing_requests",
    "upscale_delay_s",
    "downscale_delay_s",
    "look_back_s",
    "targets",
    "max_replicas",
}


def check_live(spec: Spec) -> None:
    """Refuse what a real server cannot do.

    Raises:
        ExperimentError: one sentence.
    """
    if others := [system for system in spec.systems if system != "pools"]:
        raise ExperimentError(f"System {others[0]!r} is simulated only; leave out --live, or write systems: [pools].")
    for policy in spec.policies:
        _check_policy(policy)
    try:
        preset = get_preset(spec.live.preset)
    except RequestError as error:
        raise ExperimentError(f"live.preset: {error}") from error
    windows = len(plan_windows(plan(preset, "x").i2v.frames, preset.v2v_windows))
    for name, stage in spec.stages.items():
        expected = windows if name in ("v2v", "vfi") else 1
        if stage.windows != expected:
            raise ExperimentError(
                f"Stage {name} has windows: {stage.windows}, but preset {preset.name} calls it {expected} times a job; "
                f"write {expected}, or choose another live.preset."
            )


def _check_policy(policy: PolicySpec) -> None:
    made = policy.make()
    changed = {
        name for name, part in ServeDefault.__dataclass_fields__.items()
        if isinstance(made, ServeDefault) and name in policy.options and name not in _LIVE_DEFAULT
        and policy.options[name] != part.default
    }  # fmt: skip
    if changed:
        raise ExperimentError(
            f"Policy {policy.shown!r} sets {', '.join(sorted(changed))}, which only a simulation takes; live it takes "
            f"{', '.join(sorted(_LIVE_DEFAULT))}."
        )
    if policy.name == "look_ahead" and any(not isinstance(value, int | float) for value in policy.options.values()):
        raise ExperimentError(
            f"Policy {policy.shown!r} takes numbers live, got {policy.options}; leave out the others."
        )


def app_args(spec: Spec, run: RunPlan, folder: Path) -> dict[str, Any]:
    """What stands under `args:` of the server's config for a run."""
    fixed = run.policy.name == "fixed"
    pipeline: dict[str, Any] = {"num_cpus": _SLIVER, "flush_s": 0.02, "max_jobs": spec.max_jobs or 1000}
    args: dict[str, Any] = {
        "preset": spec.live.preset,
        "stages": {name: _stage(spec, run, name) for name in STAGE_NAMES},
        "storage": {
            "database_url": f"sqlite:///{folder.absolute()}/jobs.sqlite",
            "artifacts_url": f"file://{folder.absolute()}/artifacts",
        },
        "pipeline": pipeline,
        "keeper": {"num_cpus": _SLIVER},
        "ingress": {"num_cpus": _SLIVER, "max_queued_jobs": 100_000},
        "graceful_shutdown_wait_loop_s": 0.1,
        "pool_wait_s": 0.0,
        "external_scaler": fixed,
    }
    if run.policy.name == "look_ahead":
        args["scaling"] = {
            "budget_gpus": spec.budget_gpus,
            "call_s": {name: stage.mean_s / stage.windows for name, stage in spec.stages.items()},
            "start_up_s": {name: stage.start_up_s for name, stage in spec.stages.items()},
            "arrivals_window_s": spec.rate_window_s,
            "report_s": 0.5,
            "policy": {name: float(value) for name, value in run.policy.options.items()},
        }
    return args


def _stage(spec: Spec, run: RunPlan, name: Any) -> dict[str, Any]:
    stage, policy = spec.stages[name], run.make_policy()
    made: dict[str, Any] = {
        "num_cpus": _SLIVER,
        "num_gpus": 0.0,
        "threads": 1,
        "replicas": max(1, run.replicas[name]),
        "graceful_shutdown_timeout_s": 5.0 + 2 * stage.mean_s,
        "max_start_attempts": 1,
    }
    if spec.live.stages == "replay":
        calls = stage.windows if name == "vfi" else 1  # V2V is told of all its windows together
        options = {
            "stage": name,
            "run_s": stage.mean_s / calls,
            "bytes_out": max(1, int(stage.bytes_out * spec.live.bytes_share)),
            "steps": max(1, min(_MAX_STEPS, int(stage.mean_s / stage.windows / _STEP_S))),
            "load_s": 0.0 if run.policy.name == "fixed" else stage.start_up_s,
        }
        made |= {"factory": "cluster.replay:ReplayStage", "options": options}
    if run.policy.name != "fixed":
        least, most = min(stage.min_replicas, run.replicas[name]), max(stage.max_replicas, run.replicas[name])
        made["autoscaling"] = {"min_replicas": least, "max_replicas": most, "initial_replicas": run.replicas[name]}
        if isinstance(policy, ServeDefault):
            made["autoscaling"] |= {
                "max_replicas": max(least, min(most, policy.max_replicas.get(name, most))),
                "target_ongoing_requests": policy.targets.get(name, policy.target_ongoing_requests),
                "upscale_delay_s": policy.upscale_delay_s,
                "downscale_delay_s": policy.downscale_delay_s,
                "look_back_period_s": max(0.2, policy.look_back_s),
                "metrics_interval_s": min(10.0, max(0.1, policy.look_back_s / 3)),
            }
    return made


class Bench:
    """`with Bench(spec, out) as run:` makes runs by `run(plan, told)`; those that can share a server do."""

    def __init__(self, spec: Spec, out: Path) -> None:
        self._spec, self._out = spec, out
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def __call__(self, plan: RunPlan, told: Any) -> Run:
        if self._server is None or plan.policy.name != "fixed" or not self._server.fixed:
            self._stop()
            self._server = _Server(self._spec, plan, self._out / "server")
            self._server.start()
        server, live = self._server, self._spec.live
        if server.fixed:
            server.scale(plan.replicas)
        server.warm_up()
        if not server.fixed:
            server.settle(plan.replicas)
        seen = drive(server.api, plan.trace, STAGE_NAMES, deadline_s=live.deadline_s, sample_s=live.sample_s, told=told)
        metrics = measure(
            seen.rows,
            held_gpu_s(seen.samples, plan.gpus),
            busy_gpu_s={name: seconds * plan.gpus[name] for name, seconds in seen.busy_s.items()},
            prices_per_hour=plan.prices,
        )
        return Run(seen.rows, seen.samples, metrics, tuple(STAGE_NAMES))

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()  # Ctrl-C may come in here; then it is stopped again
            self._server = None


class _Server:
    """One `python -m deployments serve` in a session of its own, so that Ctrl-C reaches it only through us."""

    def __init__(self, spec: Spec, plan: RunPlan, folder: Path) -> None:
        self.fixed = plan.policy.name == "fixed"
        self._folder = folder.absolute() / time.strftime("%H%M%S")  # the server runs in another folder
        self._log = self._folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_stop = False
        self._folder.mkdir(parents=True, exist_ok=True)
        application = {"name": "magicvideo", "import_path": "deployments.app:build"}
        config = {"applications": [{**application, "args": app_args(spec, plan, self._folder)}]}
        (self._folder / "serve_config.yaml").write_text(json.dumps(config, indent=1))  # JSON is YAML
        self._ports = (_free_port(), _free_port())
        token = secrets.token_hex(32)
        self.api = Api(f"http://127.0.0.1:{self._ports[0]}", f"http://127.0.0.1:{self._ports[1]}", token)

    def start(self) -> None:
        """Returns when it answers.

        Raises:
            LiveError: it ended, or was silent for too long.
        """
        config = self._folder / "serve_config.yaml"
        command = [
            sys.executable,
            "-m",
            "deployments",
            "serve",
            "--cluster",
            "--address",
            "own",
            "--config",
            str(config),
        ]
        command += ["--port", str(self._ports[0]), "--dashboard-port", str(self._ports[1])]
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.api.token}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **own}
            )
        deadline = time.monotonic() + START_S
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                lines = self._log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
                self.stop()
                raise LiveError(
                    f"The server did not start: {lines[-1].removeprefix('error: ')} (all of it: {self._log})"
                )
            try:
                health = self.api.call("GET", "/healthz")
                if health["status"] == "ok" and not health["problems"]:  # every replica, not only enough of them
                    self.api.deployments()
                    return
            except (LiveError, KeyError):
                pass  # not yet
            time.sleep(_POLL_S)

    def scale(self, replicas: Mapping[str, int]) -> None:
        """Set each stage's replicas from outside, and wait until it has them and no others.

        Raises:
            LiveError: it does not come to that.
        """
        for name, count in replicas.items():
            self.api.scale(name, count)
        if (states := self._differ(replicas, SCALE_S)) is not None:
            raise LiveError(f"Replicas did not become {replicas} within {SCALE_S:g} s: {states}; see {self._log}.")

    def settle(self, replicas: Mapping[str, int]) -> None:
        """Wait until a policy is back at these replicas after the warm-up; if it keeps others, the run begins there."""
        self._differ(replicas, SETTLE_S)

    def _differ(self, replicas: Mapping[str, int], within_s: float) -> dict[str, list[str]] | None:
        """None as soon as each stage has its replicas and no others; after `within_s` the states that there are."""
        deadline = time.monotonic() + within_s
        while True:
            served = self.api.deployments()
            states = {name: [replica["state"] for replica in served[name]["replicas"]] for name in replicas}
            if all(states[name] == ["RUNNING"] * count for name, count in replicas.items()):
                return None
            if time.monotonic() > deadline:
                return states
            time.sleep(_POLL_S)

    def warm_up(self) -> None:
        """One video, so that nothing is done for the first time while it is timed."""
        seen = drive(self.api, Trace("warm-up", (Arrival(0.0),), 0.0), STAGE_NAMES, deadline_s=START_S, sample_s=0.5)
        if seen.rows[0].outcome != "succeeded":
            raise LiveError(f"The server made no video: the first one {seen.rows[0].outcome}; see {self._log}.")

    def stop(self) -> None:
        """It ends as on SIGTERM; if it does not, the whole session is killed."""
        process = self._process
        if process is None:
            return
        if process.poll() is None and not self._asked_to_stop:
            process.send_signal(signal.SIGTERM)
            self._asked_to_stop = True
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
