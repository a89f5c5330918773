"""A stage that takes a given time and emits payloads of a given size, without a model and without a GPU.

`ReplayStage` fulfils `stages.base.Stage` for each of the four names, so that serving can be tested, measured and
planned with the true bytes and the true number of calls. It gives real values (an `Image`, `Keyframes`, a `Piece`, a
`Clip`) whose pixels depend on the seed, and vfi's on its input too, so that a file tells whether every window came to
its place. It waits in denoising steps, reports each of them and stops between two polls. A batch of n T2I calls takes
`run_s * (batch_fixed + (1 - batch_fixed) * n)`: with 0 it gains nothing, with 1 it takes as long as one call.
With `state_bytes` it can stop between two steps, with a state of that size, and waits for the others when it goes on.

It is no estimate of anything: the seconds and the bytes are what it is told. Knows nothing of torch or Ray.
"""

import time
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from math import isqrt
from typing import Any, Self

import numpy as np

from stages.base import InputError, Report
from stages.model.sampling.windows import cut_piece, join, plan_windows
from stages.presets import Preset, V2VParams, VFIParams
from stages.state import DenoisingState, Offer, digest_of, judge
from stages.types import Clip, Image, Keyframes, Latents, Piece, StageName, UInt8, Value, Window

_POLL_S = 0.02  # how often a waiting step asks whether it should stop


@dataclass(frozen=True)
class ReplayProfile:
    """What one replayed stage costs. `run_s` is that of one call, but for v2v that of all its windows together.

    `bytes_out` is that of a whole clip: a window of v2v takes its share by frames, a call of vfi its share of
    `NOMINAL_FRAMES`, because every chunk's frames must have one size.
    """

    run_s: float = 0.1
    bytes_out: int = 3_000_000
    steps: int = 10
    state_bytes: int = 0  # of what it leaves when it stops between two steps; 0: it cannot
    load_s: float = 0.0
    batch_fixed: float = 0.0  # share of a call's seconds that a batch needs once
    by_steps: Mapping[int, float] = field(default_factory=dict)
    """Seconds of a call whose request says so many denoising steps; it makes those. All others: `run_s`, `steps`."""

    def __post_init__(self) -> None:
        for name, floor in (("run_s", 0), ("load_s", 0), ("bytes_out", 1), ("steps", 1), ("state_bytes", 0)):
            if getattr(self, name) < floor:
                raise InputError(f"ReplayProfile needs {name} >= {floor}, got {getattr(self, name)}.")
        if not 0 <= self.batch_fixed <= 1:
            raise InputError(f"ReplayProfile needs batch_fixed between 0 and 1, got {self.batch_fixed}.")

    def options(self) -> dict[str, Any]:
        """The same as `stages.<name>.options` in serve_config.yaml."""
        return asdict(self)


NOMINAL_FRAMES = 94  # of the paper's video

# Payloads of the paper's sizes: 1024x1024 RGB; 32 frames of 600x600 with latents; 32 frames of 1048x1048. Their states
# are latents of 4 channels at an eighth of the side, float16; V2V's of a window of 14 frames, the longest of three.
PAPER_PAYLOADS: dict[StageName, ReplayProfile] = {
    "t2i": ReplayProfile(bytes_out=3_000_000, state_bytes=4 * 128 * 128 * 2),
    "i2v": ReplayProfile(bytes_out=35_000_000, state_bytes=32 * 4 * 75 * 75 * 2),
    "v2v": ReplayProfile(bytes_out=105_000_000, state_bytes=14 * 4 * 131 * 131 * 2),
    "vfi": ReplayProfile(bytes_out=1_200_000),  # small, as what leaves VFI is encoded
}


