"""A job's content: the file of a finished one, whole or a Range of it, or something of it to look at."""

import logging
from collections.abc import Iterator

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from client.schema import Variant
from deployments.api.answers import STATUS, file_name
from deployments.api.headers.ranges import parse_range
from deployments.errors import InvalidRequestError, UnavailableError, VideoGoneError, VideoNotReadyError
from deployments.files.store import Artifact, ArtifactError, CheckpointError
from deployments.intake.services import Services
from deployments.jobs.values import FINAL, Job
from stages.types import StageName

logger = logging.getLogger(__name__)

EXPIRED = "it was kept for `retention.results_s` from its end, which are over"
_LOST = "its file is not in the artifact store any more"


async def content_answer(
    services: Services, job: Job, request: Request, variant: Variant, candidate: int | None, wanted: str | None
) -> Response:
    """The bytes of a variant of a job's content.

    Args:
        candidate: which of T2I's pictures; the one that the job went on with where it is None.
        wanted: the header Range.

    Raises:
        VideoNotReadyError: there is no such thing yet.
        VideoGoneError: there is none any more, or its file is missing or damaged for good.
        RangeError: the file has no such bytes.
    """
    if variant in ("keyframe", "preview"):
        return await _shown(services, job, "t2i" if variant == "keyframe" else "i2v", candidate, request)
    artifact = _finished(job)
    await services.intact.check(job.id, artifact)
    if variant != "video":
        try:
            picture, media_type = await services.stills.get(artifact, variant)
        except ArtifactError:
            raise VideoGoneError(job.id, _LOST) from None
        return _picture(request, picture, f"{artifact.sha256}-{variant}", media_type)
    return _content(services, request, artifact, file_name(job), wanted)


def _finished(job: Job) -> Artifact:
    if job.result is not None:
        return Artifact(**job.result)
    if job.state == "succeeded":
        raise VideoGoneError(job.id, EXPIRED)
    status = STATUS[job.state]
    why = f" ({job.error.code}: {job.error.message})" if job.error else ""
    if job.state == "paused":
        todo = "it goes on with POST /continue"
    else:
        todo = "it will have no content" if job.state in FINAL else "poll it until its status is completed"
    raise VideoNotReadyError(f"Video {job.id} is {status}{why}; {todo}.", param="video_id", code="video_not_ready")


def _content(
    services: Services, request: Request, artifact: Artifact, name: str | None, wanted: str | None
) -> Response:
    etag = f'"{artifact.sha256}"'
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    if request.headers.get("if-range", etag) != etag:
        wanted = None  # the client's part is of another file: send this one whole
    span = parse_range(wanted, artifact.size_bytes) if wanted is not None else None
    start, end = (span.start, span.end) if span else (0, artifact.size_bytes)
    headers["Content-Length"] = str(end - start)
    if span:
        headers["Content-Range"] = span.content_range
    pieces: Iterator[bytes] = iter(()) if request.method == "HEAD" else services.store.read(artifact.key, start, end)
    body = services.at_store.iterate(pieces)
    return StreamingResponse(body, 206 if span else 200, headers, media_type=artifact.media_type)


async def _shown(services: Services, job: Job, stage: StageName, candidate: int | None, request: Request) -> Response:
    """T2I's picture or I2V's frames, from their checkpoints, which the keeper makes something to look at of."""
    number = _candidate(candidate, job) if stage == "t2i" else 0
    record = job.outputs.get(stage, {}).get(number)
    if record is None:
        ended = job.state in FINAL
        why = "it is kept no longer, or was never made" if ended else "it is not made yet; events say when it is there"
        raise VideoNotReadyError(
            f"Video {job.id} has no output {number} of {stage} to show: {why}.",
            param="variant",
            code="variant_not_ready",
        )
    etag = f"{record['sha256']}-shown"
    if request.headers.get("if-none-match") == f'"{etag}"':
        return Response(status_code=304, headers={"ETag": f'"{etag}"'})
    try:
        data, media_type = await services.at_decoder.wait(services.show(record["key"], record["sha256"]))
    except UnavailableError:
        raise
    except CheckpointError as error:
        raise VideoGoneError(job.id, f"output {number} of {stage} is missing or damaged") from error
    except Exception as error:
        raise ArtifactError(f"Output {number} of {stage} of job {job.id} cannot be shown: {error}") from error
    return _picture(request, data, etag, media_type)


def _picture(request: Request, data: bytes, etag: str, media_type: str) -> Response:
    headers = {"ETag": f'"{etag}"', "Cache-Control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=media_type)


def _candidate(number: int | None, job: Job) -> int:
    if number is None:
        return job.request.candidate
    if number >= job.request.candidates:
        raise InvalidRequestError(
            f"candidate is {number}; video {job.id} has candidates 0 to {job.request.candidates - 1}.",
            param="candidate",
            code="invalid_parameter",
        )
    return number
