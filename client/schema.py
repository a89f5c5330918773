"""The wire contract: what goes over HTTP, in the shape of OpenAI's Videos API plus keys of our own.

The server imports this module too, so that both sides read one definition. Whether a value fits a preset is the
server's to say; this module holds what is true for every preset. It imports pydantic and `single`.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .single import Stages

Status = Literal["queued", "in_progress", "paused", "completed", "failed"]
"""OpenAI's four, and `paused`: a job that `pause_after` holds until it is continued, deleted or too old. It is none of
the two that a poll waits through (`queued`, `in_progress`), so that the SDKs' polls end there, and no end either.
"""
StageName = Literal["t2i", "i2v", "v2v", "vfi"]
Variant = Literal["video", "thumbnail", "spritesheet", "keyframe", "preview"]
"""Of a video's content: the mp4; a WebP of its first frame; a PNG of six of its frames; the PNG that T2I made, of
`candidate` where there are several; the mp4 of I2V's low-resolution frames. The last two are there before the video is.
"""
StageStatus = Literal["waiting", "queued", "running", "completed", "failed", "cancelled", "skipped"]
Order = Literal["asc", "desc"]
ServiceTier = Literal["default", "flex", "priority"]
AskedTier = Literal["auto", "default", "flex", "priority"]  # auto: as if it was left out

STAGES: dict[str, tuple[str, str]] = {
    "t2i": ("picture", "draws the reference picture"),
    "i2v": ("motion", "animates it into low-resolution keyframes"),
    "v2v": ("detail", "redraws them at high resolution"),
    "vfi": ("smoothness", "fills in the frames between them"),
}
"""The four stages in their order: what people call each, and what it does. Page, command and texts say so."""

TERMINAL: frozenset[Status] = frozenset({"completed", "failed"})


class Reference(BaseModel):
    """A picture or a video inside a JSON body: its bytes as a `data:` URL, where they are, or the id of a file that was
    sent before or of an earlier video.

    Addresses of other servers are fetched where the operator allows their host (`fetching.hosts`), else refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_url: str | None = Field(default=None, description='Like "data:image/png;base64,...", or an http(s) address.')
    video_url: str | None = Field(default=None, description='Like "data:video/mp4;base64,...", or an http(s) address.')
    file_id: str | None = Field(default=None, description="A file of `POST /v1/files` of the same tenant.")
    id: str | None = Field(default=None, description="An earlier video of the same tenant.")


class CreateVideo(BaseModel):
    """Body of `POST /v1/videos`, as JSON or as multipart form fields. Only the prompt is required.

    Defaults, sizes, seconds and the range of steps belong to the preset that `model` names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    model: str | None = Field(default=None, description="Name of the preset; the server's own when left out.")
    negative_prompt: str = ""
    size: str | None = Field(default=None, description='Final size as "WxH".')
    seconds: str | None = Field(default=None, description="Length of the video; a string, as OpenAI has it.")
    seed: int | None = Field(default=None, description="Same seed, same video; drawn by the server when left out.")
    steps: int | None = Field(default=None, description="Length of every denoising schedule.")
    guidance: float | None = Field(default=None, description="Classifier-free guidance scale of every stage.")
    stages: Stages = Field(default=None, description='Of single stages, like {"i2v": {"steps": 20, "guidance": 4}}.')
    factor: int | None = Field(default=None, description="Frames out of VFI for every keyframe, 2 to 8.")
    input_reference: Reference | None = Field(default=None, description="A picture in T2I's place; in a form, a file.")
    input_video: Reference | None = Field(
        default=None, description="A video that enters at `enter`; in a form, a file; or an earlier video's id."
    )
    enter: Literal["v2v", "vfi"] | None = Field(
        default=None,
        description="Where input_video enters: v2v redraws it in high resolution, vfi interpolates it.",
    )
    remixed_from_video_id: str | None = Field(
        default=None, description="An earlier video that this one is a remix of, as `POST /v1/videos/{id}/remix` makes."
    )
    until: StageName | None = Field(default=None, description="The last stage to run; the video is what it gave.")
    pause_after: Literal["t2i", "i2v", "v2v"] | None = Field(
        default=None, description="Hold the job after this stage, with no device in use, until it is continued."
    )
    candidates: int = Field(default=1, description="Pictures that T2I makes for pause_after=t2i, 1 to 8.")
    priority: int = Field(default=0, description="Higher goes first, -10 to 10.")
    service_tier: AskedTier | None = Field(
        default=None, description="OpenAI's word for a class: flex waits for the others, priority goes before them."
    )
    deadline_s: float | None = Field(
        default=None, description="Refuse the job, or give it up while it waits, when it cannot be done so soon."
    )
    reuse: bool | None = Field(default=None, description="Take outputs of equal calls of earlier jobs, or never.")
    webhook_url: str | None = Field(default=None, description="Told once when the job ends, signed.")


class RemixVideo(BaseModel):
    """Body of `POST /v1/videos/{id}/remix`: a new job that reuses the stages before `from_stage`.

    What is left out stays as it was. A new prompt alone begins at T2I, like the first time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str | None = None
    from_stage: StageName | None = Field(
        default=None, description="The first stage that runs again; the first that the changes reach when left out."
    )
    negative_prompt: str | None = None
    seed: int | None = Field(default=None, description="The parent's when left out.")
    steps: int | None = None
    guidance: float | None = None
    stages: Stages = None
    factor: int | None = None
    until: StageName | None = None
    pause_after: Literal["t2i", "i2v", "v2v"] | None = None
    priority: int = 0
    service_tier: AskedTier | None = None
    deadline_s: float | None = None
    webhook_url: str | None = None


