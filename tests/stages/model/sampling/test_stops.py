"""A denoising that stops at any boundaries, as often as it likes, gives the bytes of one that never stopped."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.base import ignore_progress
from stages.model.sampling.denoise import Conditions, denoise
from stages.model.sampling.sampler import build_scheduler
from stages.model.sampling.stops import Stops, remembered, to_array, to_tensor
from stages.model.sampling.windows import Span, plan_windows
from stages.presets import Control, SchedulerName, Windows
from stages.state import DenoisingState, Take, Yielded
from tests.stages.parity.rig import SCHEDULERS, Rig, draw, make_rig, picture
from tests.stages.parity.rig import settings as denoising

pytestmark = pytest.mark.slow

FRAMES, STEPS = 5, 5
WHOLE: tuple[Span, ...] = ()
FUSED = plan_windows(FRAMES, Windows(3, 1))


@cache
def rig() -> Rig:
    return make_rig()


@cache
def conditions() -> Conditions:
    return rig().guide(picture(), FRAMES, controls=(Control("plain"), Control("sparse", kind="sparse")))


def run(
    scheduler: SchedulerName,
    spans: Sequence[Span] = WHOLE,
    reuse_every: int = 1,
    stop_at: Collection[int] = (),
    kept: bytes | None = None,
    offered: list[int] | None = None,
) -> Tensor:
    """From the start, or from `kept`; raises Yielded at the boundaries `stop_at`."""
    made = build_scheduler(denoising(scheduler, STEPS))
    made.set_timesteps(STEPS)

    def offer(take: Take) -> None:
        state = take()
        if offered is not None:
            offered.append(state.step)
        if state.step in stop_at:
            raise Yielded(state)

    state = None if kept is None else DenoisingState.from_bytes(kept)
    stops = Stops(offer=offer, state=state)
    start = torch.full_like(draw(FRAMES), torch.nan) if kept else draw(FRAMES) * made.init_noise_sigma
    latents = stops.latents(lambda: start, "cpu")
    generator = torch.Generator().manual_seed(5 if kept is None else 6)  # what the state holds must replace it
    return denoise(
        rig().network, latents, made, made.timesteps, conditions(), ignore_progress,
        spans=spans, generator=generator, reuse_every=reuse_every, stops=stops,
    )  # fmt: skip


@cache
def unbroken(scheduler: SchedulerName, spans: Sequence[Span], reuse_every: int) -> Tensor:
    return run(scheduler, spans, reuse_every)


def in_parts(scheduler: SchedulerName, spans: Sequence[Span], reuse_every: int, stops: Sequence[int]) -> Tensor:
    kept: bytes | None = None
    for stop in stops:
        with pytest.raises(Yielded) as told:
            run(scheduler, spans, reuse_every, {stop}, kept)
        kept = told.value.state.to_bytes()
    return run(scheduler, spans, reuse_every, kept=kept)


@pytest.mark.parametrize("spans", [WHOLE, FUSED], ids=["whole", "fused"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(stops=st.lists(st.integers(0, STEPS), min_size=1, max_size=3).map(sorted))
def test_the_bytes_are_those_of_one_that_never_stopped(
    scheduler: SchedulerName, spans: Sequence[Span], stops: list[int]
) -> None:
    assert torch.equal(in_parts(scheduler, spans, 1, stops), unbroken(scheduler, spans, 1))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_they_are_after_every_single_step_too(scheduler: SchedulerName) -> None:
    made = in_parts(scheduler, FUSED, 1, range(STEPS + 1))
    assert torch.equal(made, unbroken(scheduler, FUSED, 1))


@pytest.mark.parametrize("spans", [WHOLE, FUSED], ids=["whole", "fused"])
def test_with_reused_features_it_stops_where_none_are_needed(spans: Sequence[Span]) -> None:
    offered: list[int] = []
    exact = run("dpmpp_2m", spans, 2, offered=offered)
    assert offered == [0, 2, 4, 5]
    assert torch.equal(in_parts("dpmpp_2m", spans, 2, [0, 2, 4, 5]), exact)
    assert not torch.equal(exact, unbroken("dpmpp_2m", spans, 1))


@pytest.mark.parametrize(
    ("scheduler", "lost"),
    [("dpmpp_2m", "model_outputs"), ("dpmpp_2m", "lower_order_nums"), ("euler", "_step_index"), ("lcm", "draws")],
)
def test_all_that_it_holds_is_needed(scheduler: SchedulerName, lost: str) -> None:
    """With another value in its place come other bytes: so the tests above would see it missing."""
    with pytest.raises(Yielded) as told:
        run(scheduler, stop_at={2})
    state = told.value.state
    instead: dict[str, tuple[Any, ...]] = {
        "model_outputs": tuple(np.zeros_like(state.latents) for _ in range(2)),
        "lower_order_nums": (0,),
        "_step_index": (1,),
    }
    if lost == "draws":
        assert len(state.draws) == 1
        changed = replace(state, draws=(torch.Generator().manual_seed(6).get_state().numpy(),))
    else:
        assert lost in state.scheduler
        changed = replace(state, scheduler={**state.scheduler, lost: instead[lost]})
    assert not torch.equal(run(scheduler, kept=changed.to_bytes()), unbroken(scheduler, WHOLE, 1))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return list(map(id, one)) == list(map(id, other))
    return one is other


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_step_changes_nothing_of_a_scheduler_but_what_a_state_holds(scheduler: SchedulerName) -> None:
    made = build_scheduler(denoising(scheduler, STEPS))
    made.set_timesteps(STEPS)
    before = {name: list(value) if isinstance(value, list) else value for name, value in vars(made).items()}
    latents = draw(FRAMES)
    options = {"generator": torch.Generator().manual_seed(1)} if scheduler == "lcm" else {}
    for t in made.timesteps[:3]:
        latents = made.step(made.scale_model_input(latents, t), t, latents, **options).prev_sample
    changed = {name for name, value in vars(made).items() if not _same(value, before.get(name))}
    kept = remembered(made)
    assert changed <= kept.keys()
    arrays = [item for items in kept.values() for item in items if isinstance(item, np.ndarray)]
    assert sum(array.nbytes for array in arrays) <= 2 * to_array(latents).nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_each_dtype_comes_back_bit_for_bit(dtype: torch.dtype) -> None:
    tensor = (draw(2) * 100).to(dtype)
    array = to_array(tensor.transpose(1, 2))
    back = to_tensor(array, "cpu")
    assert back.dtype == dtype
    assert torch.equal(back, tensor.transpose(1, 2))
    array += 1
    assert torch.equal(back, tensor.transpose(1, 2))  # no memory of the state's
