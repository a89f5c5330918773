"""The routes that make a new job of an old one, or have one go on.

POST /v1/videos/{id}/remix      a new job with changes, from the first stage that they reach
POST /v1/videos/{id}/extend     a new job whose video goes on where this one ends
POST /v1/videos/{id}/continue   a job that waits after a stage (`pause_after`) is queued again
"""

from fastapi import FastAPI, Request, Response

from client.schema import ContinueVideo, ExtendVideo, RemixVideo, Video
from deployments.api.answers import video_answer
from deployments.api.bodies import IdempotencyKey, read_small
from deployments.api.description import body, errors
from deployments.api.gate import Tenant
from deployments.intake.acceptance import accept_job, refuse_without_keeper, reuses
from deployments.intake.services import Services
from deployments.jobs.remix import extend, remix


def add_remix_routes(app: FastAPI, services: Services) -> None:
    """Put them on the application."""
    args, journal = services.args, services.journal

    @app.post(
        "/v1/videos/{video_id}/remix",
        summary="A new job with changes, that reuses the stages before them",
        response_model=Video,
        responses=errors(400, 403, 404, 408, 409, 413, 429),
        openapi_extra=body(RemixVideo),
    )
    async def remix_video(video_id: str, request: Request, tenant: Tenant, key: IdempotencyKey = None) -> Response:
        """What is left out stays as it was. The stages before `from_stage`, or before the first that a change reaches,
        are not computed again.
        """
        refuse_without_keeper(services)
        change, note = await read_small(request, RemixVideo, args.ingress)
        parent = await services.at_journal.run(journal.get, video_id, tenant=tenant)
        child = remix(parent, change, reuse=await reuses(services, tenant, None))
        said = f"{request.url.path} {change.model_dump_json()}"
        job, _ = await accept_job(
            services, child, change, tenant=tenant, key=key, said=said, parent_id=parent.id, note=note
        )
        return await video_answer(services, job)

    @app.post(
        "/v1/videos/{video_id}/extend",
        summary="A new job whose video goes on where this one ends",
        response_model=Video,
        responses=errors(400, 403, 404, 408, 409, 413, 429),
        openapi_extra=body(ExtendVideo),
    )
    async def extend_video(video_id: str, request: Request, tenant: Tenant, key: IdempotencyKey = None) -> Response:
        """The new video begins with the old one and goes on from its last frame."""
        refuse_without_keeper(services)
        change, note = await read_small(request, ExtendVideo, args.ingress)
        parent = await services.at_journal.run(journal.get, video_id, tenant=tenant)
        said = f"{request.url.path} {change.model_dump_json()}"
        child = extend(parent, change)
        job, _ = await accept_job(
            services, child, change, tenant=tenant, key=key, said=said, parent_id=parent.id, note=note
        )
        return await video_answer(services, job)

    @app.post(
        "/v1/videos/{video_id}/continue",
        summary="Have a paused job go on",
        response_model=Video,
        responses=errors(400, 404, 408, 409, 413),
        openapi_extra=body(ContinueVideo),
    )
    async def continue_video(video_id: str, request: Request, tenant: Tenant) -> Response:
        """Of a job that `pause_after` holds; with `candidates` from the picture that `candidate` names."""
        wanted, _ = await read_small(request, ContinueVideo, args.ingress)
        job = await services.at_journal.run(journal.go_on, video_id, wanted.candidate, tenant=tenant)
        services.nudge_pipeline()
        return await video_answer(services, job)
