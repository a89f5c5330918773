"""From the body of `POST /v1/videos` to a job: read, judged, its files kept, accepted."""

import hashlib
import json
import logging
from typing import IO

from fastapi import Request

from client.schema import CreateVideo
from deployments.api.bodies import open_body
from deployments.intake.acceptance import accept_job, refuse_without_keeper, reuses
from deployments.intake.services import Services
from deployments.intake.sources import Files, StartingPoint, accept, drop
from deployments.jobs.judging import judge
from deployments.jobs.remix import Child, enter_change, remix
from deployments.jobs.values import Job
from deployments.observe.logs import job_context

logger = logging.getLogger(__name__)


async def create_job(services: Services, request: Request, tenant: str, key: str | None) -> Job:
    """The job that a body of `POST /v1/videos` asks for, or that its key has already made.

    Raises:
        ApiError: it is refused.
    """
    async with open_body(request, services, tenant, CreateVideo) as (created, files, note):
        return await create_from(services, created, files, note, tenant, key)


async def create_from(
    services: Services, created: CreateVideo, files: Files, note: str, tenant: str, key: str | None
) -> Job:
    """As `create_job`, of what was read."""
    args, store = services.args, services.store
    picture, video = created.input_reference, created.input_video
    file_id = (picture and picture.file_id) or (video and video.file_id)
    upload = await services.at_journal.run(services.files.get, file_id, tenant=tenant) if file_id else None
    if picture is None and video is None:
        given = accept(created, files, upload, store, args.ingress)
    else:
        given = await services.at_decoder.run(accept, created, files, upload, store, args.ingress)
    is_new = False
    try:
        child = await _child(services, created, given, tenant)
        said = await services.at_decoder.run(_said, created, files) if files else _said(created, files)
        job, is_new = await accept_job(
            *(services, child, created),
            tenant=tenant,
            key=key,
            said=said,
            parent_id=given.parent_id,
            upload_id=given.upload_id,
            note=note,
        )
    finally:
        if not is_new and given.source is not None:
            await services.at_store.run(drop, given, store)
    if is_new:
        with job_context(job.id):
            logger.info("Job %s is accepted.", job.id)
    return job


async def _child(services: Services, created: CreateVideo, given: StartingPoint, tenant: str) -> Child:
    reuse = await reuses(services, tenant, created.reuse)
    if given.parent_id is None:
        request = judge(created, services.args.preset, given.source, keeps=services.args.keeper.enabled)
        return Child(request.model_copy(update={"reuse": reuse}), {})
    refuse_without_keeper(services)
    parent = await services.at_journal.run(services.journal.get, given.parent_id, tenant=tenant)
    return remix(parent, enter_change(created, given.enter, parent), reuse=reuse)


def _said(created: CreateVideo, files: Files) -> str:
    """All that a request says, its files by digest: what an idempotency key stands for."""
    names = {name: digest_of(file) for name, file in sorted(files.items())}
    said = created.model_dump(exclude=set(names))
    return json.dumps([said, names], sort_keys=True)


def digest_of(file: IO[bytes]) -> str:
    """SHA-256 of all of a file, which stands at its beginning then."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it can be read
    file.seek(0)
    return digest
