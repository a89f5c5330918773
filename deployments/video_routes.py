"""The routes of `/v1/videos`: OpenAI's Videos API over the job journal.

    POST   /v1/videos                a job is written, its id answered; nothing computes inside a request
    GET    /v1/videos                pages of jobs                  (after, limit, order)
    GET    /v1/videos/{id}           how far it is, stage by stage
    GET    /v1/videos/{id}/content   the mp4, whole or a Range of it; or a `variant` to look at
    POST   /v1/videos/{id}/cancel    stops an unfinished job; gives it as it is then
    DELETE /v1/videos/{id}           cancels an unfinished job; forgets a finished one and its file

An unfinished job that is deleted stays readable as `failed` with the code `cancelled`, because the API has no such
status. Never imports torch, never holds frames.
"""

import asyncio
import hashlib
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import get_args

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import iterate_in_threadpool

from client.schema import CreateVideo, Order, Status, Variant, Video, VideoList
from deployments.acceptance import accept_job, idempotency_key, refuse_without_keeper, reuses
from deployments.artifacts import Artifact, ArtifactError, ArtifactStore
from deployments.auth import tenant_of
from deployments.bodies import Files, judge, read_body
from deployments.errors import InvalidRequestError, VideoEndedError, VideoNotFoundError, VideoNotReadyError
from deployments.job_types import FINAL, Job, State, overall
from deployments.jobs import Journal
from deployments.logs import about
from deployments.outlook import Standing
from deployments.ranges import parse_range
from deployments.remix import Child, enter_change, remix
from deployments.services import Services, json_answer
from deployments.sources import Given, accept, drop
from stages.types import StageName

logger = logging.getLogger(__name__)

MAX_PAGE = 100
DEFAULT_PAGE = 20
MAX_KEY_CHARS = 255

NO_STANDING = Standing()
STATUS: dict[State, Status] = {
    "queued": "queued",
    "running": "in_progress",
    "paused": "queued",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "failed",
}


def add_video_routes(app: FastAPI, services: Services) -> None:
    """Put them on the application."""
    journal, store = services.journal, services.store

    @app.post("/v1/videos", response_model=Video)
    async def create(request: Request) -> Response:
        return await video_answer(services, await create_job(services, request))

    @app.get("/v1/videos", response_model=VideoList)
    async def page(request: Request) -> Response:
        query = request.query_params
        limit, order = _limit(query.get("limit")), _order(query.get("order"))
        try:
            jobs, more = await asyncio.to_thread(
                journal.page, tenant=tenant_of(request), after=query.get("after"), limit=limit, order=order
            )
        except VideoNotFoundError as error:
            error.param = "after"
            raise
        outlook = await services.admission.outlook()
        videos = [video_of(job, outlook.standing(job)) for job in jobs]
        first, last = (videos[0].id, videos[-1].id) if videos else (None, None)
        return json_answer(VideoList(data=videos, first_id=first, last_id=last, has_more=more))

    @app.get("/v1/videos/{video_id}", response_model=Video)
    async def retrieve(video_id: str, request: Request) -> Response:
        return await video_answer(services, await asyncio.to_thread(journal.get, video_id, tenant=tenant_of(request)))

    @app.post("/v1/videos/{video_id}/cancel", response_model=Video)
    async def cancel(video_id: str, request: Request) -> Response:
        state = await asyncio.to_thread(journal.request_cancel, video_id, tenant=tenant_of(request))
        job = await asyncio.to_thread(journal.get, video_id)
        if state == "running":
            services.tell_pipeline()
        elif state != "cancelled":
            raise VideoEndedError(video_id, STATUS[state])
        return await video_answer(services, job)

    @app.delete("/v1/videos/{video_id}")
    async def delete(video_id: str, request: Request) -> Response:
        before = (await asyncio.to_thread(journal.get, video_id, tenant=tenant_of(request))).state
        state = before if before in FINAL else await asyncio.to_thread(journal.request_cancel, video_id)
        if state == "running":
            services.tell_pipeline()
        elif before in FINAL or state != "cancelled":  # it was finished, or it finished before the cancel came
            unused = await asyncio.to_thread(journal.delete, video_id)
            for key in unused or ():
                await asyncio.to_thread(store.delete, key)
        return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})

    @app.api_route("/v1/videos/{video_id}/content", methods=["GET", "HEAD"], response_class=Response)
    async def content(video_id: str, request: Request) -> Response:
        variant = _variant(request.query_params.get("variant", "video"))
        job = await asyncio.to_thread(journal.get, video_id, tenant=tenant_of(request))
        if variant in ("keyframe", "preview"):
            return await _shown(services, job, "t2i" if variant == "keyframe" else "i2v", request)
        artifact = _finished(job)
        if not await asyncio.to_thread(store.exists, artifact.key):
            raise ArtifactError(f"Artifact {artifact.key} of job {video_id} is not in {store.url}.")
        if variant == "video":
            return _content(request, artifact, store)
        picture, media_type = await asyncio.to_thread(_still, artifact, store, variant)
        return _picture(request, picture, f"{artifact.sha256}-{variant}", media_type)


