"""The routes of studies: `/v1/studies` for who asks, `/v1/rate` for raters, who have a link and no key.

    POST   /v1/studies                    a plan is frozen; its videos are prepared in the background
    GET    /v1/studies, /{id}             how far; also /{id}/results, /{id}/export, /{id}/plots/{name}
    POST   /v1/studies/{id}/numbers       measures the videos in the background; GET gives what there is
    POST   /v1/studies/{id}/links         a link a rater; GET lists them, DELETE /{link} revokes one
    GET    /v1/rate                       where a rater stands, and the next pair
    GET    /v1/rate/trials/{id}/left      a video of it; also right
    POST   /v1/rate/votes                 a vote, which is on the disk when it is answered

What a rater is sent names no system, job or file. The gate has judged the signature of their link.
"""

import hashlib
import secrets
import threading
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Annotated, Literal

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import ValidationError

from client.schema_numbers import StudyNumbers
from client.schema_studies import (
    CreateStudy,
    DeletedStudy,
    MakeLinks,
    Power,
    RaterLinks,
    Study,
    StudyList,
    StudyResults,
    Vote,
)
from deployments.api.answers import CAME_TO, json_answer
from deployments.api.bodies import BodyT, IdempotencyKey, first_fault, limited_body
from deployments.api.description import binary, body, errors
from deployments.api.gate import Tenant
from deployments.bulkheads import Bulkhead
from deployments.errors import ApiError, InvalidRequestError
from deployments.files.store import ArtifactError, CheckpointError
from deployments.intake.services import Services
from deployments.journal.sweeps import Sweeps
from deployments.settings.application import IngressArgs
from deployments.studies.book import NewStudy, Plans, Record, StudyBook
from deployments.studies.errors import StudyStateError, StudyVideoGoneError, TrialNotFoundError, needing_packages
from deployments.studies.measuring import measure_study, numbers_of
from deployments.studies.plan import ids_of, make_plan
from deployments.studies.preparing import prepare
from deployments.studies.showing import LEAST_PADDING, link_of, padding, rating_of, study_of
from deployments.studies.tokens import token_of
from deployments.studies.votes import Ballot, RaterBook, Seat

MAX_BODY_BYTES = 16 * 2**20
_VOTE_BYTES = 65_536
_MAX_SIGNS = 250_000  # that begin or part values in JSON; 16,000 videos have some 130,000, and commas in prompts
_STATISTICS_S = 120.0
_Difference = Annotated[float, Query(ge=0.01, le=0.9, description="Share for the better one less that of the other.")]
_Ties = Annotated[float, Query(ge=0, le=0.95, description="Share of votes that name neither.")]
_Wanted = Annotated[float, Query(ge=0.5, le=0.99, description="How surely the difference is to be seen.")]
_Format = Annotated[Literal["jsonl", "csv"], Query(alias="format", description="A line of JSON a vote, or a table.")]
_PRIVATE = {"Cache-Control": "private, no-store"}


async def _rater(request: Request) -> str:
    return str(request.state.rater)


async def _closed(request: Request) -> bool:
    return bool(request.state.closed)


_Rater = Annotated[str, Depends(_rater)]
_Closed = Annotated[bool, Depends(_closed)]


