"""The lines that several pipeline replicas share: one actor of the application, and each replica's way to it.

The actor belongs to the pipeline replica that made it and ends with it; whoever looks next makes another. It holds what
it was told and nothing else, by a clock of its own. A replica that asks for its words no more is gone, and so are its
calls. While there is no actor `there` is False, and the desk orders its own calls. Every call to the actor is made in
the background: nobody waits for it.
"""

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

import ray

from cluster.policy.calls import Queue, Rules
from deployments.order.line import Line
from deployments.order.words import Entry, Told, moved, moved_queue

logger = logging.getLogger(__name__)

_NAMESPACE = "magicvideo"
_SILENT_S = 3.0  # so long after its last question a pipeline replica is gone
_LISTEN_S = 1.0  # the longest that a question is open
_ANSWER_S = 5.0  # an actor that is slower is not there
_AGAIN_S = 1.0  # between two looks for an actor

Word = tuple[str, str, Any]
"""What a desk says: `know`, `forget` or `see`, of which deployment, and what; or `rules`."""


class Lines:
    """The actor's class."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._lines: dict[str, Line] = {}
        self._ahead_s: dict[str, float] = {}  # of each teller's clock
        self._news: dict[str, deque[Told]] = defaultdict(deque)
        self._woken: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._asked_s: dict[str, float] = {}
        self._looks: asyncio.Task[None] | None = None

    async def hello(self, teller: str, at_s: float, rules: Rules) -> None:
        """A desk that will tell all there is, from the beginning; the time there, and its rules."""
        self._leave(teller)
        self._hear_clock(teller, at_s)
        self._asked_s[teller] = time.monotonic()
        self._take(rules)
        if self._looks is None:
            self._looks = asyncio.create_task(self._look())

    async def say(self, teller: str, at_s: float, words: Sequence[Word]) -> None:
        """What has changed at one desk, in order, and the time there.

        Raises:
            LookupError: it was silent for so long that its calls were forgotten.
        """
        self._hold(teller)
        self._hear_clock(teller, at_s)
        for kind, home, what in words:
            if kind == "rules":
                self._take(what)
                continue
            line = self._line(home)
            if kind == "know":
                line.know(moved(what, self._ahead_s[teller]))
            elif kind == "forget":
                line.forget(what)
            else:
                line.see(what)

    async def queue(self, teller: str, home: str) -> Queue:
        """How a line stands, by the clock of a desk. Raises as `say` does."""
        self._hold(teller)
        return moved_queue(self._line(home).queue(), -self._ahead_s[teller])

    async def hear(self, teller: str) -> list[Told]:
        """What a desk is to do; nothing after a second without news. Raises as `say` does."""
        self._hold(teller)
        woken, news = self._woken[teller], self._news[teller]
        if not news:
            woken.clear()
            try:
                await asyncio.wait_for(woken.wait(), _LISTEN_S)
            except TimeoutError:
                return []
        found = list(news)
        news.clear()
        return found

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            silent = time.monotonic() - _SILENT_S
            for teller in [teller for teller, asked_s in self._asked_s.items() if asked_s < silent]:
                self._leave(teller)
            for line in self._lines.values():
                line.look()

    def _hold(self, teller: str) -> None:
        if teller not in self._asked_s:
            raise LookupError(f"Pipeline replica {teller} has said nothing for {_SILENT_S:g} s and begins anew.")
        self._asked_s[teller] = time.monotonic()

    def _take(self, rules: Rules) -> None:
        self._rules = rules
        for line in self._lines.values():
            line.take(rules)

    def _hear_clock(self, teller: str, at_s: float) -> None:
        """A message takes longer or shorter: the shortest says best how far the clocks are apart."""
        ahead_s = time.monotonic() - at_s
        self._ahead_s[teller] = min(ahead_s, self._ahead_s.get(teller, ahead_s))

    def _leave(self, teller: str) -> None:
        for line in self._lines.values():
            line.forget_all(teller)
        self._asked_s.pop(teller, None)
        self._ahead_s.pop(teller, None)
        self._news.pop(teller, None)
        self._woken.pop(teller, None)

    def _line(self, home: str) -> Line:
        if home not in self._lines:
            self._lines[home] = Line(self._rules, self._told)
        return self._lines[home]

    def _told(self, teller: str, told: Told) -> None:
        self._news[teller].append(told)
        self._woken[teller].set()


class SharedLines:
    """A desk's way to the actor; see `deployments.order.desk.Far`."""

    def __init__(
        self,
        name: str,
        app: str,
        rules: Rules,
        hear: Callable[[Told], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`name` and `clock`: the desk's; `hear` gets what the actor says."""
        self._name, self._actor_name, self._rules, self._hear = name, f"order-{app}", rules, hear
        self._clock = clock
        self._words: list[Word] = []
        self._actor: Any = None
        self._spoken = asyncio.Event()
        self.there = False

    def know(self, home: str, entry: Entry) -> None:
        self._put("know", home, entry)

    def forget(self, home: str, call: str) -> None:
        self._put("forget", home, call)

    def see(self, home: str, replicas: frozenset[str]) -> None:
        self._put("see", home, replicas)

    def take(self, rules: Rules) -> None:
        """Decide by these from now on."""
        self._rules = rules
        self._put("rules", "", rules)

    async def queue(self, home: str) -> Queue:
        """As the actor has it."""
        found: Queue = await asyncio.wait_for(self._actor.queue.remote(self._name, home), _ANSWER_S)
        return found

    async def run(self, changed: Callable[[], None]) -> None:
        """Find or make the actor, speak and listen, and begin anew when it is gone; for ever. `changed`: whether it is
        there.
        """
        while True:
            try:
                actor = await asyncio.to_thread(self._find)
                if actor != self._actor:  # who made it and drops that handle ends it
                    self._actor = actor
                await asyncio.wait_for(actor.hello.remote(self._name, self._clock(), self._rules), _ANSWER_S)
                self._words.clear()  # the desk tells all anew
                self.there = True
                changed()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._speak(actor))
                    group.create_task(self._listen(actor))
            except Exception as error:
                logger.warning("Each pipeline replica orders its own calls, for the shared order is away: %s", error)
            self.there = False
            changed()
            await asyncio.sleep(_AGAIN_S)

    async def _speak(self, actor: Any) -> None:
        while True:
            await self._spoken.wait()
            self._spoken.clear()
            words, self._words = self._words, []
            await asyncio.wait_for(actor.say.remote(self._name, self._clock(), words), _ANSWER_S)

    async def _listen(self, actor: Any) -> None:
        while True:
            for told in await asyncio.wait_for(actor.hear.remote(self._name), _LISTEN_S + _ANSWER_S):
                self._hear(told)

    def _find(self) -> Any:
        options = {"name": self._actor_name, "namespace": _NAMESPACE, "get_if_exists": True, "num_cpus": 0}
        return ray.remote(Lines).options(**options, max_concurrency=1000).remote(self._rules)

    def _put(self, kind: str, home: str, what: Any) -> None:
        if self.there:
            self._words.append((kind, home, what))
            self._spoken.set()
