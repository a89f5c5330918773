"""From the body of `POST /v1/videos` to a job: read, judged, its files kept, accepted."""

import hashlib
import json
import logging

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
    async with open_body(request, services.args.ingress, services.uploads, tenant) as (created, files, note):
        return await _create(services, created, files, note, tenant, key)


async def _create(
    services: Services, created: CreateVideo, files: Files, note: str, tenant: str, key: str | None
) -> Job:
    args, store = services.args, services.store
    if created.input_reference is None and created.input_video is None:
        given = accept(created, files, store, args.ingress)
    else:
        given = await services.at_decoder.run(accept, created, files, store, args.ingress)
    is_new = False
    try:
        child = await _child(services, created, given, tenant)
        said = await services.at_decoder.run(_said, created, files) if files else _said(created, files)
        job, is_new = await accept_job(
            services, child, created, tenant=tenant, key=key, said=said, parent_id=given.parent_id, note=note
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
    return remix(parent, enter_change(created, given.enter), reuse=reuse)


def _said(created: CreateVideo, files: Files) -> str:
    """All that a request says, its files by digest: what an idempotency key stands for."""
    names = {}
    for name, file in sorted(files.items()):
        file.seek(0)
        names[name] = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # it can be read
    said = created.model_dump(exclude=set(names))
    return json.dumps([said, names], sort_keys=True)