def add_study_routes(app: FastAPI, services: Services) -> None:
    """Put them on the application."""
    plans = Plans()
    at_statistics = Bulkhead("The statistics", threads=1, wait_s=_STATISTICS_S)
    book, raters = StudyBook(services.journal.database, plans), RaterBook(services.journal.database, plans)

    async def found(study_id: str, tenant: str) -> Record:
        return await services.at_journal.run(book.get, study_id, tenant=tenant)

    async def go_on(study: Record) -> None:
        """See that somebody prepares it: a server that ended may have left it."""
        if study.state == "preparing" and await services.at_journal.run(book.take, study.id):
            measures = services.args.ingress.study_measures
            threading.Thread(target=prepare, args=(book, services.store, study, measures), daemon=True).start()

    @app.post(
        "/v1/studies",
        summary="Ask people which of two sets of videos is better",
        response_model=Study,
        responses=errors(400, 403, 404, 408, 409, 410, 413),
        openapi_extra=body(CreateStudy),
    )
    async def create_study(request: Request, tenant: Tenant, key: IdempotencyKey = None) -> Response:
        """The videos, completed jobs or files that were sent, are paired by prompt and take, and the plan is frozen.
        They are then made alike in the background, until `state` is `ready`.
        """
        asked = await _read(request, CreateStudy, services.args.ingress, MAX_BODY_BYTES)
        body_hash = hashlib.sha256(asked.model_dump_json().encode()).hexdigest()
        study_id = await services.at_journal.run(book.made_by, tenant, key, body_hash) or ""
        if not study_id:
            kept = await services.at_journal.run(book.look_up, ids_of(asked), tenant)
            seed = secrets.randbits(32) if asked.seed is None else asked.seed
            plan = await services.at_decoder.run(make_plan, asked, kept, seed)
            new = NewStudy(tenant, asked.title, asked.instructions, plan, body_hash, key)
            study_id = await services.at_journal.run(book.add, new)
        study = await found(study_id, tenant)
        await go_on(study)
        return json_answer(study_of(study))

    @app.get("/v1/studies", summary="The newest studies", response_model=StudyList)
    async def list_studies(tenant: Tenant) -> Response:
        """The tenant's own, up to a hundred."""
        records = await services.at_journal.run(book.page, tenant)
        return json_answer(StudyList(data=[study_of(record) for record in records]))

    @app.get(
        "/v1/studies/power",
        summary="What a study needs to see a difference",
        response_model=Power,
        responses=errors(400, 501),
    )
    async def study_power(difference: _Difference = 0.1, ties: _Ties = 0.2, power: _Wanted = 0.8) -> Response:
        """Independent votes, and raters by pairs that are worth as many, of a two-sided test at 5 %."""
        return json_answer(await at_statistics.run(_power, difference, ties, power))

    @app.get("/v1/studies/{study_id}", summary="How far a study is", response_model=Study, responses=errors(404))
    async def retrieve_study(study_id: str, tenant: Tenant) -> Response:
        """State, plan and how many votes there are."""
        study = await found(study_id, tenant)
        await go_on(study)
        return json_answer(study_of(study))

    @app.delete("/v1/studies/{study_id}", summary="Forget a study", response_model=DeletedStudy, responses=errors(404))
    async def delete_study(study_id: str, tenant: Tenant) -> Response:
        """With its links, votes and videos; jobs and files that it was made of stay."""
        unused = await services.at_journal.run(book.delete, study_id, tenant=tenant)
        await services.at_store.run(Sweeps(services.journal.database).erase, services.store.delete, unused)
        return json_answer(DeletedStudy(id=study_id))

    @app.get(
        "/v1/studies/{study_id}/results",
        summary="What the votes say",
        response_model=StudyResults,
        responses=errors(404, 501),
    )
    async def study_results(study_id: str, tenant: Tenant) -> Response:
        """With intervals by raters and prompts. With too few votes it says how many are missing, and no p-value."""
        study = await found(study_id, tenant)
        ballots = await services.at_journal.run(raters.ballots, study_id)
        measured = await services.at_store.run(numbers_of, book, services.store, study)
        return json_answer(await at_statistics.run(_results, study, ballots, measured))

    @app.get(
        "/v1/studies/{study_id}/numbers",
        summary="Automatic numbers of a study's videos",
        response_model=StudyNumbers,
        responses=errors(404),
    )
    async def study_numbers(study_id: str, tenant: Tenant) -> Response:
        """Of each video, each pair, and each two systems: what was measured so far."""
        study = await found(study_id, tenant)
        return json_answer(await services.at_store.run(numbers_of, book, services.store, study))

    @app.post(
        "/v1/studies/{study_id}/numbers",
        summary="Measure a study's videos",
        response_model=StudyNumbers,
        responses=errors(404, 409),
    )
    async def measure_numbers(study_id: str, tenant: Tenant) -> Response:
        """What takes a model, some seconds a video, at the lowest priority: warp error, likeness of the first frame to
        the picture that T2I drew, VMAF, Frechet distances, and `ingress.study_measures`. Results have them then.
        """
        study = await found(study_id, tenant)
        if study.state != "ready":
            said = f"Study {study_id} is {study.state}; its videos are measured once it is ready."
            raise StudyStateError(said, param="study_id", code="study_not_ready")
        if await services.at_journal.run(book.take, study_id, "ready"):
            services.in_background(measure(study))
        return json_answer(await services.at_store.run(numbers_of, book, services.store, study))

    async def measure(study: Record) -> None:
        beginnings = {}
        for video in {video.id: video for own in study.plan.sources for video in own}.values():
            if (picture := await _beginning(services, video.id, study.tenant)) is not None:
                beginnings[video.id] = picture
        known = (book, services.store, study, services.args.ingress.study_measures, beginnings)
        threading.Thread(target=measure_study, args=known, daemon=True).start()

    @app.get(
        "/v1/studies/{study_id}/export",
        summary="Every vote, with the ids and seeds of its videos",
        response_class=Response,
        responses={200: binary("The votes", "application/x-ndjson", "text/csv"), **errors(400, 404, 501)},
    )
    async def export_study(study_id: str, tenant: Tenant, kind: _Format = "jsonl") -> Response:
        """Training, checks and raters that are left out too; `counts` says which ones the results have."""
        study = await found(study_id, tenant)
        ballots = await services.at_journal.run(raters.ballots, study_id)
        measured = await services.at_store.run(numbers_of, book, services.store, study)
        by_video = {video: one.numbers for video, one in enumerate(measured.videos)}
        text = await at_statistics.run(_exported, study, ballots, by_video, kind)
        named = {"Content-Disposition": f'attachment; filename="{study_id}.{kind}"'}
        return Response(text, headers=named, media_type="text/csv" if kind == "csv" else "application/x-ndjson")

    @app.get(
        "/v1/studies/{study_id}/plots/{name}",
        summary="The results as a picture",
        response_class=Response,
        responses={200: binary("The picture", "image/png"), **errors(400, 404, 409, 501)},
    )
    async def plot_study(study_id: str, name: str, tenant: Tenant) -> Response:
        """`bars` of good, same and bad as in the paper, or the `ranking` of three systems and more."""
        if name not in ("bars", "ranking"):
            said = f"There is no plot {name[:80]!r}; there are bars and ranking."
            raise InvalidRequestError(said, param="name", code="invalid_parameter")
        study = await found(study_id, tenant)
        ballots = await services.at_journal.run(raters.ballots, study_id)
        return Response(await at_statistics.run(_plot, study, ballots, name), media_type="image/png")

    @app.post(
        "/v1/studies/{study_id}/links",
        summary="Make a link for each rater",
        response_model=RaterLinks,
        responses=errors(400, 404, 408, 409, 413),
        openapi_extra=body(MakeLinks),
    )
    async def make_links(study_id: str, request: Request, tenant: Tenant) -> Response:
        """One person each, who needs no account; signed, and over when it expires or is revoked."""
        asked = await _read(request, MakeLinks, services.args.ingress, _VOTE_BYTES)
        made = await services.at_journal.run(raters.make, study_id, asked.count, asked.days, tenant=tenant)
        return await links_answer(study_id, tenant, {link.id for link in made})

    @app.get(
        "/v1/studies/{study_id}/links",
        summary="The raters' links",
        response_model=RaterLinks,
        responses=errors(404),
    )
    async def list_links(study_id: str, tenant: Tenant) -> Response:
        """How far each rater is, and their addresses."""
        return await links_answer(study_id, tenant)

    @app.delete(
        "/v1/studies/{study_id}/links/{link_id}",
        summary="Revoke a rater's link",
        response_model=RaterLinks,
        responses=errors(404),
    )
    async def revoke_link(study_id: str, link_id: str, tenant: Tenant) -> Response:
        """What was voted by it stays; its place in the plan is free for another."""
        await found(study_id, tenant)
        await services.at_journal.run(raters.revoke, study_id, link_id)
        return await links_answer(study_id, tenant, {link_id})

    async def links_answer(study_id: str, tenant: str, only: set[str] | None = None) -> Response:
        plan = (await found(study_id, tenant)).plan
        links = await services.at_journal.run(raters.links, study_id)
        base = services.args.ingress.public_url or CAME_TO.get()
        data = [
            link_of(
                link,
                len(plan.raters[link.slot]),
                None if link.revoked_at is not None else f"{base}/rate#{await token_of(services.links, link.id)}",
            )
            for link in links
            if only is None or link.id in only
        ]
        return json_answer(RaterLinks(data=data))

    @app.get("/v1/rate", include_in_schema=False)
    async def rate(link_id: _Rater, closed: _Closed) -> Response:
        seat = await services.at_journal.run(raters.seat, link_id, closed=closed)
        return json_answer(rating_of(seat), headers=_PRIVATE)

    @app.post("/v1/rate/votes", include_in_schema=False, openapi_extra=body(Vote))
    async def vote(request: Request, link_id: _Rater, closed: _Closed) -> Response:
        given = await _read(request, Vote, services.args.ingress, _VOTE_BYTES)
        seat = await services.at_journal.run(raters.vote, link_id, given, closed=closed)
        return json_answer(rating_of(seat, given.trial), headers=_PRIVATE)

    shelf: dict[str, dict[int, tuple[str, int]]] = {}

    @app.get("/v1/rate/trials/{trial}/{side}", include_in_schema=False)
    async def trial_video(trial: str, side: str, link_id: _Rater, closed: _Closed) -> Response:
        seat = await services.at_journal.run(raters.seat, link_id, closed=closed)
        key, whole = await services.at_journal.run(_key, book, shelf, seat, trial, side)
        try:
            size = await services.at_store.run(services.store.size, key)
        except ArtifactError:
            raise StudyVideoGoneError from None
        pieces = services.at_store.iterate(chain(services.store.read(key, 0, size), [padding(whole - size)]))
        return StreamingResponse(pieces, headers={**_PRIVATE, "Content-Length": str(whole)}, media_type="video/mp4")


