"""A running wire server, and both clients behind one face, so that every behaviour is tested twice."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from client import AsyncClient, Client
from tests.client.rig import Blocking, MakeClient, Timeline
from tests.client.shell import Shell
from tests.client.wire import Wire


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAGICVIDEO_URL", raising=False)
    monkeypatch.delenv("MAGICVIDEO_API_KEY", raising=False)


@pytest.fixture(scope="session")
def _running() -> Iterator[Wire]:
    with Wire() as running:
        yield running


@pytest.fixture
def wire(_running: Wire) -> Wire:
    _running.reset()
    return _running


@pytest.fixture
def shell(wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """The command line, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return Shell(wire)


@pytest.fixture
def timeline() -> Timeline:
    return Timeline()


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest, timeline: Timeline) -> Iterator[MakeClient]:
    """Makes clients of one kind; pauses are noted instead of slept, and move the clock."""
    with ExitStack() as stack:

        def sync(url: str, **options: Any) -> Client:
            return stack.enter_context(Client(url, **{"sleep": timeline.sleep, "clock": timeline.clock, **options}))

        def asynchronous(url: str, **options: Any) -> Blocking:
            sleep: Callable[[float], Any] = options.pop("sleep", timeline.sleep)

            async def pause(seconds: float) -> None:
                done = sleep(seconds)
                if inspect.isawaitable(done):
                    await done

            runner = stack.enter_context(asyncio.Runner())
            made = AsyncClient(url, **{"sleep": pause, "clock": timeline.clock, **options})
            stack.callback(lambda: runner.run(made.close()))
            return Blocking(made, runner)

        yield sync if request.param == "sync" else asynchronous


@pytest.fixture
def api(make: MakeClient, wire: Wire) -> Any:
    return make(wire.url)
