"""Runs of an experiment on a real server: `python -m deployments serve` as a process, with replicas as each run wants.

    fixed           one server for all runs; replicas are set from outside, through Serve's external-scaler interface
    serve_default   a server for each run, whose stages Serve scales by its own rule
    look_ahead      a server for each run, with `cluster.policy.autoscaler` as the application's policy

The server is the whole application on a Ray of its own. Its stages are replayed (`stages.replay`): they take the
seconds of the experiment, each time the same, and give values of the bytes it says; or they are the real ones of a
preset. What a start-up takes is added to what Ray needs for a replica anyway. GPUs are counted, not used: only the
bounds of replicas and the look-ahead's own budget hold them.

Imports neither Ray nor `deployments`: it writes a config file, and talks HTTP. Ray's dashboard gets a token that is
made for this server alone.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from client import CreateOptions
from cluster.experiments.live_load import Dashboard, LiveError, Observed, drive
from cluster.experiments.runs import RunPlan
from cluster.experiments.spec import ExperimentError, PolicySpec, Spec
from cluster.policy.serve_rule import ServeDefault
from cluster.server_process import ServerError, ServerProcess, free_port
from cluster.traffic.measures import held_gpu_s, measure
from cluster.traffic.traces import Arrival, Trace
from cluster.twin.simulator import Run
from stages.model.sampling.windows import plan_windows
from stages.presets import RequestError, get_preset, plan
from stages.types import STAGE_NAMES

__all__ = ["Bench", "LiveError", "Site", "app_args", "check_live"]

SCALE_S, SETTLE_S, WARM_S = 120.0, 60.0, 240.0
_POLL_S = 0.2
_SLIVER = 0.01  # CPUs of a replica: Ray only counts them here
_STEP_S = 0.1  # of a replayed stage, about
_MAX_STEPS = 20
_LIVE = ("fixed", "serve_default", "look_ahead")
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
    if alone := [name for name in ("nodes", "paths", "classes") if getattr(spec, name)]:
        raise ExperimentError(
            f"{alone[0]} are simulated only: a live run is on this machine's own node, and "
            "each request passes every stage; leave out --live, or leave them out."
        )
    if others := [system for system in spec.systems if system != "pools"]:
        raise ExperimentError(f"System {others[0]!r} is simulated only; leave out --live, or write systems: [pools].")
    for policy in spec.policies:
        _check_policy(policy)
    try:
        preset = get_preset(spec.live.preset)
        frames = plan(preset, "x", seconds=spec.live.seconds).i2v.frames
    except RequestError as error:
        key = "seconds" if error.param == "seconds" else "preset"
        raise ExperimentError(f"live.{key}: {error}") from error
    windows = len(plan_windows(frames, preset.v2v_windows))
    for name, stage in spec.stages.items():
        expected = windows if name in ("v2v", "vfi") else 1
        if stage.windows != expected:
            raise ExperimentError(
                f"Stage {name} has windows: {stage.windows}, but preset {preset.name} calls it {expected} times a job; "
                f"write {expected}, or choose another live.preset."
            )


def _check_policy(policy: PolicySpec) -> None:
    if policy.name not in _LIVE:
        raise ExperimentError(
            f"Policy {policy.shown!r} is simulated only; leave out --live, or take one of {', '.join(_LIVE)}."
        )
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
        made |= {"factory": "stages.replay:ReplayStage", "options": options}
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


@dataclass(frozen=True)
class Site:
    """What a live run has that is not in the experiment."""

    change: Callable[[dict[str, Any]], object] = lambda args: None  # of the application's arguments
    kinds: Mapping[str, CreateOptions] = field(default_factory=dict)  # what requests of a kind ask beside the prompt
    ray: tuple[str, str] | None = None  # address of a Ray that is there, and its dashboard's


class Bench:
    """`with Bench(spec, out) as run:` makes runs by `run(plan, told)`; those that can share a server do."""

    def __init__(self, spec: Spec, out: Path, site: Site | None = None) -> None:
        self._spec, self._out, self._site = spec, out, site or Site()
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def __call__(self, plan: RunPlan, told: Any, *, later: Sequence[tuple[float, Callable[[], object]]] = ()) -> Run:
        """`later` is called so many seconds after the first request may come."""
        if self._server is None or plan.policy.name != "fixed" or not self._server.fixed:
            self._stop()
            self._server = _Server(self._spec, plan, self._out / "server", self._site)
            self._server.start()
        server, live = self._server, self._spec.live
        if server.fixed:
            server.scale(plan.replicas)
        server.warm_up()
        if not server.fixed:
            server.settle(plan.replicas)
        timers = [threading.Timer(delay_s, then) for delay_s, then in later]
        for timer in timers:
            timer.start()
        try:
            how = {"deadline_s": live.deadline_s, "sample_s": live.sample_s, "kinds": self._site.kinds}
            seen = server.drive(plan.trace, told=told, **how)
        finally:
            for timer in timers:
                timer.cancel()
        metrics = measure(
            seen.rows,
            held_gpu_s(seen.samples, plan.gpus),
            busy_gpu_s={name: seconds * plan.gpus[name] for name, seconds in seen.busy_s.items()},
            prices_per_hour=plan.prices,
        )
        return Run(seen.rows, seen.samples, metrics, tuple(STAGE_NAMES))

    @property
    def url(self) -> str:
        """Of the server that the last run was on."""
        return self._there().url

    def scale(self, stage: str, replicas: int) -> None:
        """Set a stage's replicas while a run goes on; nobody waits for them."""
        self._there().dashboard.scale(stage, replicas)

    def _there(self) -> "_Server":
        if self._server is None:
            raise LiveError("No run has been made yet, so there is no server; call this first.")
        return self._server

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()  # Ctrl-C may come in here; then it is stopped again
            self._server = None


