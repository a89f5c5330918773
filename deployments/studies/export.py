"""Every vote of a study as a row, with the jobs' ids and seeds, so that others can compute anew."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from deployments.studies.book import Record
from deployments.studies.counting import judge_raters, outcome_of
from deployments.studies.votes import Ballot

_SAID = {1: "a", 0: "same", -1: "b"}


def rows(study: Record, ballots: Sequence[Ballot]) -> Iterator[dict[str, Any]]:
    """One for each trial that was answered. `counts` says whether the results have it."""
    plan = study.plan
    left_out = {rater.link for rater in judge_raters(plan, ballots) if rater.excluded}
    for ballot in ballots:
        trial = ballot.trial
        pair = plan.pairs[trial.pair]
        prompt, take = plan.items[pair.item]
        a, b = plan.sources[pair.a][pair.item], plan.sources[pair.b][pair.item]
        shown = {side: plan.side(trial, side) // len(plan.items) for side in _SIDES}
        row = {
            "study": study.id,
            "digest": study.digest,
            "rater": ballot.slot + 1,
            "link": ballot.link_id,
            "trial": ballot.number + 1,
            "kind": trial.kind,
            "counts": trial.kind == "counted" and ballot.link_id not in left_out,
            "prompt": prompt,
            "take": take,
            "a": plan.systems[pair.a],
            "b": plan.systems[pair.b],
            "a_id": a.id,
            "b_id": b.id,
            "a_seed": a.seed,
            "b_seed": b.seed,
            "left": plan.systems[shown["left"]],
            "right": plan.systems[shown["right"]],
            "watched_s": ballot.watched_s,
            "replays": ballot.replays,
            "at": ballot.at,
        }
        for criterion in plan.criteria:
            choice = ballot.choices[criterion.name]
            row[f"choice_{criterion.name}"] = choice
            row[f"for_{criterion.name}"] = None if trial.kind == "identical" else _SAID[outcome_of(trial, choice)]
        yield row


_SIDES: tuple[Any, Any] = ("left", "right")


def as_jsonl(study: Record, ballots: Sequence[Ballot]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(study, ballots))


def as_csv(study: Record, ballots: Sequence[Ballot]) -> str:
    """With a line of names; text that a spreadsheet would take for a formula is quoted."""
    out = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows(study, ballots):
        if writer is None:
            writer = csv.DictWriter(out, list(row))
            writer.writeheader()
        writer.writerow({name: _plain(value) for name, value in row.items()})
    return out.getvalue()


def _plain(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
