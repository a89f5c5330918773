"""Plans and studies without a database or videos."""

from typing import Any

from client.schema_studies import CreateStudy, Criterion, Media, StudySystem, StudyVideo
from deployments.studies.book import Record
from deployments.studies.plan import Kept, Plan, ids_of, make_plan

OVERALL = [Criterion(name="overall", question="Which video is better?")]
MEDIA = Media(width=64, height=64, fps=24.0, frames=46, seconds=46 / 24, kbit_s=100)


def kept(name: str, **facts: Any) -> Kept:
    about = {"sha256": name, "key": f"videos/{name}/1.mp4", "size_bytes": 1, "frames": 46, "fps": 24.0}
    return Kept.model_validate({"id": name, "width": 64, "height": 64, **about, **facts})


def asked_for(
    prompts: int = 4, systems: tuple[str, ...] = ("one", "two"), criteria: Any = OVERALL, **asked: Any
) -> CreateStudy:
    made = [
        StudySystem(
            name=name, videos=[StudyVideo(prompt=f"prompt {n}", video_id=f"{name}-{n}") for n in range(prompts)]
        )
        for name in systems
    ]
    return CreateStudy(systems=made, criteria=criteria, **asked)


def plan_for(prompts: int = 4, *, seed: int = 0, **asked: Any) -> Plan:
    body = asked_for(prompts, **asked)
    return make_plan(body, {name: kept(name) for name in ids_of(body)}, seed)


def record_of(plan: Plan) -> Record:
    """A study of that plan as if it were ready."""
    counts = dict.fromkeys(("prepared", "links", "votes"), 0)
    return Record(
        id="study_0",
        tenant="",
        created_at=0.0,
        state="ready",
        error=None,
        title="a study",
        instructions="",
        digest=plan.digest,
        plan=plan,
        media=MEDIA,
        note=None,
        **counts,
    )
