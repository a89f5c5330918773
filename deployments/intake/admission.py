"""Whether a new job is admitted, and what a client is told of an unfinished one.

`Admission` keeps one `Outlook` in an ingress replica, a second old at most, and puts the replica's own new jobs into
it. What it estimates stands in `deployments.jobs.outlook`.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial

from deployments.bulkheads import Bulkhead, Shared
from deployments.errors import UnavailableError
from deployments.jobs.outlook import Outlook, Promised, Standing, check_deadline, judge_urgency
from deployments.jobs.values import Job, JobRequest, Limits
from deployments.jobs.work import loads_of
from deployments.journal.database import Database
from deployments.journal.limits import Admit, admit_within
from deployments.journal.looks import read_measured, read_outlook
from stages.types import STAGE_NAMES, StageName

logger = logging.getLogger(__name__)

FRESH_S = 1.0
MEASURED_S = 10.0  # so long speeds are good, once every stage has one
Promise = Callable[[JobRequest, str, int, float], Awaitable[Promised | None]]
"""Asks the pipeline about a job with a deadline: request, tenant, priority, deadline_s."""


class Admission:
    """One for each ingress replica. `limits` gives those of a tenant without limits of its own; `replicas` those that
    each stage has now, and does not block; `devices` names what stages compute on. `promise` knows the order of calls,
    which the outlook does not.
    """

    def __init__(
        self,
        database: Database,
        at_journal: Bulkhead,
        *,
        preset: str,
        limits: Callable[[str], Limits],
        retry_after_s: float,
        replicas: Callable[[], Mapping[StageName, int]],
        promise: Promise | None = None,
        refuses: bool = True,
        devices: Mapping[StageName, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._at_journal, self._preset, self._limits = database, at_journal, preset, limits
        self._retry_after_s, self._replicas, self._clock = retry_after_s, replicas, clock
        self._promise, self._refuses = promise, refuses
        self._devices = devices or {}
        self._measured_at: float | None = None
        self._shared = Shared(self._look, FRESH_S, clock)

    async def outlook(self) -> Outlook:
        """A second old at most; older while the database does not answer."""
        try:
            return await self._shared.get()
        except UnavailableError:
            return self._shared.known or Outlook()

    async def standing(self, job: Job) -> Standing:
        return (await self.outlook()).standing(job) if job.state in ("queued", "running") else Standing()

    async def judge(self, request: JobRequest | None, tenant: str, priority: int, deadline_s: float | None) -> Admit:
        """What `Journal.submit` asks about a new job, as its `admit`; the request of one without a deadline may be
        unknown as yet.

        Raises:
            InvalidRequestError: a priority or deadline that no job can have.
        """
        judge_urgency(priority, deadline_s)
        outlook = await self.outlook()
        wait_s = outlook.tenant_wait_s(tenant) or self._retry_after_s
        promised = None
        if not self._refuses:
            return admit_within(self._limits(tenant), tenant, priority, wait_s, lambda: None)
        if self._promise is not None and request is not None and deadline_s is not None:
            try:
                promised = await self._promise(request, tenant, priority, deadline_s)
            except Exception as error:
                logger.warning("The pipeline promises nothing; an estimate from the journal has to do: %r", error)
        loads = {} if request is None else loads_of(request)
        further = partial(check_deadline, outlook, priority, deadline_s, loads, promised)
        return admit_within(self._limits(tenant), tenant, priority, wait_s, further)

    def note(self, job: Job) -> None:
        """A job that was written here just now."""
        self._shared.known = (self._shared.known or Outlook()).plus(job)

    async def _look(self) -> Outlook:
        found = await self._at_journal.run(self._read, self._shared.known or Outlook(), self._clock())
        return replace(found, replicas=self._replicas() if found.speeds else {})

    def _read(self, known: Outlook, now: float) -> Outlook:
        speeds = known.speeds
        with self._database.read() as connection:
            if self._measured_at is None or len(speeds) < len(STAGE_NAMES) or now - self._measured_at > MEASURED_S:
                speeds, self._measured_at = read_measured(connection, self._preset), now
            found = read_outlook(connection, known)
        return replace(found, speeds=speeds, devices=self._devices)
