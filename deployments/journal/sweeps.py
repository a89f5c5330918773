"""What goes by itself: paused jobs that nobody continues, checkpoints, results, events, jobs, studies, webhooks, files.

Each sweep takes one page in a short transaction of its own and gives how many it took.
Several processes may sweep at once: what one has locked the others pass over. Which file is to be erased is written
in the transaction that removes its last row, and stays written until the store has erased it.

Synchronous. Knows nothing of the store but a function that deletes a key.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select, update

from deployments.errors import PauseExpiredError
from deployments.journal.database import Database
from deployments.journal.outputs import RESULT, drop_files, drop_studies, drop_uploads, fold
from deployments.journal.steps import FORGOTTEN_S, end_job, forget_jobs
from deployments.journal.tables import (
    HOLDS,
    checkpoints,
    deliveries,
    erasures,
    forgotten,
    holdings,
    job_events,
    jobs,
    studies,
    study_links,
    study_votes,
    tallies,
    uploads,
)

logger = logging.getLogger(__name__)

PAGE = 25  # jobs of one transaction
_ROWS = 500  # of a table with small rows
_AGAIN_S = 60.0  # after the store could not erase a file
_MISSING = 250  # keys in one query


class Sweeps:
    """Over one database. The age of all is counted by its clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def paused(self, hold_s: float, limit: int = PAGE) -> int:
        """Jobs that have been paused for longer fail."""
        message = f"Nobody had the job continue within {hold_s:g} s, for which a paused job is kept; make it again."
        with self._database.write() as connection:
            now = self._database.now(connection)
            late = and_(jobs.c.state == "paused", jobs.c.lease_until < now - hold_s)
            rows = _locked(connection, late, limit)
            for row in rows:
                end_job(connection, row.id, "failed", {"code": PauseExpiredError.code, "message": message}, None, now)
        return len(rows)

    def outputs(self, ttl_s: float, limit: int = PAGE) -> int:
        """Jobs that ended longer ago lose their checkpoints."""
        with self._database.write() as connection:
            old = and_(HOLDS, jobs.c.finished_at < self._database.now(connection) - ttl_s)
            ids = [row.id for row in _locked(connection, old, limit)]
            connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(expired=True))
            drop_files(connection, and_(checkpoints.c.job_id.in_(ids), checkpoints.c.idx != RESULT))
        return len(ids)

    def results(self, ttl_s: float, limit: int = PAGE) -> int:
        """Jobs that ended longer ago lose their video."""
        with self._database.write() as connection:
            old = and_(jobs.c.result.is_not(None), jobs.c.finished_at < self._database.now(connection) - ttl_s)
            ids = [row.id for row in _locked(connection, old, limit)]
            connection.execute(update(jobs).where(jobs.c.id.in_(ids)).values(result=None))
            drop_files(connection, and_(checkpoints.c.job_id.in_(ids), checkpoints.c.idx == RESULT))
        return len(ids)

    def jobs(self, ttl_s: float, limit: int = PAGE) -> int:
        """Jobs that ended longer ago are forgotten, with all they have."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            rows = _locked(connection, jobs.c.finished_at < now - ttl_s, limit)
            forget_jobs(connection, rows, now)
        return len(rows)

    def events(self, ttl_s: float, limit: int = _ROWS) -> int:
        """Events that are older go, of jobs that have ended. Looks from the oldest on, to the first that stays."""
        count = after = 0
        while True:
            with self._database.write() as connection:
                cutoff = self._database.now(connection) - ttl_s
                page = select(job_events.c.seq, job_events.c.at, job_events.c.job_id).where(job_events.c.seq > after)
                rows = connection.execute(page.order_by(job_events.c.seq).limit(limit)).all()
                old = [row for row in rows if row.at < cutoff]
                of_jobs = jobs.c.id.in_({row.job_id for row in old})
                ended = set(
                    connection.execute(select(jobs.c.id).where(of_jobs, jobs.c.finished_at.is_not(None))).scalars()
                )
                numbers = [row.seq for row in old if row.job_id in ended]
                connection.execute(job_events.delete().where(job_events.c.seq.in_(numbers)))
            count += len(numbers)
            if len(old) < limit:
                return count
            after = rows[-1].seq

    def deliveries(self, ttl_s: float, limit: int = _ROWS) -> int:
        """Webhooks that nothing more is tried for go, of jobs that ended longer ago."""
        with self._database.read() as connection:
            old = jobs.c.finished_at < self._database.now(connection) - ttl_s
            ended = select(jobs.c.id).where(jobs.c.id == deliveries.c.job_id, old).exists()
            page = select(deliveries.c.job_id).where(deliveries.c.due_at.is_(None), ended).limit(limit)
            ids = list(connection.execute(page).scalars())
        with self._database.write() as connection:
            return connection.execute(deliveries.delete().where(deliveries.c.job_id.in_(ids))).rowcount

    def uploads(self, limit: int = _ROWS) -> int:
        """Files that were sent for several jobs go at their time; jobs that began from one keep its bytes."""
        with self._database.write() as connection:
            now = self._database.now(connection)
            late = uploads.c.expires_at <= now
            page = select(uploads.c.id).where(late).order_by(uploads.c.expires_at).limit(limit)
            ids = list(connection.execute(page.with_for_update(skip_locked=True)).scalars())
            drop_uploads(connection, ids, now)
        return len(ids)

    def studies(self, age_s: float, limit: int = PAGE) -> int:
        """Studies go with their votes so long after the last of these: they were made, were voted on, had a link that
        works.
        """
        with self._database.write() as connection:
            before = self._database.now(connection) - age_s
            voted = exists().where(study_votes.c.study_id == studies.c.id, study_votes.c.at >= before)
            valid = study_links.c.revoked_at.is_(None) & (study_links.c.expires_at >= before)
            linked = exists().where(study_links.c.study_id == studies.c.id, valid)
            page = select(studies.c.id).where(studies.c.created_at < before, ~voted, ~linked)
            page = page.order_by(studies.c.created_at).limit(limit).with_for_update(skip_locked=True)
            ids = list(connection.execute(page).scalars())
            drop_studies(connection, ids)
        return len(ids)

    def books(self) -> None:
        """Places of jobs that were deleted long ago go; jobs that ended, and bytes, are added up."""
        with self._database.write() as connection:
            old = forgotten.c.forgotten_at < self._database.now(connection) - FORGOTTEN_S
            connection.execute(forgotten.delete().where(old))
            for sums in (tallies, holdings):
                fold(connection, sums)

    def erase(self, delete: Callable[[str], None], keys: Collection[str] | None = None, limit: int = _ROWS) -> int:
        """Have the store erase files that are due, or these; gives how many it did. One that cannot be erased now is
        due again in a minute.
        """
        with self._database.read() as connection:
            which = erasures.c.due_at <= self._database.now(connection) if keys is None else erasures.c.key.in_(keys)
            rows = connection.execute(select(erasures).where(which).order_by(erasures.c.due_at).limit(limit)).all()
            used = _named(connection, [row.key for row in rows])
        done, failed, reason = [], [], ""
        for row in rows:
            try:
                if row.key not in used:
                    delete(row.key)
                done.append(row.seq)
            except Exception as error:  # whatever a store raises
                failed.append(row.seq)
                reason = f"{type(error).__name__}: {error}"
        with self._database.write() as connection:
            for seqs in _parts(done):
                connection.execute(erasures.delete().where(erasures.c.seq.in_(seqs)))
            again = self._database.now(connection) + _AGAIN_S
            for seqs in _parts(failed):
                connection.execute(update(erasures).where(erasures.c.seq.in_(seqs)).values(due_at=again))
        if failed:
            logger.warning(
                "%d files could not be erased and are tried again in %g s: %s", len(failed), _AGAIN_S, reason
            )
        return len(done)

    def to_erase(self) -> int:
        """Files that no row names any more and that are still there."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(erasures)).scalar_one())

    def unnamed(self, keys: Sequence[str]) -> set[str]:
        """Those keys that no row names."""
        with self._database.read() as connection:
            return set(keys) - _named(connection, keys)


def _locked(connection: Connection, which: ColumnElement[bool], limit: int) -> Sequence[Any]:
    """The oldest jobs of that kind that nobody else is at."""
    query = select(jobs).where(which).order_by(jobs.c.finished_at).limit(limit)
    return connection.execute(query.with_for_update(skip_locked=True)).all()


def _named(connection: Connection, keys: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for some in _parts(keys):
        found.update(connection.execute(select(checkpoints.c.key).where(checkpoints.c.key.in_(some))).scalars())
    return found


def _parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + _MISSING] for start in range(0, len(values), _MISSING))
