"""The nodes that simulated replicas stand on: they boot, fill, empty, are taken back, and are billed whole.

A replica takes whole GPUs of one node or a share of one GPU. It goes to a node of the first of its pools that has room:
with "pack" to the fullest, with "spread" to the emptiest. Where none has, a node boots, of the first pool that may have
one more; the others are its fallback. An empty node stays for `idle_s`. A spot node is taken back at random (or when
`Scenario.taken` says): others start in the place of its replicas, which leave once those are ready, as Serve does it;
what still computes at its end is lost, and for `away_s` there is no new one of its kind.
With "pack" a node whose replicas find room on others is emptied, one node at a time, as Serve's compaction does.

A bill counts from the wish for a node until it is gone, and `least_bill_s` at least.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cluster.twin.clock import Clock
from cluster.twin.parts import Replica
from cluster.twin.scenario import NodePool, Packing, Pool, Scenario

_EPSILON = 1e-9


class Owner(Protocol):
    """The stage whose replica it is."""

    pool: Pool

    def move(self, replica: Replica) -> None:
        """Another one starts, and this one leaves once that is ready."""

    def moves(self, replica: Replica) -> bool:
        """Whether it will leave."""

    def lose(self, replica: Replica) -> None:
        """Its node is gone."""


class Node:
    """One machine."""

    __slots__ = ("empty_since", "free", "id", "kind", "replicas", "since_s", "state")

    def __init__(self, number: int, kind: str, gpus: int, since_s: float) -> None:
        self.id, self.kind, self.since_s = number, kind, since_s
        self.state = "boots"  # then "up", perhaps "closing" (it is emptied), "leaves" (it was warned), "gone"
        self.free = [1.0] * gpus  # of each GPU
        self.replicas: dict[Replica, Owner] = {}
        self.empty_since = 0

    @property
    def room(self) -> float:
        return sum(self.free)

    def take(self, count: float) -> tuple[int, ...] | None:
        """The GPUs that it would stand on; None: no room."""
        return _place(self.free, count)


@dataclass(frozen=True)
class _Wish:
    """A replica that has no place yet."""

    replica: Replica
    owner: Owner
    count: float
    pools: Sequence[str]
    begin: Callable[[Replica], None]


class Nodes:
    """All of them, and the common budget of GPUs."""

    def __init__(self, clock: Clock, scenario: Scenario, seed: int) -> None:
        self._clock = clock
        self._kinds: Mapping[str, NodePool] = scenario.nodes
        self._packing: Packing = scenario.packing
        self._budget = float("inf") if scenario.budget_gpus is None else scenario.budget_gpus
        self._taken = scenario.taken
        self._rng = np.random.default_rng([seed, 0, 3])
        self._nodes: dict[str, list[Node]] = {name: [] for name in self._kinds}
        self._away_until: dict[str, float] = dict.fromkeys(self._kinds, 0.0)
        self._waiting: deque[_Wish] = deque()
        self._made = 0
        self._at_once = True  # the first replicas find their nodes up
        self.node_s: dict[str, float] = dict.fromkeys(self._kinds, 0.0)  # billed
        for name, kind in self._kinds.items():
            for _ in range(kind.min_nodes):
                self._boot(name)

    def begin(self) -> None:
        """From now on nodes boot."""
        self._at_once = False
        for at_s, kind in self._taken:
            self._clock.after(at_s, self._warn_one, kind)

    # What stages ask

    def take(
        self, replica: Replica, owner: Any, count: float, pools: Sequence[str], begin: Callable[[Replica], None]
    ) -> None:
        """Call `begin` now, or once there is a place: in the order of asking, though what fits may overtake."""
        self._waiting.append(_Wish(replica, owner, count, pools, begin))
        self._serve()

    def give(self, replica: Replica, count: float) -> None:
        """It needs its GPUs no more."""
        self._budget += count
        node, replica.node = replica.node, None
        if node is not None:
            for gpu in replica.gpus:
                node.free[gpu] += min(count, 1.0)
            del node.replicas[replica]
            if not node.replicas and node.state in ("up", "closing"):
                node.state = "up"
                self._watch_empty(node)
        self._serve()

    def hopeless(self, owner: Any, pools: Sequence[str], count: float) -> int:
        """Waiting replicas of a stage that no node will have a place for unless somebody goes."""
        if any(self._may_boot(name) for name in pools):
            return 0
        rooms = [list(node.free) for name in pools for node in self._nodes[name] if node.state == "boots"]
        mine = [wish for wish in self._waiting if wish.owner is owner and wish.replica.state != "dead"]
        return sum(not any(_spend(room, count) for room in rooms) for _ in mine)

    def boot_s(self, pools: Sequence[str], count: float) -> float:
        """What one more replica would wait for a node."""
        for name in pools:
            if any(node.state == "up" and node.take(count) is not None for node in self._nodes[name]):
                return 0.0
        return next((self._kinds[name].boot_s for name in pools if self._may_boot(name)), 0.0)

    def counts(self) -> dict[str, int]:
        """Nodes of each kind that are billed now."""
        return {name: len(nodes) for name, nodes in self._nodes.items()}

    def compact(self) -> None:
        """Empty the node with least on it, if the others of its kind have room for all that."""
        for node in (node for nodes in self._nodes.values() for node in nodes if node.state == "closing"):
            if not any(owner.moves(replica) for replica, owner in node.replicas.items()):
                node.state = "up"  # what was to take their place has gone itself
        if self._packing != "pack" or self._waiting:
            return
        for name, nodes in self._nodes.items():
            up = [node for node in nodes if node.state == "up"]
            if len(up) < len(nodes) or len(up) <= self._kinds[name].min_nodes:
                continue
            used = sorted((node for node in up if node.replicas), key=lambda node: (-node.room, node.id))
            if len(used) < 2 or any(r.state != "ready" or r.draining for node in used for r in node.replicas):
                continue
            sizes = sorted((replica.size for replica in used[0].replicas), reverse=True)
            rooms = [list(node.free) for node in used[1:]]
            fits = all(any(_spend(room, size) for room in rooms) for size in sizes)
            if fits and sum(sizes) <= self._budget + _EPSILON:
                used[0].state = "closing"
                for replica, owner in list(used[0].replicas.items()):
                    owner.move(replica)
                return

    def settle(self) -> None:
        """Bill what still stands."""
        for nodes in self._nodes.values():
            for node in nodes:
                self._bill(node)
                node.since_s = self._clock.now

    # Inside

    def _serve(self) -> None:
        for _ in range(len(self._waiting)):
            wish = self._waiting.popleft()
            if wish.replica.state == "dead":
                continue
            if not self._settled(wish):
                self._waiting.append(wish)
        if self._waiting:
            self._boot_missing()

    def _settled(self, wish: _Wish) -> bool:
        if wish.count > self._budget + _EPSILON:
            return False
        node = self._node_for(wish)
        if node is None and self._at_once:
            name = next((name for name in wish.pools if self._may_boot(name)), None)
            node = self._boot(name) if name is not None else None
        if node is None or (gpus := node.take(wish.count)) is None:
            return False
        self._budget -= wish.count
        for gpu in gpus:
            node.free[gpu] -= min(wish.count, 1.0)
        node.replicas[wish.replica] = wish.owner
        wish.replica.node, wish.replica.gpus = node, gpus
        if wish.owner is not None:
            wish.replica.slow = wish.owner.pool.slower.get(node.kind, 1.0)
        wish.begin(wish.replica)
        return True

    def _node_for(self, wish: _Wish) -> Node | None:
        for name in wish.pools:
            able = [node for node in self._nodes[name] if node.state == "up" and node.take(wish.count) is not None]
            if able:
                sign = 1 if self._packing == "pack" else -1
                return min(able, key=lambda node: (sign * node.room, node.id))
        return None

    def _boot_missing(self) -> None:
        """Enough nodes for all that wait within the budget, counting those that boot already."""
        rooms = {
            name: [list(node.free) for node in nodes if node.state == "boots"] for name, nodes in self._nodes.items()
        }
        budget = self._budget
        for wish in self._waiting:
            if wish.count > budget + _EPSILON:
                continue
            budget -= wish.count
            if any(_spend(room, wish.count) for name in wish.pools for room in rooms[name]):
                continue
            name = next((name for name in wish.pools if self._may_boot(name)), None)
            if name is not None:
                room = list(self._boot(name).free)
                _spend(room, wish.count)
                rooms[name].append(room)

    def _may_boot(self, name: str) -> bool:
        return len(self._nodes[name]) < self._kinds[name].max_nodes and self._clock.now >= self._away_until[name]

    def _boot(self, name: str) -> Node:
        self._made += 1
        kind = self._kinds[name]
        node = Node(self._made, name, kind.gpus, self._clock.now)
        self._nodes[name].append(node)
        if self._at_once or kind.boot_s == 0:
            self._come_up(node)
        else:
            self._clock.after(kind.boot_s, self._come_up_and_serve, node)
        return node

    def _come_up_and_serve(self, node: Node) -> None:
        self._come_up(node)
        self._serve()

    def _come_up(self, node: Node) -> None:
        node.state = "up"
        self._watch_empty(node)
        life_s = self._kinds[node.kind].life_s
        if life_s is not None:
            self._clock.after(float(self._rng.exponential(life_s)), self._warn, node)

    def _watch_empty(self, node: Node) -> None:
        node.empty_since += 1
        self._clock.after(self._kinds[node.kind].idle_s, self._end_empty, node, node.empty_since)

    def _end_empty(self, node: Node, since: int) -> None:
        stays = len(self._nodes[node.kind]) <= self._kinds[node.kind].min_nodes
        if node.state == "up" and not node.replicas and node.empty_since == since and not stays:
            self._end(node)

    def _warn_one(self, kind: str) -> None:
        """The fullest of its kind."""
        if up := [node for node in self._nodes[kind] if node.state == "up"]:
            self._warn(min(up, key=lambda node: (node.room, node.id)))

    def _warn(self, node: Node) -> None:
        """Its owner takes it back."""
        if node.state not in ("up", "closing"):
            return
        node.state, kind = "leaves", self._kinds[node.kind]
        self._away_until[node.kind] = self._clock.now + kind.away_s
        self._clock.after(kind.away_s, self._serve)
        self._clock.after(kind.notice_s, self._take_back, node)
        for replica, owner in list(node.replicas.items()):
            owner.move(replica)

    def _take_back(self, node: Node) -> None:
        for replica, owner in list(node.replicas.items()):
            owner.lose(replica)
        self._end(node)
        self._serve()

    def _end(self, node: Node) -> None:
        self._bill(node)
        node.state = "gone"
        self._nodes[node.kind].remove(node)
        short = self._kinds[node.kind].min_nodes - len(self._nodes[node.kind])
        for _ in range(short if self._may_boot(node.kind) else 0):
            self._boot(node.kind)

    def _bill(self, node: Node) -> None:
        stood_s = self._clock.now - node.since_s
        self.node_s[node.kind] += max(stood_s, self._kinds[node.kind].least_bill_s)


def _place(free: Sequence[float], count: float) -> tuple[int, ...] | None:
    if count < 1:
        fits = [(room, gpu) for gpu, room in enumerate(free) if room + _EPSILON >= count]
        return (min(fits)[1],) if fits else None  # where least is left over
    whole = [gpu for gpu, room in enumerate(free) if room >= 1 - _EPSILON]
    return tuple(whole[: int(count)]) if len(whole) >= count else None


def _spend(free: list[float], count: float) -> bool:
    """Put it there, if there is room."""
    gpus = _place(free, count)
    for gpu in gpus or ():
        free[gpu] -= min(count, 1.0)
    return gpus is not None
