"""From a judged job to an accepted one: the prompt's check, the tenant's limits, the deadline, the journal.

What every route that makes a job has in common, whether it is new, a remix or an extension.
"""

from pydantic import BaseModel

from client.schema import CreateVideo, ExtendVideo, RemixVideo
from deployments.errors import InvalidRequestError
from deployments.intake.services import Services
from deployments.jobs.outlook import priority_of
from deployments.jobs.remix import Child
from deployments.jobs.values import NOBODY, Job, NewJob
from deployments.journal.limits import LimitBook
from deployments.tenants.webhooks import judge_url


async def accept_job(
    services: Services,
    child: Child,
    wish: CreateVideo | RemixVideo | ExtendVideo,
    *,
    tenant: str,
    key: str | None,
    said: str,
    parent_id: str | None = None,
    upload_id: str | None = None,
    note: str = "",
) -> tuple[Job, bool]:
    """Write the job, or find the one that the idempotency key has already made. Gives (job, whether it is new).

    Args:
        wish: how urgent the job is, and whom to tell.
        key: the idempotency key.
        said: all that the request says, which the key stands for.
        upload_id: the file of `POST /v1/files` that the job begins from.
        note: what is to be told of how the request was read.

    Raises:
        ApiError: the job is refused.
    """
    priority, deadline_s = 0, None
    if not isinstance(wish, ExtendVideo):
        own = wish.priority if "priority" in wish.model_fields_set else None
        priority, deadline_s = priority_of(own, wish.service_tier), wish.deadline_s
    judge_url(wish.webhook_url, services.args.webhooks.secret is not None)
    await services.prompts.judge("prompt", child.request.prompt, tenant)
    ingress = services.args.ingress
    new = NewJob(
        child.request,
        tenant=tenant,
        idem_key=key,
        body=said,
        priority=priority,
        deadline_s=deadline_s,
        parent_id=parent_id,
        needs=child.needs,
        webhook_url=wish.webhook_url,
        upload_id=upload_id,
        note=note,
    )
    job, is_new = await services.at_journal.run(
        services.journal.submit,
        new,
        admit=await services.admission.judge(child.request, tenant, priority, deadline_s),
        max_queued=ingress.max_queued_jobs,
        retry_after_s=ingress.retry_after_s,
    )
    if is_new:
        services.admission.note(job)
        services.nudge_pipeline()
    return job, is_new


async def foresee(services: Services, wish: BaseModel, tenant: str, key: str | None) -> None:
    """Refuse a job that limits forbid before anything is fetched for it; `accept_job` judges it again.

    Raises:
        ApiError: the queue, or what the tenant may have, is full.
    """
    ingress, priority = services.args.ingress, getattr(wish, "priority", 0)
    await services.at_journal.run(
        services.journal.foresee,
        *(tenant, key),
        admit=await services.admission.judge(None, tenant, priority, None),
        max_queued=ingress.max_queued_jobs,
        retry_after_s=ingress.retry_after_s,
    )


def refuse_without_keeper(services: Services) -> None:
    """Raises:
    InvalidRequestError: this server keeps no outputs of stages.
    """
    if not services.args.keeper.enabled:
        raise InvalidRequestError(
            "This server keeps no outputs of stages, so no job can begin from another one's; its operator can set "
            "keeper.enabled.",
            code="outputs_not_kept",
        )


async def reuses(services: Services, tenant: str, wanted: bool | None) -> bool:
    """Whether outputs of the tenant's other jobs are taken: as asked for, else as its limits say."""
    if wanted is not None:
        return wanted
    default = services.args.limits_for(tenant)
    if tenant == NOBODY:
        return default.reuse
    return (await services.at_journal.run(LimitBook(services.journal.database).of, tenant, default)).reuse
