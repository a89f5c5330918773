"""What it costs to stop a denoising between two steps: the size of its state, and milliseconds to take and restore it.

On arrays of the paper's I2V alone, without a network: 32 frames of 75x75 latents in float16, DDIM, a reference of
1024x1024 pixels whose digest is part of the state. Knows nothing of where states are kept.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch

from stages.base import ignore_progress
from stages.i2v import I2V
from stages.model.sampling.sampler import build_scheduler
from stages.model.sampling.stops import Stops, stops_at
from stages.model.weights.facts import facts_of
from stages.presets import PAPER, TINY, SchedulerName, plan
from stages.settings import I2VParams
from stages.state import DenoisingState, Take, Yielded, digest_of
from stages.types import Image

SCHEDULERS: tuple[SchedulerName, ...] = ("ddim", "euler", "dpmpp_2m", "lcm")


@dataclass(frozen=True)
class Cost:
    state_mb: float  # as it is kept
    take_ms: float  # from latents to bytes
    restore_ms: float  # and back


def cost_of_a_stop(repeats: int = 20) -> Cost:
    """Medians."""
    params = plan(PAPER, "a fox").i2v
    width, height = (side // 8 for side in params.size)
    latents = torch.randn(1, 4, params.frames, height, width).half()
    scheduler = build_scheduler(params.denoising)
    scheduler.set_timesteps(params.denoising.steps)
    image = Image(np.random.default_rng(1).integers(0, 256, (1024, 1024, 3)).astype(np.uint8))
    model, sizes = facts_of(TINY, "cpu"), []

    def stops(**options: Any) -> Stops:
        given = {"offer": None, "resume": None, **options}
        return stops_at("i2v", model, (params, 7, image), params.denoising.steps, **given)

    def take() -> bytes:
        kept: list[bytes] = []
        stops(offer=lambda take: kept.append(take().to_bytes())).reach(9, 25, latents, scheduler, [])
        sizes.append(len(kept[0]))
        return kept[0]

    def restore(data: bytes) -> None:
        back = stops(resume=data)
        if back.enter(scheduler, [], "cpu") != 9 or not torch.equal(back.latents(lambda: latents + 1, "cpu"), latents):
            raise RuntimeError("The state was not taken back.")

    data = take()
    take_s = [_seconds(take) for _ in range(repeats)]
    restore_s = [_seconds(partial(restore, data)) for _ in range(repeats)]
    return Cost(sizes[0] / 1e6, 1000 * median(take_s), 1000 * median(restore_s))


def bytes_equal(stage: I2V, image: Image, params: I2VParams) -> bool:
    """Whether I2V gives with every scheduler, stopped after each third of its steps, what it gives without a stop."""
    return all(
        _is_equal(partial(stage, image, params=_with(params, scheduler), seed=3, report=ignore_progress))
        for scheduler in SCHEDULERS
    )


def _with(params: I2VParams, scheduler: SchedulerName) -> I2VParams:
    return replace(params, denoising=replace(params.denoising, scheduler=scheduler))


def _is_equal(call: Callable[..., Any]) -> bool:
    kept: bytes | None = None
    for third in (1, 2):

        def offer(take: Take, third: int = third) -> None:
            state = take()
            if state.step >= third * state.total // 3:
                raise Yielded(state)

        try:
            call(offer=offer, resume=kept)
        except Yielded as told:
            kept = told.state.to_bytes()
    if kept is None or DenoisingState.from_bytes(kept).step == 0:
        raise RuntimeError("The stage was not stopped.")
    return digest_of(call(resume=kept)) == digest_of(call())


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
