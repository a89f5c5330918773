"""The routes of `/v1/videos`: OpenAI's Videos API over the job journal.

    POST   /v1/videos                a job is written, its id answered; nothing computes inside a request
    GET    /v1/videos                pages of jobs                  (after, limit, order)
    GET    /v1/videos/{id}           how far it is, stage by stage
    GET    /v1/videos/{id}/content   the mp4, whole or a Range of it
    POST   /v1/videos/{id}/cancel    stops an unfinished job; gives it as it is then
    DELETE /v1/videos/{id}           cancels an unfinished job; forgets a finished one and its file

An unfinished job that is deleted stays readable as `failed` with the code `cancelled`, because the API has no such
status. Never imports torch, never holds frames.
"""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from typing import get_args

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import iterate_in_threadpool

from client.schema import Order, Status, Variant, Video, VideoList
from deployments.admission import Standing
from deployments.artifacts import Artifact, ArtifactError, ArtifactStore
from deployments.auth import tenant_of
from deployments.bodies import judge, read_body
from deployments.errors import InvalidRequestError, VideoEndedError, VideoNotFoundError, VideoNotReadyError
from deployments.job_types import FINAL, Job, State
from deployments.jobs import body_hash
from deployments.pipeline import plan_of
from deployments.progress import overall
from deployments.ranges import parse_range
from deployments.services import Services, json_answer

MAX_PAGE = 100
DEFAULT_PAGE = 20
MAX_KEY_CHARS = 255

NO_STANDING = Standing()
STATUS: dict[State, Status] = {
    "queued": "queued",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "failed",
}


def add_video_routes(app: FastAPI, services: Services) -> None:
    """Put them on the application."""
    args, journal, store = services.args, services.journal, services.store

    async def answer(job: Job) -> Response:
        headers = {} if job.state in FINAL else {"openai-poll-after-ms": str(args.ingress.poll_after_ms)}
        return json_answer(video_of(job, await services.admission.standing(job)), headers=headers)

    @app.post("/v1/videos", response_model=Video)
    async def create(request: Request) -> Response:
        key = request.headers.get("idempotency-key")
        if key is not None and not 1 <= len(key) <= MAX_KEY_CHARS:
            raise InvalidRequestError(
                f"Idempotency-Key has {len(key)} characters; it must have between 1 and {MAX_KEY_CHARS}.",
                param="Idempotency-Key",
                code="invalid_header",
            )
        tenant = tenant_of(request)
        created = await read_body(request, args.ingress.max_body_bytes)
        wanted = judge(created, args.preset)
        await services.prompts.judge("prompt", wanted.prompt, tenant)
        job, is_new = await asyncio.to_thread(
            journal.submit,
            wanted,
            tenant=tenant,
            idem_key=key,
            body_hash=body_hash(created.model_dump_json()),
            priority=created.priority,
            deadline_s=created.deadline_s,
            admit=await services.admission.judge(tenant, created.priority, created.deadline_s),
            max_queued=args.ingress.max_queued_jobs,
            retry_after_s=args.ingress.retry_after_s,
        )
        if is_new:
            services.admission.note(job)
            services.tell_pipeline()
        return await answer(job)

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
        return await answer(await asyncio.to_thread(journal.get, video_id, tenant=tenant_of(request)))

    @app.post("/v1/videos/{video_id}/cancel", response_model=Video)
    async def cancel(video_id: str, request: Request) -> Response:
        state = await asyncio.to_thread(journal.request_cancel, video_id, tenant=tenant_of(request))
        job = await asyncio.to_thread(journal.get, video_id)
        if state == "running":
            services.tell_pipeline()
        elif state != "cancelled":
            raise VideoEndedError(video_id, STATUS[state])
        return await answer(job)

    @app.delete("/v1/videos/{video_id}")
    async def delete(video_id: str, request: Request) -> Response:
        before = (await asyncio.to_thread(journal.get, video_id, tenant=tenant_of(request))).state
        state = before if before in FINAL else await asyncio.to_thread(journal.request_cancel, video_id)
        if state == "running":
            services.tell_pipeline()
        elif before in FINAL or state != "cancelled":  # it was finished, or it finished before the cancel came
            job = await asyncio.to_thread(journal.get, video_id)
            unused = await asyncio.to_thread(journal.delete, video_id)
            if job.result is not None:
                await asyncio.to_thread(store.delete, job.result["key"])
            for key in unused or ():
                await asyncio.to_thread(store.delete, key)
        return JSONResponse({"id": video_id, "object": "video.deleted", "deleted": True})

    @app.api_route("/v1/videos/{video_id}/content", methods=["GET", "HEAD"], response_class=Response)
    async def content(video_id: str, request: Request) -> Response:
        variant = request.query_params.get("variant", "video")
        if variant not in get_args(Variant):
            raise InvalidRequestError(
                f"variant is {variant[:80]!r}; it must be 'video' or 'spritesheet'.",
                param="variant",
                code="invalid_parameter",
            )
        artifact = _finished(await asyncio.to_thread(journal.get, video_id, tenant=tenant_of(request)))
        if not await asyncio.to_thread(store.exists, artifact.key):
            raise ArtifactError(f"Artifact {artifact.key} of job {video_id} is not in {store.url}.")
        if variant == "spritesheet":
            picture = await asyncio.to_thread(_sheet, artifact, store)
            return Response(picture, headers={"ETag": f'"{artifact.sha256}-sheet"'}, media_type="image/png")
        return _content(request, artifact, store)


def video_of(job: Job, standing: Standing = NO_STANDING) -> Video:
    """A job as the API says it; `standing` is its place among the others."""
    steps = plan_of(job.request)
    return Video(
        id=job.id,
        model=job.request.model,
        status=STATUS[job.state],
        progress=100 if job.state == "succeeded" else min(99, overall(job.stages)),
        created_at=int(job.created_at),
        completed_at=int(job.finished_at) if job.state == "succeeded" and job.finished_at is not None else None,
        prompt=job.request.prompt,
        seconds=job.request.seconds,
        size=job.request.size,
        error=job.error,
        seed=job.request.seed,
        stages=list(job.stages),
        frames=steps.frames,
        fps=steps.fps,
        note=steps.note or None,
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
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Content-Disposition": f'attachment; filename="{artifact.key.split("/")[1]}.mp4"',
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


def _sheet(artifact: Artifact, store: ArtifactStore) -> bytes:
    from stages.sheets import sheet_png  # only who asks for one pays for the decoder

    return sheet_png(io.BytesIO(b"".join(store.read(artifact.key, 0, artifact.size_bytes))))


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
