"""A study, a rater's standing and their links as the API says them."""

from client.schema_studies import Feedback, Progress, RaterLink, Rating, Study, Trial
from deployments.studies.book import Record
from deployments.studies.votes import Link, Seat

LEAST_PADDING = 8
_TRIALS = "v1/rate/trials"
_REASON = "The other one is the same video, spoiled on purpose: coarse, jerky, and its middle put together wrong."


def study_of(record: Record) -> Study:
    plan = record.plan
    kinds = [trial.kind for trial in plan.raters[0]]
    return Study(
        id=record.id,
        title=record.title,
        state=record.state,
        error=record.error,
        created_at=int(record.created_at),
        digest=record.digest,
        systems=list(plan.systems),
        criteria=list(plan.criteria),
        pairs=len(plan.pairs),
        prompts=len(plan.prompts),
        raters=len(plan.raters),
        trials=kinds.count("counted"),
        checks=len(kinds) - kinds.count("counted") - kinds.count("training"),
        training=kinds.count("training"),
        exclusion=plan.exclusion,
        videos=plan.videos,
        prepared=record.prepared,
        media=record.media,
        note=record.note,
        links=record.links,
        votes=record.votes,
    )


def link_of(link: Link, total: int, url: str | None) -> RaterLink:
    return RaterLink(
        id=link.id,
        rater=link.slot + 1,
        url=url,
        created_at=int(link.created_at),
        expires_at=int(link.expires_at),
        revoked=link.revoked_at is not None,
        done=link.done,
        total=total,
    )


def rating_of(seat: Seat, voted: str | None = None) -> Rating:
    """All that a rater's page is told; also what is known of the trial that was just voted on, if it was practice."""
    plan, total = seat.plan, len(seat.trials)
    return Rating(
        title=seat.title,
        instructions=seat.instructions,
        criteria=list(plan.criteria),
        min_watch_s=plan.min_watch_s,
        show_prompt=plan.show_prompt,
        media=seat.media,
        progress=Progress(done=seat.done, total=total),
        next=_trial(seat, seat.done),
        after=_trial(seat, seat.done + 1),
        feedback=None if voted is None else _feedback(seat, voted),
        complete=seat.done >= total,
        expires_at=int(seat.expires_at),
    )


def padding(size: int) -> bytes:
    """A box of an mp4 that players pass over: all files of a study are of one size, so that none tells its side."""
    return size.to_bytes(4, "big") + b"free" + bytes(size - LEAST_PADDING)


def _feedback(seat: Seat, voted: str) -> Feedback | None:
    trial = seat.trials[seat.number(voted)]
    expected = seat.plan.expected(trial)
    return Feedback(trial=voted, expected=expected, reason=_REASON) if trial.kind == "training" and expected else None


def _trial(seat: Seat, number: int) -> Trial | None:
    if number >= len(seat.trials):
        return None
    trial, name = seat.trials[number], seat.name(number)
    return Trial(
        id=name,
        number=number + 1,
        training=trial.kind == "training",
        prompt=seat.plan.items[seat.plan.pairs[trial.pair].item][0] if seat.plan.show_prompt else None,
        left=f"{_TRIALS}/{name}/left",
        right=f"{_TRIALS}/{name}/right",
    )
