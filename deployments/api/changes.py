"""The routes that make a new job of an old one, or have one go on.

POST /v1/videos/{id}/remix      a new job with changes, from the first stage that they reach
POST /v1/videos/{id}/extend     a new job whose video goes on where this one ends
POST /v1/videos/{id}/continue   a job that waits after a stage (`pause_after`) is queued again
POST /v1/videos/edits           `remix` as newer OpenAI SDKs ask for it: the body names the video, or brings one
POST /v1/videos/extensions      `extend` likewise
"""

from typing import Literal

from fastapi import FastAPI, Request, Response

from client.schema import (
    ContinueVideo,
    CreateVideo,
    EditVideo,
    ExtendVideo,
    ExtensionVideo,
    Reference,
    RemixVideo,
    Video,
)
from deployments.api.answers import video_answer
from deployments.api.bodies import IdempotencyKey, open_body, read_small
from deployments.api.creating import create_from, digest_of
from deployments.api.description import body, errors
from deployments.api.gate import Tenant
from deployments.errors import InvalidRequestError
from deployments.intake.acceptance import accept_job, refuse_without_keeper, reuses
from deployments.intake.services import Services
from deployments.intake.sources import Files
from deployments.jobs.remix import extend, remix
from deployments.jobs.values import Job


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
        said = f"{request.url.path} {change.model_dump_json()}"
        return await video_answer(services, await _remixed(services, video_id, change, tenant, key, said, note))

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
        said = f"{request.url.path} {change.model_dump_json()}"
        return await video_answer(services, await _extended(services, video_id, change, tenant, key, said, note))

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

    @app.post(
        "/v1/videos/edits",
        summary="A remix of the video that the body names, or a new look for one that comes along",
        response_model=Video,
        responses=errors(400, 403, 404, 408, 409, 413, 429),
        openapi_extra=body(EditVideo, form=True),
    )
    async def edit_video(request: Request, tenant: Tenant, key: IdempotencyKey = None) -> Response:
        """As newer OpenAI SDKs ask for a remix; the file of a video that this server made is as good as its id. Another
        that comes along, or is named by `video_url` or `file_id`, is redrawn by V2V.
        """
        async with open_body(request, services, tenant, EditVideo) as (asked, files, note):
            parent_id = await _parent_of(services, asked.video, files, tenant)
            if parent_id is not None:
                said = f"{request.url.path} {parent_id} {asked.model_dump_json(exclude={'video'})}"
                job = await _remixed(services, parent_id, asked, tenant, key, said, note)
            else:
                job = await _redrawn(services, asked, files, note, tenant, key)
        return await video_answer(services, job)

    @app.post(
        "/v1/videos/extensions",
        summary="A new job whose video goes on where the one that the body names ends",
        response_model=Video,
        responses=errors(400, 403, 404, 408, 409, 413, 429),
        openapi_extra=body(ExtensionVideo, form=True),
    )
    async def extend_named_video(request: Request, tenant: Tenant, key: IdempotencyKey = None) -> Response:
        """As newer OpenAI SDKs ask for an extension; `video` is the id or the file of one that this server made."""
        async with open_body(request, services, tenant, ExtensionVideo) as (asked, files, note):
            parent_id = await _parent_of(services, asked.video, files, tenant)
            if parent_id is None:
                raise InvalidRequestError(
                    "video is none that this server made and keeps, and no other can be extended; name one as "
                    '{"id": "video_..."}.',
                    param="video",
                    code="not_extendable",
                )
            said = f"{request.url.path} {parent_id} {asked.model_dump_json(exclude={'video'})}"
            job = await _extended(services, parent_id, asked, tenant, key, said, note)
        return await video_answer(services, job)


async def _parent_of(services: Services, video: Reference, files: Files, tenant: str) -> str | None:
    """The id of the video that a body names, or sends as this server made it, byte for byte: openai-python sends files
    alone. None of any other.
    """
    if sum(value is not None for _, value in video) != 1:
        raise InvalidRequestError(
            "video holds one of: the id of a video, a file of the form, video_url, file_id.",
            param="video",
            code="invalid_field",
        )
    if "video" not in files:
        return video.id
    digest = await services.at_decoder.run(digest_of, files["video"])
    return await services.at_journal.run(services.journal.made, digest, tenant=tenant)


async def _remixed(
    services: Services, video_id: str, change: RemixVideo, tenant: str, key: str | None, said: str, note: str
) -> Job:
    refuse_without_keeper(services)
    parent = await services.at_journal.run(services.journal.get, video_id, tenant=tenant)
    child = remix(parent, change, reuse=await reuses(services, tenant, None))
    job, _ = await accept_job(
        services, child, change, tenant=tenant, key=key, said=said, parent_id=parent.id, note=note
    )
    return job


async def _extended(
    services: Services, video_id: str, change: ExtendVideo, tenant: str, key: str | None, said: str, note: str
) -> Job:
    refuse_without_keeper(services)
    parent = await services.at_journal.run(services.journal.get, video_id, tenant=tenant)
    child = extend(parent, change)
    job, _ = await accept_job(
        services, child, change, tenant=tenant, key=key, said=said, parent_id=parent.id, note=note
    )
    return job


async def _redrawn(services: Services, asked: EditVideo, files: Files, note: str, tenant: str, key: str | None) -> Job:
    """A video that comes along enters at V2V, which draws over it what the prompt says."""
    if asked.from_stage in ("t2i", "i2v"):
        raise InvalidRequestError(
            f"from_stage is {asked.from_stage!r}, but the video comes along, so it can begin at 'v2v' or 'vfi'.",
            param="from_stage",
            code="invalid_field",
        )
    same = asked.model_dump(exclude={"video", "from_stage"}, exclude_none=True)
    enter: Literal["v2v", "vfi"] = "vfi" if asked.from_stage == "vfi" else "v2v"
    created = CreateVideo(**{"prompt": "", **same}, input_video=asked.video, enter=enter)
    given = {"input_video": files["video"]} if "video" in files else {}
    try:
        return await create_from(services, created, given, note, tenant, key)
    except InvalidRequestError as error:
        if error.param == "input_video":  # which this request calls otherwise
            error.param, error.message = "video", error.message.replace("input_video", "video")
        raise
