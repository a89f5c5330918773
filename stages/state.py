"""A denoising that has stopped between two steps, as a value; and how a stage is asked to stop, and goes on.

    stage(*inputs, params=, seed=, report=, offer=pause)               raises Yielded(state) at the next boundary
    stage(*inputs, params=, seed=, report=, offer=..., resume=state)   the value, the same bytes as without a stop

A state holds all that the steps before have left: latents, what a multistep scheduler remembers, the states of the
generators. What is made once a request (text, reference, ControlNet conditions, deep features) is made again. Its
`facts` say what its bytes depend on; where one of them differs, or the file is damaged, the stage computes from its
first step and the log says why. Knows nothing of torch, nor of where states are kept.
"""

import dataclasses
import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from stages.base import Report, StageError
from stages.types import UInt8, Value

__all__ = ["DenoisingState", "Offer", "Pause", "ResumableStage", "StateError", "Take", "Yielded", "can_yield"]

log = logging.getLogger(__name__)

Item = NDArray[Any] | int | float | None


class StateError(StageError):
    """Bytes that are no state, or one that was damaged."""


@dataclass(frozen=True, slots=True, eq=False)
class DenoisingState:
    """Of one call, after `step` of its `total` steps."""

    facts: Mapping[str, str]  # what the bytes depend on, by name
    step: int
    total: int
    latents: NDArray[Any]  # as the loop has them, (B, C, F, h, w) or (1, C, h, w); bfloat16 as its 16 bits, uint16
    scheduler: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)  # what it remembers, by attribute
    draws: tuple[UInt8, ...] = ()  # states of the generators that steps draw noise from
    spans: tuple[tuple[int, int], ...] = ()  # the windows that are fused at every step: start, stop

    def __post_init__(self) -> None:
        if not 0 <= self.step <= self.total:
            raise StateError(f"A state is after 0 to {self.total} of its {self.total} steps, not after {self.step}.")

    @property
    def nbytes(self) -> int:
        return sum(int(array.nbytes) for array in self._arrays().values())

    @property
    def digest(self) -> str:
        """Of all that it holds; equal digests, equal states."""
        return self._digest(self._head())

    def to_bytes(self) -> bytes:
        """As one safetensors file, its digest in the head."""
        head = self._head()
        data: bytes = save(self._arrays(), {"state": head, "digest": self._digest(head)})
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """What `to_bytes` gave.

        Raises:
            StateError: not such bytes, or not all of them as they were written.
        """
        try:
            length = int.from_bytes(data[:8], "little")
            meta = json.loads(data[8 : 8 + length])["__metadata__"]
            plain, arrays = json.loads(meta["state"]), load(data)
            made = cls(
                dict(plain["facts"]),
                plain["step"],
                plain["total"],
                arrays["latents"],
                {
                    name: tuple(arrays.get(f"scheduler.{name}.{number}", item) for number, item in enumerate(items))
                    for name, items in plain["scheduler"].items()
                },
                tuple(arrays[f"draws.{number}"] for number in range(plain["draws"])),
                tuple((start, stop) for start, stop in plain["spans"]),
            )
            if made.digest != meta["digest"]:
                raise ValueError(f"its digest is {made.digest[:12]}, it was written as {meta['digest'][:12]}")
        except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise StateError(f"the kept state cannot be read ({type(error).__name__}: {error})") from error
        return made

    def misfit(self, facts: Mapping[str, str]) -> str | None:
        """What keeps it from being continued where `facts` hold, in words; None if nothing does."""
        for name in {**facts, **self.facts}:
            own, here = self.facts.get(name, "unknown"), facts.get(name, "unknown")
            if own != here:
                after = f"after {self.step} of {self.total} steps"
                return f"the kept state, {after}, has {name} {own!r}, here it is {here!r}"
        return None

    def _arrays(self) -> dict[str, NDArray[Any]]:
        groups = {"draws": self.draws, **{f"scheduler.{name}": items for name, items in self.scheduler.items()}}
        named = {f"{name}.{number}": item for name, items in groups.items() for number, item in enumerate(items)}
        found = {"latents": self.latents, **named}
        return {name: np.array(item, order="C", copy=None) for name, item in found.items() if _is_array(item)}

    def _head(self) -> str:
        plain = {
            "facts": dict(self.facts),
            "step": self.step,
            "total": self.total,
            "scheduler": {
                name: [None if _is_array(item) else item for item in items] for name, items in self.scheduler.items()
            },
            "draws": len(self.draws),
            "spans": self.spans,
        }
        return json.dumps(plain, sort_keys=True)

    def _digest(self, head: str) -> str:
        own = hashlib.sha256(head.encode())
        for name, array in sorted(self._arrays().items()):
            own.update(f"{name} {array.dtype.name} {array.shape}".encode())
            own.update(array.data)
        return own.hexdigest()


