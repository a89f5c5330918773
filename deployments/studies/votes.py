"""Raters' links and votes in the journal's database.

A link is a rater: one place in the plan, held until the link is revoked. Its text is signed by the journal's secret
(`deployments.tenants.links`) and names a row, which says how long it lasts. Votes come in the order of the rater's
trials, so how many there are says which is next; the same vote sent twice is one. Synchronous and thread-safe.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, exists, func, select, update
from sqlalchemy.exc import IntegrityError

from client.schema_studies import Choice, Layout, Media, Vote
from deployments.errors import InvalidRequestError, NotAllowedError
from deployments.jobs.values import NOBODY
from deployments.journal.database import Database
from deployments.journal.tables import api_keys, studies, study_links, study_votes
from deployments.studies.book import Plans
from deployments.studies.errors import LinkNotFoundError, StudyNotFoundError, StudyStateError, TrialNotFoundError
from deployments.studies.plan import Plan, PlannedTrial

_DAY_S = 86400.0
_DELETED = "The study of this link was deleted; no more votes are wanted."


@dataclass(frozen=True)
class Link:
    """A rater's place."""

    id: str
    study_id: str
    slot: int
    created_at: float
    expires_at: float
    revoked_at: float | None
    done: int


@dataclass(frozen=True)
class Seat:
    """A rater who has come by a link that is good: where they stand."""

    link_id: str
    study_id: str
    title: str
    instructions: str
    plan: Plan
    media: Media
    slot: int
    done: int  # votes
    expires_at: float

    @property
    def trials(self) -> tuple[PlannedTrial, ...]:
        return self.plan.raters[self.slot]

    def name(self, number: int) -> str:
        """A trial's id, which is of this link alone."""
        mark = hashlib.sha256(f"{self.link_id} {number}".encode()).hexdigest()[:12]
        return f"t{number + 1}_{mark}"

    def number(self, trial: str) -> int:
        """The place of a trial among the rater's, from 0.

        Raises:
            TrialNotFoundError: it is none of theirs.
        """
        said = trial[1:].partition("_")[0]
        number = int(said) - 1 if said.isascii() and said.isdecimal() and len(said) < 8 else -1
        if not 0 <= number < len(self.trials) or self.name(number) != trial:
            raise TrialNotFoundError(trial)
        return number


@dataclass(frozen=True)
class Ballot:
    """One vote, with what the plan says of it."""

    link_id: str
    slot: int
    number: int  # of the trial, from 0
    trial: PlannedTrial
    choices: Mapping[str, Choice]
    watched_s: float
    replays: int
    at: float
    layout: Layout | None = None


