"""Whether a job is accepted, over HTTP: limits, urgency, deadlines, blocked prompts; and where it stands then."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from client.schema import Video, VideoList
from deployments.jobs.values import Limits
from deployments.journal.journal import Journal
from deployments.journal.limits import LimitBook
from deployments.settings.application import AppArgs, IngressArgs
from tests.deployments.rig import BODY, Rig, create, error_of

ARGS = AppArgs(
    ingress=IngressArgs(keys_fresh_s=0, blocked_terms=("kraken",)), limits=Limits(max_queued=50, max_priority=10)
)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, ARGS)
    yield made
    await made.close()


async def test_limits_of_a_tenant_are_answered_with_429_and_when_to_come_back(rig: Rig) -> None:
    limits = LimitBook(rig.journal.database)
    limits.change("a", {"max_queued": 1}, Limits())
    limits.change("b", {"per_minute": 1}, Limits())
    for tenant, code in (("a", "tenant_queue_full"), ("b", "rate_limited")):
        client = rig.tenant(tenant)
        await create(client)
        answer = await client.post("/v1/videos", json=BODY)
        error = error_of(answer, 429)
        assert (error.type, error.code) == ("rate_limit_error", code)
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    await create(rig.tenant("c"))


async def test_place_priority_and_estimate_are_shown(rig: Rig) -> None:
    client = rig.client()
    first = await create(client)
    assert (first.priority, first.queue_position, first.eta_s) == (0, 0, None)
    rig.finish()
    shown = Video.model_validate_json((await client.get(f"/v1/videos/{first.id}")).content)
    assert (shown.status, shown.queue_position, shown.eta_s) == ("completed", None, None)


async def test_a_later_video_of_higher_priority_is_placed_before(rig: Rig) -> None:
    client = rig.client()
    normal = [await create(client) for _ in range(2)]
    urgent = await create(client, priority=10)
    assert [video.queue_position for video in (*normal, urgent)] == [0, 1, 0]
    page = VideoList.model_validate((await client.get("/v1/videos", params={"order": "asc"})).json())
    assert [(video.queue_position, video.priority) for video in page.data] == [(1, 0), (2, 0), (0, 10)]


async def test_estimates_come_from_finished_videos_and_refuse_a_deadline_out_of_reach(tmp_path: Path) -> None:
    before = Rig(tmp_path, ARGS)
    done = await create(before.client())
    before.finish()
    assert before.journal.get(done.id).state == "succeeded"
    await before.close()
    rig = Rig(tmp_path, ARGS)
    client = rig.client()
    video = await create(client, deadline_s=60)
    assert video.eta_s is not None
    assert 4.0 <= video.eta_s <= 8.0  # four stages of two seconds; V2V and VFI in windows
    answer = await client.post("/v1/videos", json=BODY | {"deadline_s": 1.5})
    error = error_of(answer, 429)
    assert (error.code, error.param) == ("deadline_infeasible", "deadline_s")
    assert "deadline_s is 1.5 and this video would be done in about" in error.message
    assert int(answer.headers["retry-after"]) >= 1
    assert rig.journal.counts() == {"queued": 1, "succeeded": 1}
    await rig.close()


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        ({"priority": 11}, "priority", "between -10 and 10"),
        ({"priority": 1.5}, "priority", "1.5"),
        ({"deadline_s": 0}, "deadline_s", "above 0"),
        ({"deadline_s": "soon"}, "deadline_s", "'soon'"),
    ],
)
async def test_a_priority_or_deadline_that_cannot_be_is_named(
    rig: Rig, body: dict[str, Any], param: str, word: str
) -> None:
    error = error_of(await rig.client().post("/v1/videos", json=BODY | body), 400)
    assert error.param == param
    assert word in error.message
    assert rig.journal.counts() == {}


async def test_a_service_tier_is_a_class_and_may_not_contradict_the_priority(rig: Rig) -> None:
    client = rig.client()
    for body, priority, tier in (
        ({"service_tier": "flex"}, -5, "flex"),
        ({"service_tier": "priority"}, 5, "priority"),
        ({"service_tier": "priority", "priority": 2}, 2, "priority"),
        ({"service_tier": "default", "priority": 0}, 0, "default"),
        ({"service_tier": "auto"}, 0, "default"),
        ({"service_tier": "auto", "priority": -3}, -3, "flex"),
        ({"priority": -1}, -1, "flex"),
    ):
        video = await create(client, **body)
        assert (video.priority, video.service_tier) == (priority, tier)
    error = error_of(await client.post("/v1/videos", json=BODY | {"service_tier": "flex", "priority": 3}), 400)
    assert error.param == "service_tier"
    assert '"flex"' in error.message
    assert "3" in error.message


async def test_a_blocked_prompt_is_refused_without_saying_what_is_blocked(rig: Rig) -> None:
    error = error_of(await rig.client().post("/v1/videos", json={"prompt": "a fox and a KRAKEN"}), 400)
    assert (error.code, error.param) == ("prompt_blocked", "prompt")
    assert "kraken" not in error.message.lower()
    assert rig.journal.counts() == {}


@contextmanager
def statements(journal: Journal) -> Iterator[list[str]]:
    """What is sent to the database meanwhile."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        sent.append(statement)

    event.listen(journal.database.engine, "before_cursor_execute", note)
    yield sent
    event.remove(journal.database.engine, "before_cursor_execute", note)


async def test_a_page_costs_the_same_queries_however_many_videos_it_has(rig: Rig) -> None:
    client = rig.client()
    for _ in range(8):
        await create(client)
    costs = []
    for limit in ("1", "8"):
        with statements(rig.journal) as sent:
            await client.get("/v1/videos", params={"limit": limit})
        costs.append(len([s for s in sent if "api_keys" not in s and s.startswith("SELECT")]))
    assert costs[0] == costs[1] <= 6