class ContinueVideo(BaseModel):
    """Body of `POST /v1/videos/{id}/continue`, for a job that `pause_after` holds; it may be empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    candidate: int = Field(default=0, ge=0, description="Which of T2I's pictures to go on from.")


class ExtendVideo(BaseModel):
    """Body of `POST /v1/videos/{id}/extend`: a new job whose video begins with the old one and goes on from its end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str | None = Field(default=None, description="What happens next; the old prompt when left out.")
    seconds: str | None = Field(default=None, description="How much is added.")
    seed: int | None = None
    webhook_url: str | None = None


class EditVideo(RemixVideo):
    """Body of `POST /v1/videos/edits`, as JSON or as a form: a remix of the earlier video that `video` names by its id;
    a video that comes along is redrawn by V2V, or begins at `from_stage`.
    """

    video: Reference


class ExtensionVideo(ExtendVideo):
    """Body of `POST /v1/videos/extensions`, as JSON or as a form: `extend` of the earlier video that `video` names."""

    video: Reference


class Answer(BaseModel):
    """Base of what the server says: frozen, so that a result can be shared; keys of a newer server are ignored."""

    model_config = ConfigDict(frozen=True)


class StageState(Answer):
    """One stage of a job, in the order of the pipeline."""

    name: str = Field(
        description=f"{', '.join(f'{code}, the {called}, {does}' for code, (called, does) in STAGES.items())}."
    )
    status: StageStatus = "waiting"
    progress: int = Field(default=0, ge=0, le=100)
    queued_s: float | None = Field(default=None, description="Seconds between the input being ready and the start.")
    run_s: float | None = Field(default=None, description="Seconds of computing.")
    bytes_out: int | None = Field(default=None, description="Bytes handed to the next stage.")
    peak_memory_mb: float | None = Field(default=None, description="MiB that the call with most memory needed.")
    origin: Literal["restored", "reused", "uploaded"] | None = Field(
        default=None, description="Where the output came from, when it was not computed by this run of this job."
    )


class JobError(Answer):
    """Why a job failed. A cancelled job is `failed` with the code `cancelled`, as the SDK has no such status."""

    code: str
    message: str


