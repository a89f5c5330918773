"""The typed arguments of the application: what stands under `args:` in serve_config.yaml, units in the names.

Unknown keys are errors; nothing is corrected silently. `reading` takes them from a file, `variants` changes them for
one machine or for stand-in stages. Knows nothing of the graph (`deployments.app` does) and imports no Ray, no torch.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from cluster.policy.look_ahead import LookAhead
from cluster.policy.types import PolicyError
from cluster.pools.stage_args import IMPORT_PATH as IMPORT_PATH
from cluster.pools.stage_args import Args
from cluster.pools.stage_args import AutoscalingArgs as AutoscalingArgs
from cluster.pools.stage_args import BatchArgs as BatchArgs
from cluster.pools.stage_args import StageArgs as StageArgs
from deployments.jobs.values import NOBODY, Limits
from deployments.observe.logs import Format, Level
from deployments.settings.inputs import FetchArgs as FetchArgs
from deployments.settings.inputs import FileArgs as FileArgs
from deployments.settings.inputs import PreviewArgs as PreviewArgs
from deployments.settings.secrets import HOW, OTLP_KEY, is_reference, resolved, without_password
from deployments.settings.upkeep import KeeperArgs as KeeperArgs
from deployments.settings.upkeep import OrderArgs as OrderArgs
from deployments.settings.upkeep import RetentionArgs as RetentionArgs
from deployments.settings.upkeep import WebhookArgs as WebhookArgs
from stages.presets import PRESETS, RequestError, get_preset
from stages.settings import with_speeds
from stages.speed import Speed, SpeedError
from stages.types import STAGE_NAMES, StageName

_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?")
POLICY_PATH = "cluster.policy.autoscaler:Scaler"

_FACTORIES: dict[StageName, str] = {
    "t2i": "stages.t2i:T2I",
    "i2v": "stages.i2v:I2V",
    "v2v": "stages.v2v:V2V",
    "vfi": "stages.vfi:VFI",
}


class RouterArgs(Args):
    """How often a caller asks a full deployment again; Ray's default of up to 0.5 s costs a tenth of throughput."""

    initial_backoff_s: float = Field(default=0.005, gt=0)
    backoff_multiplier: float = Field(default=1.5, ge=1)
    max_backoff_s: float = Field(default=0.02, gt=0)


class StorageArgs(Args):
    """Where jobs and videos are kept. With several nodes: a database server and an object store."""

    database_url: str = Field(
        default="sqlite:///data/jobs.sqlite", description="Or where it stands, as env:NAME or file:/path."
    )
    artifacts_url: str = "file://data/artifacts"

    @field_validator("database_url")
    @classmethod
    def _without_password(cls, url: str) -> str:
        return url if is_reference(url) else without_password(url, f"say where it stands, as {HOW}")

    def database(self) -> str:
        """The database's address itself.

        Raises:
            ConfigError: the reference names nothing here.
        """
        return resolved(self.database_url, "storage.database_url")

    @field_validator("artifacts_url")
    @classmethod
    def _absolute(cls, url: str) -> str:
        without_password(url, "give it to the store's client, in AWS_SECRET_ACCESS_KEY or as its own docs say")
        return (
            f"file://{Path(url.removeprefix('file://')).absolute()}" if "://" not in url or url[:4] == "file" else url
        )


class PipelineArgs(Args):
    """The deployment that drives jobs."""

    replicas: int = Field(default=1, ge=1)
    max_replicas: int | None = Field(
        default=None, ge=1, description="With `scaling`: the most; `replicas` if left out."
    )
    num_cpus: float = Field(default=1.0, ge=0)
    max_jobs: int = Field(
        default=16,
        ge=1,
        description="Jobs in flight per replica; bounds the object store. "
        "A quarter more may come that are of a higher class than one of them.",
    )
    claims: Literal["newest", "always", "never"] = Field(
        default="newest",
        description="newest: of several clusters on one journal, the one that was started last, once it can make "
        "videos. always: each. never: no job is claimed, and what is claimed goes on to its end.",
    )
    poll_s: float = Field(default=0.5, gt=0, description="How often the journal is asked when nobody nudges.")
    flush_s: float = Field(default=0.1, gt=0, description="Progress is gathered for so long, then written at once.")
    lease_s: float = Field(default=30.0, gt=0, description="A job without a heartbeat for so long is taken over.")
    stage_attempts: int = Field(default=6, ge=1, description="Tries of one stage call whose replica dies at one place.")
    stage_failures: int = Field(
        default=2, ge=0, description="Calls of a stage that may raise in one job, over every restart, before it fails."
    )
    retry_backoff_s: float = Field(default=1.0, ge=0, description="Before the first repetition; it doubles each time.")
    job_attempts: int = Field(default=2, ge=1, description="Runs of a job whose outputs die before it is put off.")


