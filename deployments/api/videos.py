"""The routes of `/v1/videos`: OpenAI's Videos API over the job journal.

    POST   /v1/videos                a job is written, its id answered; nothing computes inside a request
    GET    /v1/videos                pages of jobs
    GET    /v1/videos/{id}           how far it is, stage by stage
    GET    /v1/videos/{id}/content   the mp4, whole or a Range of it; or a `variant` to look at
    POST   /v1/videos/{id}/cancel    stops an unfinished job; gives it as it is then
    DELETE /v1/videos/{id}           cancels an unfinished job; forgets a finished one and its file

An unfinished job that is deleted stays readable as `failed` with the code `cancelled`, because the API has no such
status. Never imports torch, never holds frames.
"""

from typing import Annotated, Any

from fastapi import FastAPI, Header, Query, Request, Response

from client.schema import CreateVideo, DeletedVideo, Order, Status, Variant, Video, VideoList
from deployments.api.answers import STATUS, json_answer, links_of, video_answer, video_of
from deployments.api.bodies import IdempotencyKey
from deployments.api.content import content_answer
from deployments.api.creating import create_job
from deployments.api.description import Absent, binary, body, errors
from deployments.api.gate import Tenant
from deployments.errors import VideoEndedError, VideoNotFoundError
from deployments.intake.services import Services
from deployments.jobs.judging import MAX_CANDIDATES
from deployments.jobs.values import FINAL
from deployments.journal.sweeps import Sweeps

MAX_PAGE = 100
DEFAULT_PAGE = 20

_MEDIA = ("video/mp4", "image/png", "image/webp")
_PARTS: dict[int | str, Any] = {
    206: binary("The part that Range asks for", *_MEDIA),
    304: {"description": "The client has it already"},
}
_HEADS: dict[int | str, Any] = {status: {"description": said["description"]} for status, said in _PARTS.items()}
_After = Annotated[str | Absent, Query(description="The last id of the page before.")]
_Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Videos a page.")]
_Words = Annotated[
    Annotated[str, Query(min_length=1, max_length=200)] | Absent,
    Query(description="Words that the prompt holds, all of them, in any case; parts of words do."),
]
_Statuses = Annotated[list[Status] | Absent, Query(description="Those that stand so; several times for several.")]
_Variant = Annotated[Variant, Query(description="What of it.")]
_Candidate = Annotated[
    Annotated[int, Query(ge=0, le=MAX_CANDIDATES - 1)] | Absent, Query(description="Which of T2I's pictures.")
]
_Range = Annotated[str | Absent, Header(alias="Range", description="One part of the file, in bytes.")]


