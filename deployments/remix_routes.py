"""The routes that make a new job of an old one, or have one go on.

POST /v1/videos/{id}/remix      a new job with changes, from the first stage that they reach
POST /v1/videos/{id}/extend     a new job whose video goes on where this one ends
POST /v1/videos/{id}/continue   a job that waits after a stage (`pause_after`) is queued again
"""

import asyncio

from fastapi import FastAPI, Request, Response

from client.schema import ContinueVideo, ExtendVideo, RemixVideo, Video
from deployments.acceptance import accept_job, refuse_without_keeper, reuses
from deployments.auth import tenant_of
from deployments.bodies import read_small
from deployments.remix import extend, remix
from deployments.services import Services
from deployments.video_routes import video_answer


def add_remix_routes(app: FastAPI, services: Services) -> None:
    """Put them on the application."""
    args, journal = services.args, services.journal

    @app.post("/v1/videos/{video_id}/remix", response_model=Video)
    async def remix_video(video_id: str, request: Request) -> Response:
        refuse_without_keeper(services)
        change = await read_small(request, RemixVideo, args.ingress.max_body_bytes)
        tenant = tenant_of(request)
        parent = await asyncio.to_thread(journal.get, video_id, tenant=tenant)
        child = remix(parent, change, reuse=await reuses(services, tenant, None))
        said = f"{request.url.path} {change.model_dump_json()}"
        job, _ = await accept_job(services, request, child, change, said=said, parent_id=parent.id)
        return await video_answer(services, job)

    @app.post("/v1/videos/{video_id}/extend", response_model=Video)
    async def extend_video(video_id: str, request: Request) -> Response:
        refuse_without_keeper(services)
        change = await read_small(request, ExtendVideo, args.ingress.max_body_bytes)
        parent = await asyncio.to_thread(journal.get, video_id, tenant=tenant_of(request))
        said = f"{request.url.path} {change.model_dump_json()}"
        job, _ = await accept_job(services, request, extend(parent, change), change, said=said, parent_id=parent.id)
        return await video_answer(services, job)

    @app.post("/v1/videos/{video_id}/continue", response_model=Video)
    async def continue_video(video_id: str, request: Request) -> Response:
        wanted = await read_small(request, ContinueVideo, args.ingress.max_body_bytes)
        job = await asyncio.to_thread(journal.go_on, video_id, wanted.candidate, tenant=tenant_of(request))
        services.tell_pipeline()
        return await video_answer(services, job)
