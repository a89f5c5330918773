"""The routes that follow a job while it runs.

GET  /v1/videos/{id}/events   server-sent events; `Last-Event-ID` or `after` goes on where a stream broke
GET  /v1/videos/{id}/glimpse  the denoising step of T2I or I2V that was shown last, a rough picture
GET  /v1/videos/{id}/stream   the video as a fragmented mp4 while VFI makes it
POST /v1/videos/sync          as `POST /v1/videos`, answered when the job has ended or pauses: with the mp4, as
                              vLLM-Omni does, or with the job as JSON, whichever `format` or `Accept` asks for
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from typing import Annotated, Literal

from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from client.schema import CreateVideo, Event, Video
from deployments.api.answers import video_answer, video_of
from deployments.api.bodies import IdempotencyKey
from deployments.api.content import EXPIRED, content_answer
from deployments.api.creating import create_job
from deployments.api.description import Absent, binary, body, errors
from deployments.api.gate import Tenant
from deployments.api.headers.accept import prefers
from deployments.errors import ApiError, InvalidRequestError, SyncTimeoutError, VideoGoneError, VideoNotReadyError
from deployments.files.fragments import Fragments, codec_of
from deployments.files.mp4 import EncodedChunk, read_chunk
from deployments.files.packing import unpack
from deployments.files.store import Artifact, ArtifactStore
from deployments.intake.services import Services
from deployments.jobs.values import FINAL, Job
from deployments.journal.feed import EventFeed

BEAT_S = 15.0  # between comments that keep a quiet stream open
_OPEN = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # proxies hand each piece on
_EventId = Annotated[int, Query(ge=0, le=10**18 - 1)]
_After = Annotated[_EventId, Query(description="Events behind this one.")]
_LastEventId = Annotated[
    _EventId | Absent, Header(alias="Last-Event-ID", description="As `after`, before which it goes; browsers send it.")
]
_Format = Annotated[
    Literal["mp4", "json"] | Absent,
    Query(
        alias="format",
        description="mp4: the video itself; json: the job. When left out, as Accept says; mp4 where it takes both.",
    ),
]


def add_event_routes(app: FastAPI, services: Services) -> None:
    """Put them on the application."""
    journal = services.journal
    feed = EventFeed(journal.database)
    app.state.feed = feed

    @app.get(
        "/v1/videos/{video_id}/events",
        summary="What happens to a video, as server-sent events (data: Event)",
        response_class=Response,
        responses={200: binary("Its events", "text/event-stream"), **errors(400, 404)},
    )
    async def follow_events(
        video_id: str, tenant: Tenant, after: _After = 0, last_event_id: _LastEventId = None
    ) -> Response:
        """All from the beginning, or from where a stream broke, then those to come; ends with the job."""
        after = after if last_event_id is None else last_event_id
        job = await services.at_journal.run(journal.get, video_id, tenant=tenant)
        standing = await services.admission.standing(job)
        about = {"queue_position": standing.queue_position, "eta_s": standing.eta_s} if job.state == "queued" else {}
        return StreamingResponse(_sse(feed, video_id, after, about), headers=_OPEN, media_type="text/event-stream")

    @app.get(
        "/v1/videos/{video_id}/glimpse",
        summary="The denoising step that was shown last, as a small picture",
        response_class=Response,
        responses={
            200: binary("A pixel a latent", "image/webp"),
            204: {"description": "None is shown now"},
            **errors(404),
        },
    )
    async def show_glimpse(video_id: str, tenant: Tenant) -> Response:
        """While T2I or I2V of this server's own loop runs, every `previews.every_steps`; it is kept nowhere."""
        job = await services.at_journal.run(journal.get, video_id, tenant=tenant)
        picture: bytes | None = None
        if services.glimpse is not None and job.state == "running" and services.args.previews.every_steps:
            picture = await services.at_serve.wait(services.glimpse(video_id))
        headers = {"Cache-Control": "no-store"}
        return Response(picture, 200, headers, "image/webp") if picture else Response(status_code=204, headers=headers)

    @app.get(
        "/v1/videos/{video_id}/stream",
        summary="The video as fragmented mp4 while it is made",
        response_class=Response,
        responses={200: binary("The video", "video/mp4"), **errors(400, 404, 409, 410)},
    )
    async def stream_video(video_id: str, tenant: Tenant) -> Response:
        """Plays from the first finished window on, long before the job is completed."""
        job = await services.at_journal.run(journal.get, video_id, tenant=tenant)
        _check_streams(job)
        pieces = _fragments(services, feed, job)
        first = await anext(pieces)  # a job that ends without a video is refused before the first byte
        media_type = f'video/mp4; codecs="{codec_of(first)}"'  # as browsers must be told before the first byte
        return StreamingResponse(_with(first, pieces), headers=_OPEN, media_type=media_type)

    @app.post(
        "/v1/videos/sync",
        summary="Make a video and wait for its end",
        response_model=Video,
        responses={
            200: binary("The video, with X-Video-Id, X-Model and X-Inference-Time-S", "video/mp4", "image/png"),
            202: {"model": Video, "description": "It is not finished yet, and goes on; with format json"},
            **errors(400, 403, 404, 408, 409, 410, 413, 429, 504),
        },
        openapi_extra=body(CreateVideo, form=True),
    )
    async def create_and_wait(
        request: Request, tenant: Tenant, key: IdempotencyKey = None, wanted: _Format = None
    ) -> Response:
        """As `POST /v1/videos`, but answered when the job has ended: with its bytes, or with JSON of it where that
        is asked for. One that takes longer than the server waits goes on: 504, with JSON 202; poll it where `Location`
        says.
        """
        gladly = prefers(request.headers.get("accept"), "video/mp4", "application/json")
        wants_bytes = wanted == "mp4" if wanted else gladly
        job = await create_job(services, request, tenant, key)
        limit_s = services.args.ingress.sync_limit_s
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await _until_it_stops(services, feed, job.id)
        job = await services.at_journal.run(journal.get, job.id)
        measured = _measured(job)
        try:
            if wants_bytes and job.state not in ("paused", *FINAL):
                raise SyncTimeoutError(job.id, limit_s)
            if wants_bytes:
                answer = await content_answer(services, job, request, "video", None, None)
            else:
                answer = await video_answer(services, job)
        except ApiError as error:
            error.headers |= measured
            raise
        answer.headers.update(measured)
        if not wants_bytes and job.state not in FINAL:  # it goes on, and is polled like any other
            answer.status_code = 202
            answer.headers["Location"] = job.id  # beside /v1/videos/sync, whatever prefix a proxy has put before it
        return answer


