"""Every vote of a study as a row, with jobs' ids, seeds and numbers, so that others can compute anew."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deployments.studies.book import Record
from deployments.studies.counting import judge_raters, outcome_of
from deployments.studies.plan import Plan, PlannedTrial
from deployments.studies.votes import Ballot

_SAID = {1: "a", 0: "same", -1: "b"}


Measured = Mapping[int, Mapping[str, float]]
"""Automatic numbers, by the number of a video."""


def rows(study: Record, ballots: Sequence[Ballot], measured: Measured) -> Iterator[dict[str, Any]]:
    """One for each trial that was answered. `counts` says whether the results have it."""
    plan, names = study.plan, sorted({name for numbers in measured.values() for name in numbers})
    left_out = {rater.link for rater in judge_raters(plan, ballots) if rater.excluded}
    for ballot in ballots:
        trial = ballot.trial
        pair = plan.pairs[trial.pair]
        prompt, take = plan.items[pair.item]
        a, b = plan.sources[pair.a][pair.item], plan.sources[pair.b][pair.item]
        shown = {side: _shown(plan, plan.side(trial, side), trial) for side in _SIDES}
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
            **shown,
            "watched_s": ballot.watched_s,
            "replays": ballot.replays,
            "layout": ballot.layout,
            "at": ballot.at,
        }
        for criterion in plan.criteria:
            choice = ballot.choices[criterion.name]
            row[f"choice_{criterion.name}"] = choice
            of_two = trial.kind != "identical" and not plan.is_spoiled(trial)
            row[f"for_{criterion.name}"] = _SAID[outcome_of(trial, choice)] if of_two else None
        for side, system in (("a", pair.a), ("b", pair.b)):
            own = measured.get(plan.video(system, pair.item), {})
            row |= {f"{side}_{name}": own.get(name) for name in names}
        yield row


_SIDES: tuple[Any, Any] = ("left", "right")


def _shown(plan: Plan, video: int, trial: PlannedTrial) -> str:
    """What a rater saw on one side."""
    if video >= len(plan.systems) * len(plan.items):
        return f"{plan.systems[plan.sound(trial.pair) // len(plan.items)]}, spoiled"
    return plan.systems[video // len(plan.items)]


def as_jsonl(study: Record, ballots: Sequence[Ballot], measured: Measured) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(study, ballots, measured))


def as_csv(study: Record, ballots: Sequence[Ballot], measured: Measured) -> str:
    """With a line of names; text that a spreadsheet would take for a formula is quoted."""
    out = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows(study, ballots, measured):
        if writer is None:
            writer = csv.DictWriter(out, list(row))
            writer.writeheader()
        writer.writerow({name: _plain(value) for name, value in row.items()})
    return out.getvalue()


def _plain(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