_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ScalingArgs(Args):
    """The look-ahead policy; with it, a stage's own `target_ongoing_requests` and delays are not used.

    Serve takes the policy itself only from a config file: `autoscaling_policy: {policy_function: ...}` beside `args`.
    """

    budget_gpus: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="For all stages together; no limit when left out."
    )
    call_s: dict[StageName, _Seconds] = Field(default={}, description="Of a call, until one has been measured.")
    batch_s: dict[StageName, _Seconds] = Field(
        default={}, description="Seconds of a whole batch of `stages.*.batch.size`, until one has been measured."
    )
    start_up_s: dict[StageName, _Seconds] = Field(default={}, description="Of a replica, until one has been measured.")
    arrivals_window_s: float = Field(default=300.0, gt=0, description="Over which the rate of arrivals is taken.")
    report_s: float = Field(default=1.0, gt=0, description="How often the pipeline tells the policy what there is.")
    policy: dict[str, float] = Field(
        default={}, description="Options of `cluster.policy.look_ahead.LookAhead`, like goal_s."
    )

    @field_validator("policy")
    @classmethod
    def _options(cls, given: dict[str, float]) -> dict[str, float]:
        try:
            LookAhead(**given)
        except TypeError as error:
            known = ", ".join(LookAhead.__dataclass_fields__)
            raise ValueError(f"the look-ahead policy has no such option; it has {known}") from error
        except PolicyError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return given


class ObservabilityArgs(Args):
    """What the server tells of itself beside /metrics."""

    log_format: Format = Field(default="text", description="json: one object a line, for a collector.")
    log_level: Level = "INFO"
    otlp_url: str | None = Field(
        default=None, description='Where traces go, like "http://collector:4318/v1/traces"; nowhere when left out.'
    )
    service: str = Field(default="magicvideo", description="service.name of the traces.")

    @field_validator("otlp_url")
    @classmethod
    def _an_address(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ValueError("it must begin with http:// or https://; OTLP over gRPC is not spoken")
        return url and without_password(url, OTLP_KEY)


class IngressArgs(Args):
    """The deployment that speaks HTTP."""

    replicas: int = Field(default=1, ge=1)
    num_cpus: float = Field(default=1.0, ge=0)
    max_queued_jobs: int = Field(default=1000, ge=1, description="More than that waiting: 429 with Retry-After.")
    retry_after_s: int = Field(default=5, ge=1)
    poll_after_ms: int = Field(default=500, ge=1, description="What clients are told to wait between two polls.")
    max_body_bytes: int = Field(default=16_000_000, ge=1, description="Of a JSON body, with any file in it.")
    max_upload_bytes: int = Field(default=100_000_000, ge=1, description="Of a form, with its file.")
    max_uploads: int = Field(
        default=8, ge=1, description="Forms, and large JSON bodies, that come in at once; of one tenant half."
    )
    body_limit_s: float = Field(default=300.0, gt=0, description="Within which a whole body must come.")
    max_upload_side_px: int = Field(default=4096, ge=16)
    max_upload_frames: int = Field(default=512, ge=2)
    max_upload_pixels: int = Field(default=2**30, ge=256, description="Of all frames of a video together.")
    sync_limit_s: float = Field(default=300.0, gt=0, description="POST /v1/videos/sync waits so long for the end.")
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description='Pages of other sites that may use the API, each by its origin, like "https://studio.example".',
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#@\s]+(/[^/?#\s]+)*$",
        description="Where clients reach this server, for links that need no key; else as the request was addressed.",
    )
    links_s: float | None = Field(
        default=86_400.0, ge=60, description="How long a video's `url` works without a key; null: there are none."
    )
    keys_fresh_s: float = Field(default=3.0, ge=0, description="A revoked API key still works for so long, at most.")
    blocked_terms: tuple[str, ...] = Field(default=(), description="A prompt with one of these words is refused.")
    prompt_check: str | None = Field(
        default=None,
        pattern=r"^[\w.]+:\w+$",
        description="module:function(prompt, tenant) that gives why a prompt is refused, or None; runs in a thread.",
    )
    study_measures: tuple[Annotated[str, Field(pattern=r"^[\w.]+:\w+$")], ...] = Field(
        default=(),
        description="module:function(frames, fps, prompt) that gives numbers of a study's video, by name; CLIP's, say.",
    )

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f'{origin!r} is no origin; name each one, like "https://studio.example", without a path: '
                    "with a star any page could use a server without keys"
                )
        return origins

    @field_validator("blocked_terms")
    @classmethod
    def _terms_with_words(cls, terms: tuple[str, ...]) -> tuple[str, ...]:
        for term in terms:
            if not any(sign.isalnum() for sign in term):
                raise ValueError(f"the term {term!r} has no letter and no digit")
        return terms


