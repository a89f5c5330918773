"""Whether this pipeline claims jobs: as `pipeline.claims` says, and not beside a newer cluster that is ready.

Asks the journal once a second, and Ray Serve until every stage has been seen to run.
"""

import asyncio
import logging
import math
import time
import uuid

from deployments.journal.database import Database
from deployments.journal.generations import Generations
from deployments.on_ray.health import Watch
from deployments.on_ray.ray_internals import cluster_id
from deployments.settings.application import AppArgs

logger = logging.getLogger(__name__)

_ASK_S = 1.0


class Standing:
    """One for each pipeline replica."""

    def __init__(self, database: Database) -> None:
        self._generations = Generations(database, cluster_id() or uuid.uuid4().hex)
        self._asked_s, self._ready, self._newest = -math.inf, False, True

    async def claims(self, args: AppArgs) -> bool:
        """As it was at most a second ago.

        Raises:
            DatabaseError: the journal does not answer.
        """
        if args.pipeline.claims != "newest":
            return args.pipeline.claims == "always"
        if time.monotonic() - self._asked_s > _ASK_S:
            newest = await asyncio.to_thread(self._ask, args)
            if newest != self._newest:
                logger.warning(
                    "A newer cluster claims the jobs of this journal." if self._newest else "Claiming again."
                )
            self._newest, self._asked_s = newest, time.monotonic()
        return self._newest

    def _ask(self, args: AppArgs) -> bool:
        self._ready = self._ready or _is_ready(args)
        return self._generations.stand(ready=self._ready, alive_s=args.pipeline.lease_s)


def _is_ready(args: AppArgs) -> bool:
    try:
        return Watch(args).health().status == "ok"
    except Exception as error:
        logger.info("Ray Serve does not say yet how the stages are: %s", error)
        return False
