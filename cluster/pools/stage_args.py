"""What a Serve config says of our application: where it stands in the file, and the arguments of one stage.

`our_application` finds it; `StageArgs` types what stands under `args: stages:`. Manifests are made from that alone;
`deployments.settings.application` types the rest and judges the whole. Knows neither Ray nor the stages.
"""

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from stages.speed import EXACT, SpeedError, changed
from stages.types import StageName

IMPORT_PATH = "deployments.app:build"


class ServeConfigError(ValueError):
    """A file that is no Serve config with our application; one sentence."""


def our_application(text: str, source: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The whole config, and our application in it.

    Raises:
        ServeConfigError: it is no YAML, or has not exactly one application of ours.
    """
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)  # the line itself may hold a secret
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ServeConfigError(
            f"{source} is no YAML{where}: {getattr(error, 'problem', None) or 'not text'}."
        ) from None
    applications = config.get("applications") if isinstance(config, dict) else None
    ours = [
        app
        for app in (applications if isinstance(applications, list) else [])
        if isinstance(app, dict) and app.get("import_path") == IMPORT_PATH
    ]
    if len(ours) != 1:
        raise ServeConfigError(f"{source} needs one application with import_path {IMPORT_PATH}, it has {len(ours)}.")
    return config, ours[0]


def labels_of(pool: str | None) -> dict[str, str]:
    """What a node of the pool carries."""
    return {"pool": pool} if pool else {}


class Args(BaseModel):
    """Any of the application's arguments: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AutoscalingArgs(Args):
    """Between how many replicas a stage moves, and how fast."""

    min_replicas: int = Field(ge=0)
    max_replicas: int = Field(ge=1)
    initial_replicas: int | None = Field(default=None, ge=0)
    target_ongoing_requests: float = Field(default=1.0, gt=0)
    upscale_delay_s: float = Field(default=10.0, ge=0)
    downscale_delay_s: float = Field(default=600.0, ge=0)
    metrics_interval_s: float | None = Field(
        default=None, gt=0, description="Between two reports; Ray's when left out."
    )
    look_back_period_s: float | None = Field(default=None, gt=0, description="Averaged over; Ray's when left out.")

    @model_validator(mode="after")
    def _ordered(self) -> "AutoscalingArgs":
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self


class BatchArgs(Args):
    """Calls of one shape that a replica computes at once; a picture then differs from one made alone by rounding."""

    size: int = Field(default=1, ge=1, description="At most; the profile's best, or 1 for none.")
    wait_s: float = Field(default=0.0, ge=0, description="The first waits so long for as many, on a free device too.")


class StageArgs(Args):
    """One stage's deployment."""

    factory: str | None = Field(default=None, description="module:Class of the stage; its own class when left out.")
    options: dict[str, Any] = Field(default={}, description="Keyword arguments of the factory's load().")
    pool: str | None = Field(default=None, description='Runs only on nodes labelled {"pool": this}.')
    fallback_pool: str | None = Field(
        default=None, description="Of replicas that find no place in `pool`: it is full, or its spot nodes are gone."
    )
    lives_with: StageName | None = Field(
        default=None, description="The stage whose replicas host it: one process, one device, its pool, GPUs, CPUs."
    )
    replicas: int = Field(default=1, ge=1, description="Fixed number; ignored with autoscaling.")
    autoscaling: AutoscalingArgs | None = None
    num_cpus: float = Field(default=1.0, ge=0)
    num_gpus: float = Field(default=0.0, ge=0)
    gpu: str | None = Field(
        default=None, description="The one GPU that its replicas see, by index; else Ray chooses. For one machine."
    )
    speed: dict[str, Any] = Field(
        default={}, description="Knobs of stages.speed.Speed that are turned otherwise than in the preset."
    )
    threads: int | None = Field(default=None, ge=1, description="torch's CPU threads; num_cpus when left out.")
    max_ongoing_requests: int = Field(default=2, ge=1, description="One on the device, one behind it; or batches.")
    batch: BatchArgs = Field(default_factory=BatchArgs, description="T2I alone can; off by default.")
    graceful_shutdown_timeout_s: float = Field(default=600.0, gt=0, description="Above the stage's p99.")
    surge_percent: int = Field(
        default=25, ge=0, le=100, description="Of its replicas, that a roll-out has more for a while, if there is room."
    )
    run_timeout_s: float = Field(default=1800.0, gt=0, description="A call that computes longer fails its job.")
    stall_limit_s: float = Field(default=600.0, gt=0, description="A replica silent for longer is replaced.")
    max_start_attempts: int = Field(default=3, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        if isinstance(given, dict) and "offload" in given:
            raise ValueError(f"offload is a knob of `speed` now: write speed: {{offload: {given['offload']}}}")
        return given

    @model_validator(mode="after")
    def _gpus_that_compute(self) -> "StageArgs":
        try:
            gpus = changed(EXACT, {"gpus": self.speed.get("gpus", 1)}).gpus
        except SpeedError as error:
            raise ValueError(str(error).rstrip(".")) from error
        if self.num_gpus > 1 and self.num_gpus != gpus:
            raise ValueError(
                f"num_gpus is {self.num_gpus:g}, of which {gpus} would compute: set it to {gpus}, or speed.gpus to "
                f"{self.num_gpus:.0f}, which shares every call among them"
            )
        if gpus > 1 and self.num_gpus < gpus and self.num_gpus > 0:
            raise ValueError(f"speed.gpus is {gpus}, and num_gpus is {self.num_gpus:g}: set num_gpus to {gpus}")
        if gpus > 1 and self.gpu is not None:
            raise ValueError(
                f"speed.gpus is {gpus}, and gpu lets the stage see {self.gpu} alone: leave out one of them"
            )
        return self

    @property
    def device(self) -> str:
        return "cuda" if self.num_gpus > 0 else "cpu"

    @property
    def labels(self) -> dict[str, str]:
        return labels_of(self.pool)

    @property
    def fallback_labels(self) -> tuple[dict[str, str], ...]:
        return (labels_of(self.fallback_pool),) if self.fallback_pool else ()

    @property
    def least_replicas(self) -> int:
        """Replicas that must find a place at start."""
        return self.replicas if self.autoscaling is None else self.autoscaling.min_replicas

    @property
    def most_replicas(self) -> int:
        return self.replicas if self.autoscaling is None else self.autoscaling.max_replicas

    @property
    def max_ongoing_calls(self) -> int:
        """At one replica: those of a batch count each."""
        return self.max_ongoing_requests * self.batch.size

    @property
    def torch_threads(self) -> int:
        return self.threads if self.threads is not None else max(1, int(self.num_cpus))