class Video(Answer):
    """One job and, once completed, its video."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Status
    progress: int = Field(ge=0, le=100)
    created_at: int
    completed_at: int | None = None
    expires_at: int | None = None
    prompt: str
    remixed_from_video_id: str | None = None
    seconds: str
    size: str
    error: JobError | None = None
    seed: int
    stages: list[StageState] = []
    asked: dict[str, Any] = Field(
        default={}, description="Makes it again, with its prompt and seed; where `from_stage` is in it, as its remix."
    )
    frames: int | None = None
    fps: float | None = None
    note: str | None = None
    until: StageName | None = None
    paused_after: StageName | None = Field(default=None, description="The job waits for `continue`; no device is used.")
    candidates: int = 1
    priority: int = 0
    service_tier: ServiceTier = "default"
    queue_position: int | None = Field(default=None, description="Jobs that go first, while this one is queued.")
    eta_s: float | None = Field(default=None, description="Estimated seconds until it is completed.")
    waits_for: str | None = Field(
        default=None, description="What the server lacks now, or that an urgent job goes first; the job goes on then."
    )
    url: str | None = Field(default=None, description="Of its content, once completed; needs no key, for a while.")
    file_name: str | None = Field(default=None, description="As `content` names the file.")
    inference_time_s: float | None = Field(
        default=None, description="Seconds from the start of its work to its end, without what it waited in the queue."
    )
    stage_durations: dict[str, float] = Field(
        default={}, description="Seconds of computing by stage, of all its calls together."
    )
    peak_memory_mb: float | None = Field(default=None, description="MiB of the stage with most: on its GPU, or CPU.")


class Event(Answer):
    """One event of `GET /v1/videos/{id}/events`, sent as server-sent events; `id` resumes a broken stream.

    | kind | data |
    |---|---|
    | queued | queue_position, eta_s |
    | started, restarted, job_restarted | |
    | released | pause_s: until it may start again, when its server kept dying |
    | waiting | stage, reason: what the server lacks; the job goes on when it is there |
    | put_off | pause_s, reason: the same; the job begins again after it, from its checkpoints |
    | stage_queued, stage_started, stage_completed | stage |
    | stage_progress | stage, progress in percent |
    | stage_restored | stage, index, origin |
    | stage_output, stage_kept, stage_retried | stage, index, ... |
    | stage_yielded | stage, index, step, total: it stopped there; wait_s: about so long, for an urgent job |
    | stage_resumed | stage, index, step, total; parked_s: so long after it stopped |
    | keyframe_ready | variant, candidate: what `content` has from now on |
    | preview_ready | variant |
    | chunk_ready | index, total: `stream` can play so far |
    | paused, continued | stage |
    | completed, failed, cancelled | error; the last event of a job |
    """

    id: int
    kind: str
    at: float = Field(description="Seconds since the epoch.")
    data: dict[str, Any] = {}


class PoolState(Answer):
    """One stage's pool, as `GET /v1/pools` shows it."""

    stage: str = Field(description="A code, as a `StageState` names it.")
    pool: str | None = None
    replicas: int = Field(description="Running now.")
    wanted: int = Field(description="What the autoscaler asks for, or the configuration.")
    queued: int = Field(description="Calls sent that have no device yet.")
    running: int = Field(description="Calls that compute.")
    utilisation: float = Field(ge=0, le=1, description="Share of replicas that compute.")
    median_run_s: float | None = Field(default=None, description="Seconds that a job computes here.")
    busy: int = Field(default=0, description="Replicas that compute; fewer than calls where they are batched.")
    free: int = Field(default=0, description="Replicas that run and wait for a call.")
    backlog_s: float | None = Field(
        default=None, description="Seconds until it is through with every job that waits or runs now."
    )
    memory_bytes: int | None = Field(default=None, description="Of its replicas' processes, a minute old at most.")


class PoolMoment(Answer):
    """What was so at one time: by stage, in the order of the pipeline."""

    at: float = Field(description="Seconds since the epoch.")
    queued: list[int]
    running: list[int]
    replicas: list[int]


class Pools(Answer):
    """Body of `GET /v1/pools`."""

    stages: list[PoolState]
    jobs: dict[str, int] = Field(default={}, description="Jobs by state.")
    finished: list[int] = Field(
        default=[], description="Videos completed in each of the last 60 minutes, the newest last; with `history`."
    )
    history: list[PoolMoment] = Field(
        default=[], description="The last hour as this replica of the API saw it, the newest last; with `history`."
    )


class Model(Answer):
    """What may stand in `model`: the served preset, or another name for it; and what may be asked of it."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the paper appeared, in seconds since the epoch.")
    owned_by: Literal["magicvideo"] = "magicvideo"
    root: str = Field(description="The preset.")
    sizes: list[str]
    seconds: list[str]
    frames: dict[str, int] = Field(description="Of a video, by `seconds`, with the default factor.")
    fps: float = Field(description="With the default factor.")
    steps: dict[str, int] = Field(description="By stage, where `steps` is left out.")
    max_steps: int
    defaults: dict[str, Any] = Field(description="Of `size`, `seconds` and `factor`.")


class ModelList(Answer):
    """Body of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[Model]


class VideoList(Answer):
    """One page of jobs; ask for the next with `after=last_id` while `has_more`."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class DeletedVideo(Answer):
    """Body of `DELETE /v1/videos/{id}`: an unfinished job is cancelled, a finished one is gone with its video."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: bool = True


class File(Answer):
    """A file that was sent by `POST /v1/files`, in the shape of OpenAI's."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None = None
    filename: str
    purpose: str
    status: Literal["processed"] = Field(default="processed", description="It was decoded when it came.")
    kind: Literal["picture", "video"]
    size: str = Field(description="WxH in pixels, upright.")
    frames: int = 1


class FileList(Answer):
    """One page of files; ask for the next with `after=last_id` while `has_more`."""

    object: Literal["list"] = "list"
    data: list[File]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class DeletedFile(Answer):
    """Body of `DELETE /v1/files/{id}`: jobs that began from the file keep its bytes."""

    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class ErrorDetail(Answer):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Answer):
    """Every error of the server, whatever its status."""

    error: ErrorDetail


class Health(Answer):
    """Body of `GET /healthz`: `ok`, with 200, while a new job can be accepted and made; anything else with 503."""

    status: Literal["ok", "degraded", "starting"]
    model: str
    version: str
    stages: dict[str, int] = Field(default={}, description="Running replicas of each stage.")
    wanted: dict[str, int] = Field(default={}, description="Replicas that each stage should have now.")
    problems: list[str] = Field(default=[], description="What is missing, a sentence each.")