async def _read(request: Request, model: type[BodyT], limits: IngressArgs, most: int) -> BodyT:
    """A body of JSON of up to `most` bytes, and of as many values as a study may have. Raises as `open_body` does."""
    if b"\\u0000" in (body := bytes(await limited_body(request, most, limits.body_limit_s))):
        raise InvalidRequestError("The body holds the sign NUL, which no text has.", code="invalid_json")
    if sum(body.count(sign) for sign in b"{[,") > _MAX_SIGNS:  # nobody is answered while a million are judged
        said = f"The body has more than {_MAX_SIGNS} keys and values, the limit; no study has so many."
        raise InvalidRequestError(said, code="invalid_json")
    try:
        return model.model_validate_json(body.strip() or b"{}", strict=True)
    except ValidationError as error:
        raise first_fault(error, {}) from None


def _key(
    book: StudyBook, shelf: dict[str, dict[int, tuple[str, int]]], seat: Seat, trial: str, side: str
) -> tuple[str, int]:
    """The file of one side, and how long all files of the study are made; which video it is never changes.

    Raises:
        TrialNotFoundError: it is none of the rater's.
        StudyStateError: it is not its turn.
    """
    number = seat.number(trial)
    if side not in ("left", "right"):
        raise TrialNotFoundError(f"{trial}/{side}")
    if number > seat.done + 1:
        raise StudyStateError(
            f"Trial {number + 1} is shown when its turn comes; trial {seat.done + 1} is the next.",
            param="trial",
            code="trial_not_next",
        )
    if seat.study_id not in shelf:
        if len(shelf) >= 32:
            shelf.pop(next(iter(shelf)), None)
        shown = book.shown(seat.study_id)
        whole = LEAST_PADDING + max((int(record["bytes"]) for record in shown.values()), default=0)
        shelf[seat.study_id] = {video: (str(record["key"]), whole) for video, record in shown.items()}
    where: Literal["left", "right"] = "left" if side == "left" else "right"
    file = shelf[seat.study_id].get(seat.plan.side(seat.trials[number], where))
    if file is None:
        raise StudyVideoGoneError
    return file


