"""The routes that make a new job of an old one, or have one go on.

POST /v1/videos/{id}/remix      a new job with changes, from the first stage that they reach
POST /v1/videos/{id}/extend     a new job whose video goes on where this one ends
POST /v1/videos/{id}/continue   a job that waits after a stage (`pause_after`) is queued again
"""

import asyncio
from typing import Any

from fastapi import FastAPI, Request, Response

from client.schema import ContinueVideo, ExtendVideo, RemixVideo, Video
from deployments.bodies import read_small
from deployments.jobs import body_hash
from deployments.remix import Child, extend, remix
from deployments.services import Services
from deployments.video_routes import idempotency_key, refuse_without_keeper, video_answer


def add_remix_routes(app: FastAPI, services: Services) -> None:
    """Put them on the application."""
    args, journal = services.args, services.journal

    async def submit(request: Request, parent_id: str, child: Child, text: str, **values: Any) -> Response:
        job, is_new = await asyncio.to_thread(
            journal.submit,
            child.request,
            idem_key=idempotency_key(request),
            body_hash=body_hash(f"{request.url.path} {text}"),
            max_queued=args.ingress.max_queued_jobs,
            retry_after_s=args.ingress.retry_after_s,
            parent_id=parent_id,
            needs=child.needs,
            **values,
        )
        if is_new:
            services.tell_pipeline()
        return video_answer(services, job)

    @app.post("/v1/videos/{video_id}/remix", response_model=Video)
    async def remix_video(video_id: str, request: Request) -> Response:
        refuse_without_keeper(services)
        change = await read_small(request, RemixVideo, args.ingress.max_body_bytes)
        parent = await asyncio.to_thread(journal.get, video_id)
        child = remix(parent, change)
        return await submit(request, parent.id, child, change.model_dump_json(), priority=change.priority)

    @app.post("/v1/videos/{video_id}/extend", response_model=Video)
    async def extend_video(video_id: str, request: Request) -> Response:
        refuse_without_keeper(services)
        change = await read_small(request, ExtendVideo, args.ingress.max_body_bytes)
        parent = await asyncio.to_thread(journal.get, video_id)
        return await submit(request, parent.id, extend(parent, change), change.model_dump_json())

    @app.post("/v1/videos/{video_id}/continue", response_model=Video)
    async def continue_video(video_id: str, request: Request) -> Response:
        wanted = await read_small(request, ContinueVideo, args.ingress.max_body_bytes)
        job = await asyncio.to_thread(journal.go_on, video_id, wanted.candidate)
        services.tell_pipeline()
        return video_answer(services, job)
