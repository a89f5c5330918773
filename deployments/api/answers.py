"""What the API answers: a job in its shape, and any model as JSON."""

import logging
import math
import re
import time
from collections.abc import Callable
from contextvars import ContextVar

from fastapi import Response
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.types import Scope

from client.schema import Status, Video
from deployments.errors import (
    ApiError,
    DatabaseAwayError,
    StorageFullError,
    StoreAwayError,
    UnavailableError,
    VideoNotFoundError,
)
from deployments.files.store import is_full as is_store_full
from deployments.intake.services import Services
from deployments.jobs.outlook import Standing, tier_of
from deployments.jobs.plans import seconds_of
from deployments.jobs.remix import asked_of
from deployments.jobs.values import FINAL, Job, State, overall
from deployments.journal.database import is_full
from deployments.journal.journal import Journal

logger = logging.getLogger(__name__)

_SAY_EVERY_S = 10.0
_said_away = -math.inf

CAME_TO: ContextVar[str] = ContextVar("came_to", default="")
"""Scheme, host and prefix that the request's client wrote, for the addresses in its answer."""
_ADDRESS = re.compile(r"https?://(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?:/[\w.~-]+)*")

LinkOf = Callable[[Job], str | None]

NO_STANDING = Standing()
STATUS: dict[State, Status] = {
    "queued": "queued",
    "running": "in_progress",
    "paused": "paused",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "failed",
}


def away_answer(error: Exception) -> Response:
    """507 where a disk is full, else 503: the journal's database or the artifact store is away. Said in the log once
    in a while, however many ask.
    """
    global _said_away
    if (now := time.monotonic()) - _said_away > _SAY_EVERY_S:
        _said_away = now
        reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        what = "artifact store" if isinstance(error, StoreAwayError) else "journal's database"
        logger.warning("The %s does not answer (%s); clients are told to try again.", what, reason)
    away = _away(error)
    return json_answer(away.body(), away.status, away.headers)


def _away(error: Exception) -> ApiError:
    if isinstance(error, StoreAwayError):
        return (
            StorageFullError("the artifact store") if is_store_full(error) else UnavailableError("The artifact store")
        )
    return StorageFullError("the journal's database") if is_full(error) else DatabaseAwayError()


async def video_answer(services: Services, job: Job) -> Response:
    """A job as the API says it, and when to ask again."""
    headers = (
        {} if job.state in ("paused", *FINAL) else {"openai-poll-after-ms": str(services.args.ingress.poll_after_ms)}
    )
    link_of = await links_of(services)
    return json_answer(video_of(job, await services.admission.standing(job), link_of(job)), headers=headers)


def came_to(scope: Scope) -> str:
    """What `CAME_TO` holds of a request, by its own headers or those of the proxies that it came through; "" where that
    is no address.
    """
    headers = Headers(scope=scope)
    host = headers.get("x-forwarded-host") or headers.get("host", "")
    prefix = headers.get("x-forwarded-prefix", scope.get("root_path", ""))
    address = f"{headers.get('x-forwarded-proto', scope['scheme'])}://{host}{prefix.rstrip('/')}"
    return address if _ADDRESS.fullmatch(address) else ""


async def links_of(services: Services) -> LinkOf:
    """From a job to the address of its content that needs no key."""
    base = services.args.ingress.public_url or CAME_TO.get()
    sign = await services.links.signer() if base else None

    def link(job: Job) -> str | None:
        return None if sign is None or job.result is None else f"{base}/v1/videos/{job.id}/content?{sign(job.id)}"

    return link


def webhook_answer(journal: Journal, job_id: str) -> tuple[Job, str] | None:
    """An ended job and its JSON, for its webhook; None for one that is gone."""
    try:
        job = journal.get(job_id)
    except VideoNotFoundError:
        return None
    return job, video_of(job, Standing()).model_dump_json()


def video_of(job: Job, standing: Standing = NO_STANDING, url: str | None = None) -> Video:
    """A job as the API says it; `standing` is its place among the others, `url` where its content needs no key."""
    planned = job.planned
    return Video(
        id=job.id,
        model=job.request.model,
        status=STATUS[job.state],
        progress=100 if job.state == "succeeded" else min(99, overall(job.stages)),
        created_at=int(job.created_at),
        completed_at=int(job.finished_at) if job.state == "succeeded" and job.finished_at is not None else None,
        prompt=job.request.prompt,
        seconds=seconds_of(job.request, planned),
        size=f"{planned.size[0]}x{planned.size[1]}",
        error=job.error,
        seed=job.request.seed,
        stages=list(job.stages),
        asked=asked_of(job.request),
        frames=planned.frames,
        fps=planned.fps,
        note=planned.note or None,
        remixed_from_video_id=job.parent_id,
        until=job.request.until if job.request.until != "vfi" else None,
        paused_after=job.request.pause_after if job.state == "paused" else None,
        candidates=job.request.candidates,
        priority=job.priority,
        service_tier=tier_of(job.priority),
        queue_position=standing.queue_position,
        eta_s=standing.eta_s,
        waits_for=job.waits_for,
        url=url,
        file_name=file_name(job),
        inference_time_s=round(job.ran_s, 3) if job.state == "succeeded" and job.ran_s is not None else None,
        peak_memory_mb=max((peak for stage in job.stages if (peak := stage.peak_memory_mb) is not None), default=None),
        stage_durations={stage.name: stage.run_s for stage in job.stages if stage.run_s is not None},
    )


def file_name(job: Job) -> str | None:
    """What a client may call the file of a finished job."""
    return None if job.result is None else f"{job.id}.{str(job.result.get('key', '')).rpartition('.')[2]}"


def json_answer(value: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(value.model_dump_json(), status, headers, media_type="application/json")