async def create_job(services: Services, request: Request) -> Job:
    """The job that a body of `POST /v1/videos` asks for, or that its key has already made.

    Raises:
        ApiError: it is refused.
    """
    args, store = services.args, services.store
    idempotency_key(request)
    created, files = await read_body(request, args.ingress.max_body_bytes, args.ingress.max_upload_bytes)
    if created.input_reference is None and created.input_video is None:
        judge(created, args.preset, keeps=args.keeper.enabled)
    given = await asyncio.to_thread(accept, created, files, store, args.ingress)
    is_new = False
    try:
        child = await _child(services, created, given, tenant_of(request))
        said = _said(created, files)
        job, is_new = await accept_job(services, request, child, created, said=said, parent_id=given.parent_id)
    finally:
        if not is_new:
            await asyncio.to_thread(drop, given, store)
    if is_new:
        with about(job.id):
            logger.info("Job %s is accepted.", job.id)
    return job


async def _child(services: Services, created: CreateVideo, given: Given, tenant: str) -> Child:
    reuse = await reuses(services, tenant, created.reuse)
    if given.parent_id is None:
        request = judge(created, services.args.preset, given.source, keeps=services.args.keeper.enabled)
        return Child(request.model_copy(update={"reuse": reuse}), {})
    refuse_without_keeper(services)
    parent = await asyncio.to_thread(services.journal.get, given.parent_id, tenant=tenant)
    return remix(parent, enter_change(created, given.enter), reuse=reuse)


async def video_answer(services: Services, job: Job) -> Response:
    """A job as the API says it, and when to ask again."""
    headers = {} if job.state in FINAL else {"openai-poll-after-ms": str(services.args.ingress.poll_after_ms)}
    return json_answer(video_of(job, await services.admission.standing(job)), headers=headers)


def told(journal: Journal, job_id: str) -> tuple[Job, str] | None:
    """An ended job and its JSON, for its webhook; None for one that is gone."""
    try:
        job = journal.get(job_id)
    except VideoNotFoundError:
        return None
    return job, video_of(job, Standing()).model_dump_json()


def video_of(job: Job, standing: Standing = NO_STANDING) -> Video:
    """A job as the API says it; `standing` is its place among the others."""
    planned = job.planned
    return Video(
        id=job.id,
        model=job.request.model,
        status=STATUS[job.state],
        progress=100 if job.state == "succeeded" else min(99, overall(job.stages)),
        created_at=int(job.created_at),
        completed_at=int(job.finished_at) if job.state == "succeeded" and job.finished_at is not None else None,
        prompt=job.request.prompt,
        seconds=job.request.seconds,
        size=f"{planned.size[0]}x{planned.size[1]}",
        error=job.error,
        seed=job.request.seed,
        stages=list(job.stages),
        frames=planned.frames,
        fps=planned.fps,
        note=planned.note or None,
        remixed_from_video_id=job.parent_id,
        until=job.request.until if job.request.until != "vfi" else None,
        paused_after=job.request.pause_after if job.state == "paused" else None,
        candidates=job.request.candidates,
        priority=job.priority,
        queue_position=standing.queue_position,
        eta_s=standing.eta_s,
    )


