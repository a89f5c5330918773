"""A dependency that is frozen holds who needs it, for a while, and nobody else."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest
from fsspec.implementations.local import LocalFileSystem

from client.schema import Health
from deployments.bulkheads import Bulkhead, Shared
from deployments.errors import UnavailableError
from deployments.files.store import Artifact, ArtifactStore
from tests.client.standin import sheet, video
from tests.deployments.rig import Rig, error_of

LONG_S = 60.0


class Freezer:
    """Calls that hang until it thaws."""

    def __init__(self) -> None:
        self.thawed = threading.Event()
        self.calls = 0

    def __call__(self, *_: Any) -> str:
        self.calls += 1
        assert self.thawed.wait(LONG_S)
        return "thawed"


@pytest.fixture
def freezer() -> Iterator[Freezer]:
    made = Freezer()
    yield made
    made.thawed.set()  # else the process would wait for its threads


async def test_who_needs_it_is_told_and_the_next_at_once(freezer: Freezer) -> None:
    wall = Bulkhead("The thing", threads=2, wait_s=0.05)
    told = await asyncio.gather(*(wall.run(freezer) for _ in range(20)), return_exceptions=True)
    assert {str(error) for error in told} == {
        "The thing has not answered for 0.05 s; try again in 5 s, a POST with the same Idempotency-Key."
    }
    assert freezer.calls == 2
    wall.wait_s = LONG_S
    with pytest.raises(UnavailableError):  # by no thread: both hang
        await wall.run(freezer)
    assert freezer.calls == 2
    freezer.thawed.set()
    while wall._hanging:
        await asyncio.sleep(0.01)
    assert await wall.run(freezer) == "thawed"


async def test_what_a_call_raises_and_gives_comes_through() -> None:
    wall = Bulkhead("The thing", threads=1, wait_s=LONG_S)
    assert await wall.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await wall.run(divmod, 7, 0)
    assert [piece async for piece in wall.iterate(iter((b"a", b"b")))] == [b"a", b"b"]
    with pytest.raises(UnavailableError):
        await Bulkhead("The thing", threads=1, wait_s=0.01).wait(asyncio.Event().wait())


async def test_many_who_ask_at_once_share_one_answer_until_it_is_old() -> None:
    now_s, asked = [0.0], 0

    async def read() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        if asked == 2:
            raise ConnectionError
        return asked

    shared = Shared(read, 1.0, lambda: now_s[0])
    assert await asyncio.gather(*(shared.get() for _ in range(5))) == [1] * 5
    now_s[0] = 0.9
    assert (await shared.get(), asked) == (1, 1)
    now_s[0] = 1.0
    failed = await asyncio.gather(*(shared.get() for _ in range(5)), return_exceptions=True)
    assert [type(error) for error in failed] == [ConnectionError] * 5
    assert (shared.known, await shared.get(), await shared.get(max_age_s=0.0)) == (1, 3, 4)


class FrozenFiles(LocalFileSystem):  # type: ignore[misc]
    """A store on this disk whose every question hangs."""

    protocol = "frozen"
    freezer: Freezer

    def exists(self, path: str, **options: Any) -> bool:
        self.freezer()
        return bool(super().exists(path, **options))


@pytest.fixture
def frozen_store(rig: Rig, freezer: Freezer, tmp_path: Path) -> Rig:
    """The rig over a store that hangs; to the store's own code it is one more kind of it."""
    FrozenFiles.freezer = freezer
    fsspec.register_implementation("frozen", FrozenFiles, clobber=True)
    FrozenFiles.clear_instance_cache()
    services = rig.app.state.services
    services.store = services.stills._store = services.intact._store = ArtifactStore(f"frozen://{tmp_path}/artifacts")
    services.at_store.wait_s = 0.2
    return rig


async def test_a_store_that_hangs_holds_content_and_nothing_else(frozen_store: Rig, freezer: Freezer) -> None:
    rig = frozen_store
    video_id = await rig.finished()
    content = f"/v1/videos/{video_id}/content"
    assert (await rig.http.get(content)).status_code == 200  # is examined; from now on it is asked whether it is there
    rig.app.state.services.at_store.wait_s = LONG_S
    waiting = [asyncio.create_task(rig.http.get(content)) for _ in range(12)]
    async with asyncio.timeout(LONG_S):
        while freezer.calls < 8:
            await asyncio.sleep(0.01)
    for path in (f"/v1/videos/{video_id}", "/v1/videos", "/healthz", "/v1/pools", "/openapi.json"):
        assert (await rig.http.get(path)).status_code == 200, path
    assert (await rig.create()).status == "queued"
    assert not any(task.done() for task in waiting)
    rig.app.state.services.at_store.wait_s = 0.05
    refused = await rig.http.get(content)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    error = error_of(refused, 503)
    assert (error.code, "The artifact store has not answered" in error.message) == ("unavailable", True)
    freezer.thawed.set()
    assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}


async def test_a_controller_that_hangs_holds_no_job(rig: Rig, freezer: Freezer) -> None:
    services = rig.app.state.services
    known = Health(status="ok", model="tiny", version="1", stages={"t2i": 1})
    services.healths.known = known

    def hang() -> Health:
        freezer()
        return known

    services.health = hang
    services.at_serve.wait_s = 0.1
    first = await rig.create()
    await rig.finished()
    for path in (f"/v1/videos/{first.id}", "/v1/videos", "/v1/pools"):
        assert (await rig.http.get(path)).status_code == 200, path
    ill = await rig.http.get("/healthz")
    assert (ill.status_code, ill.json()["stages"]) == (503, {"t2i": 1})
    assert "Ray Serve has not answered for 0.1 s" in ill.json()["problems"][0]


async def test_ten_who_ask_for_a_sheet_have_it_made_once_and_kept(rig: Rig) -> None:
    video_id = await rig.finished(video().data)
    asked = f"/v1/videos/{video_id}/content?variant=spritesheet"
    answers: list[httpx.Response] = await asyncio.gather(*(rig.http.get(asked) for _ in range(10)))
    assert {answer.content for answer in answers} == {sheet()}
    artifact = Artifact(**(rig.journal.get(video_id).result or {}))
    rig.store.delete(artifact.key)
    assert await rig.app.state.services.stills.get(artifact, "spritesheet") == (sheet(), "image/png")