class RaterBook:
    """Links and votes in a database."""

    def __init__(self, database: Database, plans: Plans | None = None) -> None:
        self._database, self._plans = database, plans or Plans()

    def make(self, study_id: str, count: int | None, days: float, *, tenant: str) -> list[Link]:
        """Links for places that nobody holds, all of them or so many.

        Raises:
            StudyNotFoundError: the tenant has no such study.
            StudyStateError: fewer places are free.
        """
        with self._database.write() as connection:
            row = connection.execute(
                select(studies.c.id).where(studies.c.id == study_id, studies.c.tenant == tenant).with_for_update()
            ).first()
            if row is None:
                raise StudyNotFoundError(study_id)
            own = and_(study_links.c.study_id == study_id, study_links.c.revoked_at.is_(None))
            held = set(connection.execute(select(study_links.c.slot).where(own)).scalars())
            places = len(self._plans.of(connection, study_id).raters)
            free = [slot for slot in range(places) if slot not in held]
            if not free or (count is not None and count > len(free)):
                raise StudyStateError(
                    f"{count or 1} links are asked for and {len(free)} of the {places} raters of study {study_id} have "
                    "none; revoke a link, or create a study with more raters.",
                    param="count",
                    code="no_raters_left",
                )
            now = self._database.now(connection)
            made = [
                Link(secrets.token_hex(12), study_id, slot, now, now + days * _DAY_S, None, 0) for slot in free[:count]
            ]
            rows = [{name: value for name, value in vars(link).items() if name != "done"} for link in made]
            connection.execute(study_links.insert(), rows)
        return made

    def links(self, study_id: str) -> list[Link]:
        """All of a study, by place."""
        done = select(func.count()).where(study_votes.c.link_id == study_links.c.id).scalar_subquery()
        query = select(study_links, done.label("done")).where(study_links.c.study_id == study_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(study_links.c.slot, study_links.c.created_at)).mappings()
            return [Link(**row) for row in rows]

    def revoke(self, study_id: str, link_id: str) -> None:
        """End a link; what was voted by it stays.

        Raises:
            LinkNotFoundError: the study has no such link.
        """
        with self._database.write() as connection:
            own = and_(study_links.c.study_id == study_id, study_links.c.id == link_id)
            now = func.coalesce(study_links.c.revoked_at, self._database.now(connection))
            if not connection.execute(update(study_links).where(own).values(revoked_at=now)).rowcount:
                raise LinkNotFoundError(study_id, link_id)

    def ballots(self, study_id: str) -> list[Ballot]:
        """Every vote of a study, by rater and trial."""
        by = (study_links.c.slot, study_links.c.created_at, study_votes.c.link_id, study_votes.c.trial)
        query = select(study_votes, study_links.c.slot).join(study_links, study_links.c.id == study_votes.c.link_id)
        with self._database.read() as connection:
            rows = connection.execute(query.where(study_votes.c.study_id == study_id).order_by(*by)).all()
            if not rows:
                return []
            plan = self._plans.of(connection, study_id)
        return [
            Ballot(
                link_id=row.link_id,
                slot=row.slot,
                number=row.trial,
                trial=plan.raters[row.slot][row.trial],
                choices=row.choices,
                watched_s=row.watched_s,
                replays=row.replays,
                at=row.at,
                layout=row.layout,
            )
            for row in rows
        ]

    # For a rater, who has nothing but a link.

    def seat(self, link_id: str, *, closed: bool) -> Seat:
        """Where a rater stands.

        Args:
            closed: the server has keys, so that a link is worth what those of its tenant are.

        Raises:
            NotAllowedError: the link is over.
            StudyNotFoundError, StudyStateError: the study is gone, or not ready.
        """
        with self._database.read() as connection:
            return self._seat(connection, link_id, closed)

    def _seat(self, connection: Connection, link_id: str, closed: bool) -> Seat:
        done = select(func.count()).where(study_votes.c.link_id == link_id).scalar_subquery()
        columns = (studies.c.tenant, studies.c.state, studies.c.title, studies.c.instructions, studies.c.media)
        query = select(study_links, *columns, done.label("done"), self._database.clock().label("now"))
        query = query.outerjoin(studies, studies.c.id == study_links.c.study_id)
        row = connection.execute(query.where(study_links.c.id == link_id)).first()
        if row is None or row.state is None:
            raise StudyNotFoundError("", _DELETED)
        if row.revoked_at is not None or (closed and not _has_key(connection, row.tenant)):
            raise _over("was revoked", "link_revoked")
        if row.expires_at <= row.now:
            raise _over("has expired", "link_expired")
        if row.state == "failed":
            raise StudyStateError(
                "The videos of this study could not be prepared; tell whoever sent you the link.",
                code="study_failed",
            )
        if row.state != "ready" or row.media is None:
            raise StudyStateError(
                "The videos of this study are still being prepared; open your link again in a few minutes.",
                code="study_not_ready",
            )
        return Seat(
            link_id=link_id,
            study_id=row.study_id,
            title=row.title,
            instructions=row.instructions,
            plan=self._plans.of(connection, row.study_id),
            media=Media.model_validate(row.media),
            slot=row.slot,
            done=int(row.done),
            expires_at=row.expires_at,
        )

    def vote(self, link_id: str, vote: Vote, *, closed: bool) -> Seat:
        """Write a vote, and give where the rater stands then; it is on the disk before this returns.

        Raises:
            InvalidRequestError: it does not answer every question, or comes too soon.
            TrialNotFoundError: the trial is none of the rater's.
            StudyStateError: it is not its turn, or it has another vote.
        """
        try:
            return self._vote(link_id, vote, closed)
        except IntegrityError:  # sent by two devices at once
            return self._vote(link_id, vote, closed)

    def _vote(self, link_id: str, vote: Vote, closed: bool) -> Seat:
        with self._database.write() as connection:
            seat = self._seat(connection, link_id, closed)
            number = seat.number(vote.trial)
            _judge(vote, [criterion.name for criterion in seat.plan.criteria], seat.plan.min_watch_s)
            if number < seat.done:
                self._same(connection, seat, number, vote)
                return seat
            if number > seat.done:
                raise StudyStateError(
                    f"Trial {number + 1} is not your next one, trial {seat.done + 1} is; open your link again.",
                    param="trial",
                    code="trial_not_next",
                )
            there = select(studies.c.id).where(studies.c.id == seat.study_id).with_for_update(read=True)
            if connection.execute(there).first() is None:
                raise StudyNotFoundError("", _DELETED)
            connection.execute(
                study_votes.insert().values(
                    link_id=link_id,
                    trial=number,
                    study_id=seat.study_id,
                    choices=dict(vote.choices),
                    watched_s=vote.watched_s,
                    replays=vote.replays,
                    layout=vote.layout,
                    at=self._database.now(connection),
                )
            )
        return Seat(**{**vars(seat), "done": seat.done + 1})

    @staticmethod
    def _same(connection: Connection, seat: Seat, number: int, vote: Vote) -> None:
        own = and_(study_votes.c.link_id == seat.link_id, study_votes.c.trial == number)
        known = connection.execute(select(study_votes.c.choices).where(own)).scalar_one()
        if known != vote.choices:
            raise StudyStateError(
                f"Trial {number + 1} has another vote already, which stays; open your link again and go on.",
                param="trial",
                code="vote_differs",
            )


def _judge(vote: Vote, criteria: Sequence[str], min_watch_s: float) -> None:
    if set(vote.choices) != set(criteria):
        raise InvalidRequestError(
            f"choices answers {', '.join(map(repr, sorted(vote.choices)[:9])) or 'nothing'}; this study asks "
            f"{', '.join(map(repr, criteria))}.",
            param="choices",
            code="invalid_field",
        )
    if vote.watched_s < min_watch_s:
        raise InvalidRequestError(
            f"You have watched this pair for {vote.watched_s:g} s; vote after {min_watch_s:g} s.",
            param="watched_s",
            code="watched_too_short",
        )


def _has_key(connection: Connection, tenant: str) -> bool:
    valid = exists().where(api_keys.c.tenant == tenant, api_keys.c.revoked_at.is_(None))
    return tenant == NOBODY or bool(connection.execute(select(valid)).scalar())


def _over(why: str, code: str) -> NotAllowedError:
    return NotAllowedError(f"Your link {why}; ask whoever sent it for another.", param="Authorization", code=code)