def _finished(job: Job) -> Artifact:
    if job.result is not None:
        return Artifact(**job.result)
    status = STATUS[job.state]
    why = f" ({job.error.code}: {job.error.message})" if job.error else ""
    todo = "poll it until its status is completed" if job.state not in FINAL else "it will have no content"
    raise VideoNotReadyError(f"Video {job.id} is {status}{why}; {todo}.", param="video_id", code="video_not_ready")


def _content(request: Request, artifact: Artifact, store: ArtifactStore) -> Response:
    etag = f'"{artifact.sha256}"'
    name, suffix = artifact.key.split("/")[1], artifact.key.rpartition(".")[2]
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Content-Disposition": f'attachment; filename="{name}.{suffix}"',
    }
    wanted = request.headers.get("range")
    if request.headers.get("if-range", etag) != etag:
        wanted = None  # the client's part is of another file: send this one whole
    span = parse_range(wanted, artifact.size_bytes) if wanted is not None else None
    start, end = (span.start, span.end) if span else (0, artifact.size_bytes)
    headers["Content-Length"] = str(end - start)
    if span:
        headers["Content-Range"] = span.content_range
    pieces: Iterator[bytes] = iter(()) if request.method == "HEAD" else store.read(artifact.key, start, end)
    body: AsyncIterator[bytes] = iterate_in_threadpool(pieces)
    return StreamingResponse(body, 206 if span else 200, headers, media_type=artifact.media_type)


async def _shown(services: Services, job: Job, stage: StageName, request: Request) -> Response:
    """T2I's picture or I2V's frames, from their checkpoints, which the keeper makes something to look at of."""
    number = _candidate(request.query_params.get("candidate"), job) if stage == "t2i" else 0
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
        data, media_type = await services.show(record["key"], record["sha256"])
    except Exception as error:
        raise ArtifactError(f"Output {number} of {stage} of job {job.id} cannot be shown: {error}") from error
    return _picture(request, data, etag, media_type)


def _picture(request: Request, data: bytes, etag: str, media_type: str) -> Response:
    headers = {"ETag": f'"{etag}"', "Cache-Control": "private, max-age=3600"}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=media_type)


def _still(artifact: Artifact, store: ArtifactStore, variant: str) -> tuple[bytes, str]:
    from stages.sheets import sheet_png, thumbnail_webp  # only who asks for one pays for the decoder

    file = io.BytesIO(b"".join(store.read(artifact.key, 0, artifact.size_bytes)))
    if variant == "thumbnail":
        return thumbnail_webp(file), "image/webp"
    if artifact.media_type.startswith("image/"):
        raise InvalidRequestError(
            "This job ended with one picture, of which there is no sheet; ask for the variant 'video' or 'thumbnail'.",
            param="variant",
            code="invalid_parameter",
        )
    return sheet_png(file), "image/png"


def _said(created: CreateVideo, files: Files) -> str:
    """All that a request says, its files by digest: what an idempotency key stands for."""
    names = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    said = created.model_dump(exclude=set(names))
    return json.dumps([said, names], sort_keys=True)


def _variant(text: str) -> str:
    if text not in get_args(Variant):
        raise InvalidRequestError(
            f"variant is {text[:80]!r}; it must be one of: {', '.join(get_args(Variant))}.",
            param="variant",
            code="invalid_parameter",
        )
    return text


def _candidate(text: str | None, job: Job) -> int:
    if text is None:
        return job.request.candidate
    if not text.isdecimal() or len(text) > 3 or int(text) >= job.request.candidates:
        raise InvalidRequestError(
            f"candidate is {text[:80]!r}; video {job.id} has candidates 0 to {job.request.candidates - 1}.",
            param="candidate",
            code="invalid_parameter",
        )
    return int(text)


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_PAGE
    if not text.isdecimal() or len(text) > 6 or not 1 <= int(text) <= MAX_PAGE:
        raise InvalidRequestError(
            f"limit is {text[:80]!r}; it must be between 1 and {MAX_PAGE}.", param="limit", code="invalid_parameter"
        )
    return int(text)


def _order(text: str | None) -> Order:
    if text is None or text == "desc":
        return "desc"
    if text == "asc":
        return "asc"
    raise InvalidRequestError(
        f"order is {text[:80]!r}; it must be 'asc' or 'desc'.", param="order", code="invalid_parameter"
    )