class _Server:
    """One server and its dashboard, with what `plan` wants."""

    def __init__(self, spec: Spec, plan: RunPlan, folder: Path, site: Site) -> None:
        self.fixed, self._seconds = plan.policy.name == "fixed", spec.live.seconds
        folder = folder.absolute() / time.strftime("%H%M%S")  # the server runs in another folder
        folder.mkdir(parents=True, exist_ok=True)
        application = {"name": "magicvideo", "import_path": "deployments.app:build"}
        site.change(args := app_args(spec, plan, folder))
        config = {"applications": [{**application, "args": args}]}
        (folder / "serve_config.yaml").write_text(json.dumps(config, indent=1))  # JSON is YAML
        port, token = free_port(), secrets.token_hex(32)
        where = ("own", "--dashboard-port", port) if site.ray is None else (site.ray[0],)
        self._log = folder / "server.log"
        self._process = ServerProcess(
            *("--cluster", "--address", *where, "--config", folder / "serve_config.yaml"),
            log=self._log,
            environment={"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if site.ray is None else {},
            own_session=True,
        )
        self.dashboard = Dashboard(f"http://127.0.0.1:{port}" if site.ray is None else site.ray[1], token)
        self.url = self._process.url
        self.stop = self._process.stop

    def start(self) -> None:
        """Returns when it answers.

        Raises:
            LiveError: it ended, or was silent for too long.
        """
        try:
            self._process.start()
        except ServerError as error:
            raise LiveError(str(error)) from error

    def drive(self, trace: Trace, **how: Any) -> Observed:
        """As `live_load.drive`."""
        return drive(self._process.url, self.dashboard, trace, STAGE_NAMES, seconds=self._seconds, **how)

    def scale(self, replicas: Mapping[str, int]) -> None:
        """Set each stage's replicas from outside, and wait until it has them and no others.

        Raises:
            LiveError: it does not come to that.
        """
        for name, count in replicas.items():
            self.dashboard.scale(name, count)
        if (states := self._differ(replicas, SCALE_S)) is not None:
            raise LiveError(f"Replicas did not become {replicas} within {SCALE_S:g} s: {states}; see {self._log}.")

    def settle(self, replicas: Mapping[str, int]) -> None:
        """Wait until a policy is back at these replicas after the warm-up; if it keeps others, the run begins there."""
        self._differ(replicas, SETTLE_S)

    def _differ(self, replicas: Mapping[str, int], within_s: float) -> dict[str, list[str]] | None:
        """None as soon as each stage has its replicas and no others; after `within_s` the states that there are."""
        deadline = time.monotonic() + within_s
        while True:
            served = self.dashboard.deployments()
            states = {name: [replica["state"] for replica in served[name]["replicas"]] for name in replicas}
            if all(states[name] == ["RUNNING"] * count for name, count in replicas.items()):
                return None
            if time.monotonic() > deadline:
                return states
            time.sleep(_POLL_S)

    def warm_up(self) -> None:
        """One video, so that nothing is done for the first time while it is timed."""
        seen = self.drive(Trace("warm-up", (Arrival(0.0),), 0.0), deadline_s=WARM_S, sample_s=0.5)
        if seen.rows[0].outcome != "succeeded":
            raise LiveError(f"The server made no video: the first one {seen.rows[0].outcome}; see {self._log}.")