async def _until_it_stops(services: Services, feed: EventFeed, video_id: str) -> None:
    """Return once the job has ended or is paused."""
    async with aclosing(feed.follow(video_id, steps=False)) as told:
        async for event in told:
            if event is not None and event.kind == "paused":
                job = await services.at_journal.run(services.journal.get, video_id)
                if job.state == "paused":  # and was not only long ago
                    return


def _measured(job: Job) -> dict[str, str]:
    """What vLLM-Omni says beside the bytes; its X-Request-Id is Ray Serve's to say, for every route."""
    said = {"X-Video-Id": job.id, "X-Model": job.request.model}
    video = video_of(job)
    if video.inference_time_s is not None:
        said["X-Inference-Time-S"] = str(video.inference_time_s)
        said["X-Stage-Durations"] = json.dumps(video.stage_durations)
    return said


async def _sse(feed: EventFeed, video_id: str, after: int, about: Mapping[str, object]) -> AsyncIterator[bytes]:
    async with aclosing(feed.follow(video_id, after, beat_s=BEAT_S)) as told:
        async for event in told:
            if event is None:
                yield b": still there\n\n"
            elif event.kind == "queued" and about:
                yield _line(event.model_copy(update={"data": {**event.data, **about}}))
            else:
                yield _line(event)


def _line(event: Event) -> bytes:
    return f"id: {event.id}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n".encode()


def _check_streams(job: Job) -> None:
    if job.request.until in ("t2i", "i2v"):
        raise InvalidRequestError(
            f"Video {job.id} ends after {job.request.until}, so nothing of it is streamed; ask for its content.",
            param="video_id",
            code="not_streamable",
        )


async def _fragments(services: Services, feed: EventFeed, job: Job) -> AsyncIterator[bytes]:
    """The stream's bytes, a piece for each chunk.

    Raises:
        VideoNotReadyError: the job ended without a video.
        VideoGoneError: its file is missing or damaged for good.
    """
    fragments, store = Fragments(), services.store
    if job.state not in FINAL and services.args.keeper.enabled:
        if job.request.extends is not None:
            yield await services.at_store.run(_whole, fragments, store, job.request.extends.key)
        for number in range(job.planned.windows):
            record = await _chunk_record(services, feed, job.id, number)
            if record is None:
                break
            yield await services.at_store.run(_chunk, fragments, store, record["key"])
        else:
            return
    now = await services.at_journal.run(services.journal.get, job.id)
    if now.state not in FINAL:
        async for _ in feed.follow(job.id, steps=False):
            pass
        now = await services.at_journal.run(services.journal.get, job.id)
    if now.state == "succeeded" and now.result is None:
        raise VideoGoneError(job.id, EXPIRED)
    if now.result is None:
        why = f" ({now.error.message})" if now.error else ""
        raise VideoNotReadyError(
            f"Video {job.id} ended without a video{why}.", param="video_id", code="video_not_ready"
        )
    await services.intact.check(job.id, Artifact(**now.result))
    yield await services.at_store.run(_whole, fragments, store, now.result["key"])


async def _chunk_record(services: Services, feed: EventFeed, video_id: str, number: int) -> dict[str, str] | None:
    """The record of VFI's `number`-th chunk as soon as it is kept; None when the job ended without it."""
    while True:
        async with aclosing(feed.follow(video_id, steps=False)) as told:
            async for event in told:
                if event is not None and _safe(event) == ("vfi", number):
                    break
        job = await services.at_journal.run(services.journal.get, video_id)
        record = job.outputs.get("vfi", {}).get(number)
        if record is not None or job.state in FINAL:
            return record


def _safe(event: Event) -> tuple[str, int] | None:
    """The stage and number of an output that can be read from now on."""
    kept = event.kind in ("stage_kept", "stage_restored")
    return (event.data["stage"], event.data["index"]) if kept else None


def _chunk(fragments: Fragments, store: ArtifactStore, key: str) -> bytes:
    chunk = unpack(b"".join(store.read(key, 0, store.size(key))))
    assert isinstance(chunk, EncodedChunk)
    return fragments.add(chunk)


def _whole(fragments: Fragments, store: ArtifactStore, key: str) -> bytes:
    return fragments.add_rest(read_chunk(b"".join(store.read(key, 0, store.size(key)))))


async def _with(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