def _is_array(item: Any) -> bool:
    return isinstance(item, np.ndarray)


Take = Callable[[], DenoisingState]
"""Gives the state at the boundary where it was offered; only valid until the offer returns."""

Offer = Callable[[Take], None]
"""Called by a stage at every boundary at which it can stop, on its thread: from before its first step (with a pipeline
of the hub, from after it) until after its last. It returns, and it goes on; or raises `Yielded`, and it stops."""


class Yielded(Exception):  # noqa: N818 - it is an order that was followed, not an error
    """Raised by an `Offer` to stop a stage; never caught inside one. Holds the state to go on from."""

    def __init__(self, state: DenoisingState) -> None:
        super().__init__(state)
        self.state = state

    def __str__(self) -> str:
        return f"Stopped after {self.state.step} of {self.state.total} steps."


class Pause:
    """An `Offer` for one call: stops it at the next boundary once asked, and keeps a state now and then."""

    def __init__(self, keep: Callable[[DenoisingState], None] | None = None, every_s: float = 60.0) -> None:
        """`keep` gets a state every `every_s`, on the stage's thread: what takes long belongs elsewhere."""
        self._keep, self._every_s = keep, every_s
        self._kept: float | None = None  # monotonic; the clock starts at the first boundary
        self._asked = threading.Event()

    def ask(self) -> None:
        """From any thread: stop at the next boundary."""
        self._asked.set()

    def __call__(self, take: Take) -> None:
        if self._asked.is_set():
            raise Yielded(take())
        if self._kept is None:
            self._kept = time.monotonic()
        if self._keep is not None and time.monotonic() - self._kept >= self._every_s:
            self._keep(take())
            self._kept = time.monotonic()


class ResumableStage(Protocol):
    """A stage that may be able to stop between two steps and go on anywhere; `resumable` says whether it is."""

    @property
    def resumable(self) -> bool:
        """False where what computes cannot stop: then `offer` is never called, and a `resume` starts over."""

    def __call__(
        self,
        *inputs: Any,
        params: Any,
        seed: int,
        report: Report,
        offer: Offer | None = None,
        resume: DenoisingState | bytes | None = None,
    ) -> Value:
        """As `stages.base.Stage`. With `resume`, what is left of the call that gave it.

        Raises:
            Yielded: `offer` asked to stop.
        """


def can_yield(stage: Any) -> bool:
    """Whether a call of the stage may be given `offer` and `resume`."""
    return bool(getattr(stage, "resumable", False))


def judge(
    resume: DenoisingState | bytes | None, facts: Callable[[], Mapping[str, str]], who: str
) -> DenoisingState | None:
    """The state to go on from, or None for the first step; the log says why a state is not taken."""
    if resume is None:
        return None
    try:
        state = resume if isinstance(resume, DenoisingState) else DenoisingState.from_bytes(resume)
        reason = state.misfit(here) if (here := facts()) else "it cannot go on from a kept state"
        if reason is None:
            return state
    except StateError as error:
        reason = str(error)
    log.warning("%s starts from its first step: %s.", who, reason)
    return None


def digest_of(*values: Any) -> str:
    """Of plain values and of dataclasses with arrays in them, such as a request and the inputs of its stage."""
    own = hashlib.sha256()
    for value in values:
        _feed(value, own.update)
    return own.hexdigest()


def _feed(value: Any, update: Callable[[Any], object]) -> None:
    if isinstance(value, np.ndarray):
        update(f"{value.dtype.name} {value.shape}".encode())
        update(np.ascontiguousarray(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        update(type(value).__name__.encode())
        for field in dataclasses.fields(value):
            _feed(getattr(value, field.name), update)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        update(f"{len(value)} of".encode())
        for item in value:
            _feed(item, update)
    else:
        update(f"{value!r};".encode())
