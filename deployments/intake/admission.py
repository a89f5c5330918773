"""Whether a new job is admitted, and what a client is told of an unfinished one.

`Admission` keeps one `Outlook` in an ingress replica, a second old at most, and puts the replica's own new jobs into
it. What it estimates stands in `deployments.jobs.outlook`.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from deployments.jobs.outlook import Outlook, Standing, calls_of, check_deadline, judge_urgency
from deployments.jobs.values import Job, Limits
from deployments.journal.database import Database
from deployments.journal.limits import Admit, admit_within
from deployments.journal.looks import read_measured, read_outlook
from stages.types import STAGE_NAMES, StageName

FRESH_S = 1.0
MEASURED_S = 10.0  # so long medians are good, once every stage has one


class Admission:
    """One for each ingress replica. `limits` gives those of a tenant without limits of its own; `replicas` those that
    each stage has now, and may block.
    """

    def __init__(
        self,
        database: Database,
        *,
        preset: str,
        limits: Callable[[str], Limits],
        retry_after_s: float,
        replicas: Callable[[], Mapping[StageName, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._preset, self._limits = database, preset, limits
        self._retry_after_s, self._replicas, self._clock = retry_after_s, replicas, clock
        self._calls = calls_of(preset)
        self._reading = asyncio.Lock()
        self._known = Outlook()
        self._read_at = self._measured_at = -math.inf

    async def outlook(self) -> Outlook:
        """A second old at most."""
        if self._clock() - self._read_at > FRESH_S:
            async with self._reading:
                if (now := self._clock()) - self._read_at > FRESH_S:
                    self._known = await asyncio.to_thread(self._read, now)
                    self._read_at = now
        return self._known

    async def standing(self, job: Job) -> Standing:
        return (await self.outlook()).standing(job) if job.state in ("queued", "running") else Standing()

    async def judge(self, tenant: str, priority: int, deadline_s: float | None) -> Admit:
        """What `Journal.submit` asks about a new job, as its `admit`.

        Raises:
            InvalidRequestError: a priority or deadline that no job can have.
        """
        judge_urgency(priority, deadline_s)
        outlook = await self.outlook()
        wait_s = outlook.tenant_wait_s(tenant) or self._retry_after_s
        further = partial(check_deadline, outlook, priority, deadline_s)
        return admit_within(self._limits(tenant), tenant, priority, wait_s, further)

    def note(self, job: Job) -> None:
        """A job that was written here just now."""
        self._known = self._known.plus(job)

    def _read(self, now: float) -> Outlook:
        seconds = self._known.seconds
        with self._database.read() as connection:
            if len(seconds) < len(STAGE_NAMES) or now - self._measured_at > MEASURED_S:
                seconds, self._measured_at = read_measured(connection, self._preset), now
            found = read_outlook(connection)
        return replace(found, seconds=seconds, replicas=self._replicas() if seconds else {}, calls=self._calls)