def add_video_routes(app: FastAPI, services: Services) -> None:
    """Put them on the application."""
    journal, store = services.journal, services.store

    @app.post(
        "/v1/videos",
        summary="Make a video of a prompt, a picture or a video",
        response_model=Video,
        responses=errors(400, 403, 404, 408, 409, 413, 429),
        openapi_extra=body(CreateVideo, form=True),
    )
    async def create_video(request: Request, tenant: Tenant, key: IdempotencyKey = None) -> Response:
        """The job is written and its id answered at once; nothing is computed meanwhile. Ask for it every
        `openai-poll-after-ms` milliseconds, or follow its events, until `status` is `completed` or `failed`.
        """
        return await video_answer(services, await create_job(services, request, tenant, key))

    @app.get("/v1/videos", summary="A page of videos", response_model=VideoList, responses=errors(400, 404))
    async def list_videos(
        tenant: Tenant,
        after: _After = None,
        limit: _Limit = DEFAULT_PAGE,
        order: Annotated[Order, Query(description="By age.")] = "desc",
        q: _Words = None,
        status: _Statuses = None,
    ) -> Response:
        """The tenant's own, the newest first. While `has_more`, the next page is behind `after=last_id`. With `q` or
        `status` a page looks through 2000 videos at most: it may then be short, or empty, while `has_more`.
        """
        behind: str | None = None
        try:
            if q is None and status is None:
                jobs, more = await services.at_journal.run(
                    journal.page, tenant=tenant, after=after, limit=limit, order=order
                )
            else:
                words, states = (q or "").split(), [state for state, said in STATUS.items() if said in (status or ())]
                jobs, behind = await services.at_journal.run(
                    journal.search, words, states, tenant=tenant, after=after, limit=limit, order=order
                )
                more = behind is not None
        except VideoNotFoundError as error:
            error.param = "after"
            raise
        outlook, link_of = await services.admission.outlook(), await links_of(services)
        videos = [video_of(job, outlook.standing(job), link_of(job)) for job in jobs]
        first, last = (videos[0].id, videos[-1].id) if videos else (None, None)
        return json_answer(VideoList(data=videos, first_id=first, last_id=behind or last, has_more=more))

    @app.get("/v1/videos/{video_id}", summary="How far a video is", response_model=Video, responses=errors(404))
    async def retrieve_video(video_id: str, tenant: Tenant) -> Response:
        """Status, progress, each stage, the place in the queue and the seconds that are left."""
        return await video_answer(services, await services.at_journal.run(journal.get, video_id, tenant=tenant))

    @app.post(
        "/v1/videos/{video_id}/cancel",
        summary="Stop an unfinished job, which stays",
        response_model=Video,
        responses=errors(404, 409),
    )
    async def cancel_video(video_id: str, tenant: Tenant) -> Response:
        """The job stays readable, as `failed` with the code `cancelled`. A job under way stops within a denoising
        step.
        """
        state = await services.at_journal.run(journal.request_cancel, video_id, tenant=tenant)
        job = await services.at_journal.run(journal.get, video_id)
        if state == "running":
            services.nudge_pipeline()
        elif state != "cancelled":
            raise VideoEndedError(video_id, STATUS[state])
        return await video_answer(services, job)

    @app.delete(
        "/v1/videos/{video_id}",
        summary="Cancel an unfinished job, forget a finished one",
        response_model=DeletedVideo,
        responses=errors(404),
    )
    async def delete_video(video_id: str, tenant: Tenant) -> Response:
        """A finished job is gone with its files; one that was not finished is cancelled and stays readable."""
        before = (await services.at_journal.run(journal.get, video_id, tenant=tenant)).state
        state = before if before in FINAL else await services.at_journal.run(journal.request_cancel, video_id)
        if state == "running":
            services.nudge_pipeline()
        elif before in FINAL or state != "cancelled":  # it was finished, or it finished before the cancel came
            unused = await services.at_journal.run(journal.delete, video_id)
            await services.at_store.run(Sweeps(journal.database).erase, store.delete, unused or ())
        return json_answer(DeletedVideo(id=video_id))

    @app.head(
        "/v1/videos/{video_id}/content",
        name="head_content",
        summary="Size and digest of the video",
        response_class=Response,
        responses={**_HEADS, **errors(400, 404, 409, 410, 416)},
    )
    @app.get(
        "/v1/videos/{video_id}/content",
        name="download_content",
        summary="The video, or something of it to look at",
        response_class=Response,
        responses={200: binary("The video, or the variant", *_MEDIA), **_PARTS, **errors(400, 404, 409, 410, 416)},
    )
    async def content(
        video_id: str,
        request: Request,
        tenant: Tenant,
        variant: _Variant = "video",
        candidate: _Candidate = None,
        wanted: _Range = None,
    ) -> Response:
        """The mp4 once the job is completed; `variant` gives something smaller to look at, `keyframe` and `preview`
        before the video is there. A Range is served, and `ETag` and `If-None-Match` spare a second download.
        """
        job = await services.at_journal.run(journal.get, video_id, tenant=tenant)
        return await content_answer(services, job, request, variant, candidate, wanted)