async def _beginning(services: Services, video_id: str, tenant: str) -> bytes | None:
    """The picture that T2I drew for a job, as PNG; None where there is none any more."""
    try:
        job = await services.at_journal.run(services.journal.get, video_id, tenant=tenant)
        record = job.outputs.get("t2i", {}).get(job.request.candidate)
        return None if record is None else (await services.show(record["key"], record["sha256"]))[0]
    except (ApiError, CheckpointError):
        return None


# The packages of statistics are slow to load, and may not be there.


def _results(study: Record, ballots: Sequence[Ballot], measured: StudyNumbers | None) -> StudyResults:
    with needing_packages():
        from deployments.studies.results import results_of
    return results_of(study, ballots, measured)


def _exported(study: Record, ballots: Sequence[Ballot], numbers: Mapping[int, Mapping[str, float]], kind: str) -> str:
    with needing_packages():
        from deployments.studies.export import as_csv, as_jsonl
    return (as_csv if kind == "csv" else as_jsonl)(study, ballots, numbers)


def _power(difference: float, ties: float, power: float) -> Power:
    with needing_packages():
        from deployments.studies.results import power_of
    return power_of(difference, ties, power)


def _plot(study: Record, ballots: Sequence[Ballot], name: str) -> bytes:
    with needing_packages():
        from deployments.studies import plots
    return (plots.bars if name == "bars" else plots.ranking)(_results(study, ballots, None))