class AppArgs(Args):
    """Everything `deployments.app:build` takes."""

    preset: str = "tiny"
    served_names: tuple[Annotated[str, Field(pattern=r"^[\w./:-]{1,100}$")], ...] = Field(
        default=(), description="What `model` may say for this preset, beside its own name, like sora-2."
    )
    control_pool: str | None = Field(default=None, description="As a stage's `pool`: of ingress, pipeline and keeper.")
    stages: dict[StageName, StageArgs] = Field(default={}, validate_default=True)
    storage: StorageArgs = Field(default_factory=StorageArgs)
    pipeline: PipelineArgs = Field(default_factory=PipelineArgs)
    order: OrderArgs = Field(default_factory=OrderArgs)
    keeper: KeeperArgs = Field(default_factory=KeeperArgs)
    retention: RetentionArgs = Field(default_factory=RetentionArgs)
    ingress: IngressArgs = Field(default_factory=IngressArgs)
    fetching: FetchArgs = Field(default_factory=FetchArgs)
    files: FileArgs = Field(default_factory=FileArgs)
    previews: PreviewArgs = Field(default_factory=PreviewArgs)
    webhooks: WebhookArgs = Field(default_factory=WebhookArgs)
    observability: ObservabilityArgs = Field(default_factory=ObservabilityArgs)
    router: RouterArgs = Field(default_factory=RouterArgs)
    scaling: ScalingArgs | None = None
    external_scaler: bool = Field(
        default=False, description="Replicas may be set through Ray's dashboard; no stage scales by itself then."
    )
    limits: Limits = Field(default_factory=Limits, description="Of tenants that `limits set` has not named.")
    missing_pool: Literal["refuse", "degraded"] = Field(
        default="refuse",
        description="refuse: do not start without every pool. degraded: start, and say on /healthz what is missing; "
        "needed where nodes come only once replicas wait for them.",
    )
    pool_wait_s: float = Field(default=60.0, ge=0, description="How long a start waits for missing pools.")
    graceful_shutdown_wait_loop_s: float = Field(default=2.0, gt=0)

    @field_validator("preset")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            return get_preset(name).name
        except RequestError as error:
            raise ValueError(str(error)) from error

    @model_validator(mode="after")
    def _speeds_that_can_be(self) -> "AppArgs":
        try:
            self.speeds  # noqa: B018 - it judges
        except SpeedError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return self

    @model_validator(mode="after")
    def _own_names(self) -> "AppArgs":
        taken = [name for name in self.served_names if name in PRESETS or self.served_names.count(name) > 1]
        if taken:
            raise ValueError(f"served_names has {taken[0]!r}, which is a preset's own name or stands there twice")
        return self

    @field_validator("stages")
    @classmethod
    def _complete(cls, given: dict[StageName, StageArgs]) -> dict[StageName, StageArgs]:
        for name, stage in given.items():
            if name != "t2i" and stage.batch.size > 1:
                raise ValueError(f"{name}.batch.size is {stage.batch.size}; t2i alone computes several calls at once")
            if stage.fallback_pool is not None and stage.pool in (None, stage.fallback_pool):
                raise ValueError(
                    f"{name}.fallback_pool is {stage.fallback_pool} and its pool {stage.pool}; name two pools, or only "
                    "a pool"
                )
        return {name: given.get(name, StageArgs()) for name in STAGE_NAMES}

    @model_validator(mode="after")
    def _homes(self) -> "AppArgs":
        for name, stage in self.stages.items():
            if stage.lives_with is None:
                continue
            if stage.lives_with == name or self.stages[stage.lives_with].lives_with is not None:
                raise ValueError(
                    f"stages.{name}.lives_with is {stage.lives_with}, which has no replicas of its own; name a stage "
                    "that lives with none"
                )
            if stage.batch.size > 1:
                raise ValueError(
                    f"stages.{name} lives with {stage.lives_with} and has a batch of {stage.batch.size}; a guest's "
                    "calls are computed one by one, leave out its batch"
                )
            if self.scaling is not None:
                raise ValueError(
                    f"stages.{name}.lives_with is {stage.lives_with}, and `scaling` scales each stage by itself; "
                    "leave out one of them"
                )
            if stage.autoscaling is not None:
                raise ValueError(
                    f"stages.{name} lives with {stage.lives_with} and has as many replicas as that; "
                    f"leave out stages.{name}.autoscaling"
                )
        return self

    @model_validator(mode="after")
    def _one_scaler(self) -> "AppArgs":
        scaled = [name for name, stage in self.stages.items() if stage.autoscaling is not None]
        if self.external_scaler and (self.scaling is not None or scaled):
            raise ValueError(
                "external_scaler excludes `scaling` and every stage's `autoscaling`; it has "
                + ", ".join([*(["scaling"] if self.scaling else []), *scaled])
            )
        least = sum(self.stages[name].least_replicas * (self.stages[name].num_gpus or 1.0) for name in scaled)
        if self.scaling and self.scaling.budget_gpus is not None and self.scaling.budget_gpus < least:
            raise ValueError(
                f"scaling.budget_gpus is {self.scaling.budget_gpus:g}, and the stages' min_replicas alone take "
                f"{least:g} GPUs; raise it to {least:g}, or lower a min_replicas"
            )
        return self

    @property
    def speeds(self) -> dict[StageName, Speed]:
        """Of every stage: the preset's, with the knobs that stand here.

        Raises:
            SpeedError: a knob that a stage does not have, or a contradiction.
        """
        told = {name: stage.speed for name, stage in self.stages.items()}
        preset = with_speeds(get_preset(self.preset), told, "stages.{}.speed")
        return {name: preset.speed(name) for name in STAGE_NAMES}

    def limits_for(self, tenant: str) -> Limits:
        """Of a tenant that has none of its own. With API keys, and unless the configuration says otherwise, one tenant
        has half of the queue at most, and asks for no more than the usual priority.
        """
        if tenant == NOBODY:
            return self.limits
        sane = {"max_queued": max(1, self.ingress.max_queued_jobs // 2), "max_priority": 0}
        given = self.limits.model_fields_set
        return self.limits.model_copy(update={name: value for name, value in sane.items() if name not in given})

    def home(self, stage: StageName) -> StageName:
        """The stage whose deployment computes this one: its own, but for one that lives with another."""
        return self.stages[stage].lives_with or stage

    def ordered(self) -> dict[StageName, StageName]:
        """The deployment of each stage whose calls wait in a line. Batches form of calls that are sent as they come."""
        homes = {name: self.home(name) for name in self.stages} if self.order.enabled else {}
        return {name: home for name, home in homes.items() if self.stages[home].batch.size == 1}

    @property
    def many_pipelines(self) -> bool:
        """Whether several pipeline replicas may drive jobs at once."""
        return max(self.pipeline.replicas, self.pipeline.max_replicas or 0) > 1

    def device(self, stage: StageName) -> str:
        """What a replica of the stage computes on; stages with one name for it take turns or share it."""
        own = self.stages[self.home(stage)]
        if own.num_gpus == 0 and own.num_cpus < 1:
            return "cpu"  # slivers that place replicas only: `variants.laptop`
        if own.gpu is not None:
            return f"gpu {own.gpu}"
        return f"gpu of {own.pool}" if 0 < own.num_gpus < 1 else self.home(stage)

    def factory(self, stage: StageName) -> str:
        return self.stages[stage].factory or _FACTORIES[stage]