class ReplayStage:
    """Waits, then gives values of the right type and size."""

    def __init__(self, name: StageName, profile: ReplayProfile, preset: str = "") -> None:
        self.name: StageName = name
        self.profile = profile
        self._preset = preset

    @classmethod
    def load(cls, preset: Preset, device: str, *, stage: StageName = "t2i", **profile: Any) -> Self:
        """`profile` holds fields of `ReplayProfile`; `preset` only says whose states it takes, `device` nothing."""
        loaded = cls(stage, ReplayProfile(**profile), preset.name)
        time.sleep(loaded.profile.load_s)
        return loaded

    def warm_up(self) -> None:
        """Nothing to warm."""

    @property
    def resumable(self) -> bool:
        """As `stages.state.ResumableStage`."""
        return self.profile.state_bytes > 0

    def __call__(
        self,
        *inputs: Any,
        params: Any,
        seed: int,
        report: Report,
        offer: Offer | None = None,
        resume: DenoisingState | bytes | None = None,
    ) -> Value:
        """A value of this stage's type after `run_s`, or after what is left of that with `resume`.

        Raises:
            Cancelled: `report` asked to stop.
            Yielded: `offer` did, to go on with `resume`.
        """

        @cache
        def facts() -> Mapping[str, str]:
            own = {"stage": self.name, "preset": self._preset, "steps": str(total)}
            return {**own, "request": digest_of(params, seed, inputs)} if self.resumable else {}

        started, share = time.monotonic(), 1.0
        run_s, total = self._asked(params)
        if self.name == "t2i":
            value: Value = Image(_pixels(self.profile.bytes_out, 1, seed)[0])
        elif self.name == "i2v":
            value = self._keyframes(params.frames, params.fps, seed)
        elif self.name == "v2v":
            value, share = self._piece(inputs, params, seed)
        else:
            value = self._interpolated(inputs, params, seed)
        state = judge(resume, facts, f"Stage {self.name}")
        done = 0 if state is None else state.step

        def reach(step: int) -> None:
            if offer is not None and self.resumable:
                offer(partial(self._state, facts, step, total, seed))

        self._wait(started, share * run_s, total, report, done, reach)
        return value

    def shape(self, params: Any) -> Hashable:
        """As T2I says it: all but the texts. Other stages' calls go alone."""
        return replace(params, prompt="", negative_prompt="") if self.name == "t2i" else None

    def batch(self, requests: Sequence[tuple[Any, int]], report: Report) -> Sequence[Image]:
        """What each gives alone, after a batch's seconds."""
        started, fixed = time.monotonic(), self.profile.batch_fixed
        made = [Image(_pixels(self.profile.bytes_out, 1, seed)[0]) for _, seed in requests]
        run_s, total = self._asked(requests[0][0])
        self._wait(started, run_s * (fixed + (1 - fixed) * len(requests)), total, report)
        return made

    def _asked(self, params: Any) -> tuple[float, int]:
        """Seconds and steps of a whole call."""
        steps = getattr(getattr(params, "denoising", None), "steps", 0)
        if steps in self.profile.by_steps:
            return self.profile.by_steps[steps], steps
        return self.profile.run_s, self.profile.steps

    def _keyframes(self, frames: int, fps: float, seed: int) -> Keyframes:
        clip = Clip(_pixels(self.profile.bytes_out, frames, seed), fps)
        side = max(1, clip.frames.shape[1] // 8)
        return Keyframes(Latents(np.zeros((frames, 4, side, side), np.float16)), clip)

    def _piece(self, inputs: tuple[Any, ...], params: V2VParams, seed: int) -> tuple[Piece, float]:
        """The piece, and its share of the stage's seconds."""
        keyframes = next((value for value in inputs if isinstance(value, Keyframes)), None)
        if keyframes is None:
            raise InputError(f"The replayed v2v needs Keyframes, got {[type(value).__name__ for value in inputs]}.")
        total = len(keyframes.clip.frames)
        spans = plan_windows(total, params.windows)
        if not 0 <= params.part < len(spans):
            raise InputError(f"The replayed v2v was asked for window {params.part} of {len(spans)}.")
        length = len(spans[params.part])
        frames = _pixels(self.profile.bytes_out * length // total, length, seed + params.part)
        share = length / sum(map(len, spans))
        return cut_piece(frames, keyframes.clip.fps, spans, params.part), share

    def _interpolated(self, inputs: tuple[Any, ...], params: VFIParams, seed: int) -> Clip:
        if not inputs or not isinstance(inputs[0], Piece | Window):
            given = type(inputs[0]).__name__ if inputs else "nothing"
            raise InputError(f"The replayed vfi needs a Piece or a Window, got {given}.")
        window = join(*inputs) if isinstance(inputs[0], Piece) else inputs[0]
        new = len(window.clip.frames) - window.lead
        frames = params.factor * new if window.lead else params.factor * (new - 1) + 1
        frames -= params.drop if window.last else 0
        nbytes = self.profile.bytes_out * frames // NOMINAL_FRAMES
        seen = zlib.crc32(window.clip.frames[:, ::16, ::16].tobytes())
        return Clip(_pixels(nbytes, frames, seed + seen), window.clip.fps * params.factor)

    def _state(self, facts: Callable[[], Mapping[str, str]], step: int, total: int, seed: int) -> DenoisingState:
        latents = np.full(self.profile.state_bytes, (seed + step) % 251, np.uint8)
        return DenoisingState(facts(), step, total, latents)

    def _wait(
        self,
        started: float,
        run_s: float,
        total: int,
        report: Report,
        done: int = 0,
        reach: Callable[[int], None] = lambda step: None,
    ) -> None:
        """The steps after the first `done` of `total`, of a call that takes `run_s` from `started`."""
        report(done, total)
        reach(done)
        for step in range(done + 1, total + 1):
            due = started + run_s * (step - done) / total
            while (left := due - time.monotonic()) > 0:
                time.sleep(min(left, _POLL_S))
                report(step - 1, total)
            report(step, total)
            reach(step)


def _pixels(nbytes: int, frames: int, seed: int) -> UInt8:
    """(frames, side, side, 3) uint8 of about `nbytes`, one grey that the seed chooses; even sides, for the encoder."""
    side = max(16, isqrt(nbytes // (3 * frames)) // 2 * 2)
    return np.full((frames, side, side, 3), seed % 251, np.uint8)
