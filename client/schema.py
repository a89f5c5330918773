"""The wire contract: what goes over HTTP, in the shape of OpenAI's Videos API plus keys of our own.

The server imports this module too, so that both sides read one definition. Whether a value fits a preset is the
server's to say; this module holds what is true for every preset. It imports pydantic and nothing else of the project.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["queued", "in_progress", "completed", "failed"]
Variant = Literal["video", "spritesheet"]  # of a video's content: the mp4, or a PNG of six frames of it
StageStatus = Literal["waiting", "queued", "running", "completed", "failed", "cancelled"]
Order = Literal["asc", "desc"]

TERMINAL: frozenset[Status] = frozenset({"completed", "failed"})


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


class Answer(BaseModel):
    """Base of what the server says: frozen, so that a result can be shared; keys of a newer server are ignored."""

    model_config = ConfigDict(frozen=True)


class StageState(Answer):
    """One stage of a job, in the order of the pipeline."""

    name: str
    status: StageStatus = "waiting"
    progress: int = Field(default=0, ge=0, le=100)
    queued_s: float | None = Field(default=None, description="Seconds between the input being ready and the start.")
    run_s: float | None = Field(default=None, description="Seconds of computing.")
    bytes_out: int | None = Field(default=None, description="Bytes handed to the next stage.")


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
    frames: int | None = None
    fps: float | None = None
    note: str | None = None


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


class ErrorDetail(Answer):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Answer):
    """Every error of the server, whatever its status."""

    error: ErrorDetail


class Health(Answer):
    """Body of `GET /healthz`."""

    status: Literal["ok", "degraded", "starting"]
    model: str
    version: str
    stages: dict[str, int] = Field(default={}, description="Running replicas of each stage.")
    problems: list[str] = []
