"""The counted cost against a real call on a CPU: FLOPs, weights, the allocator's peak, bytes of the output."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from stages.base import ignore_progress
from stages.cost.command import main
from stages.cost.meter import measure
from stages.cost.sketch import modules_of, weight_bytes
from stages.cost.stages import Cost, cost_i2v, cost_t2i, cost_v2v, cost_vfi
from stages.i2v import I2V
from stages.model.windows import plan_windows
from stages.presets import TINY, Preset, plan
from stages.t2i import T2I
from stages.types import Clip, Image, Keyframes, Window
from stages.v2v import V2V
from stages.vfi import VFI
from tests.stages.random_parts import paper_like

WITHIN = 0.15
PROMPT = "a fox"


def flops_of(work: Callable[[], Any]) -> int:
    """The counter does not know the CPU's fused attention: here it is computed as matrix products."""
    with FlopCounterMode(display=False) as meter, sdpa_kernel(SDPBackend.MATH):
        work()
    return int(meter.get_total_flops())


def peak_of(work: Callable[[], Any]) -> int:
    """The most that the allocator has handed out at once, over what was there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    assert recorded.profiler is not None
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(changes).max())


def picture(size: tuple[int, int]) -> Image:
    return Image(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8))


def keyframes(size: tuple[int, int], frames: int) -> Keyframes:
    return Keyframes(None, Clip(np.repeat(picture(size).pixels[None], frames, 0), 8.0))


def check(cost: Cost, work: Callable[[], Any], outputs: int, weights: int) -> None:
    work()  # what a first call sets up once is no cost of a call
    assert cost.flops == pytest.approx(flops_of(work), rel=WITHIN)
    assert cost.activation_peak_bytes == pytest.approx(peak_of(work), rel=WITHIN)
    assert cost.output_bytes == pytest.approx(outputs, rel=0.001)
    assert cost.weight_bytes == pytest.approx(weights, rel=0.001)


@pytest.fixture(scope="module", params=["tiny", "like paper"])
def preset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Preset:
    like = paper_like(tmp_path_factory.mktemp("parts")) if request.param == "like paper" else TINY
    few = {name: replace(getattr(like, name), steps=4) for name in ("t2i", "i2v", "v2v")}
    return replace(like, **few)


SIZES = [((64, 64), 4), ((128, 64), 6), ((128, 128), 8)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (128, 64), (128, 128)])
def test_t2i(size: tuple[int, int]) -> None:
    preset = replace(TINY, t2i=replace(TINY.t2i, steps=4))
    stage, params = T2I.load(preset, "cpu"), replace(plan(preset, PROMPT).t2i, size=size)
    painter: Any = stage._painter
    weights = weight_bytes([painter._unet, painter._vae, painter._text.model])

    def work() -> Image:
        return stage(params=params, seed=1, report=ignore_progress)

    check(cost_t2i(preset, size, "cpu"), work, work().nbytes, weights)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "frames"), SIZES)
def test_i2v(preset: Preset, size: tuple[int, int], frames: int) -> None:
    stage, params = I2V.load(preset, "cpu"), replace(plan(preset, PROMPT).i2v, size=size, frames=frames)
    image = picture((64, 64))

    def work() -> Keyframes:
        return stage(image, params=params, seed=1, report=ignore_progress)

    check(cost_i2v(preset, size, frames, "cpu"), work, work().nbytes, weight_bytes(modules_of(stage.network)))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "frames"), SIZES)
def test_v2v(preset: Preset, size: tuple[int, int], frames: int) -> None:
    stage, params = V2V.load(preset, "cpu"), replace(plan(preset, PROMPT).v2v, size=size)
    image, given = picture((64, 64)), keyframes((size[0] // 2, size[1] // 2), frames)
    parts = range(len(plan_windows(frames, params.windows)))

    def work() -> int:
        made = (stage(image, given, params=replace(params, part=i), seed=1, report=ignore_progress) for i in parts)
        return sum(piece.nbytes for piece in made)

    cost = cost_v2v(preset, size, frames, "cpu")
    assert cost.calls == len(parts)
    check(cost, work, work(), weight_bytes(modules_of(stage.network)))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(128, 128), (192, 128), (256, 256)])
def test_vfi(size: tuple[int, int]) -> None:
    stage, params = VFI.load(TINY, "cpu"), plan(TINY, PROMPT).vfi
    moving = np.stack([np.roll(picture(size).pixels, 2 * step, 1) for step in range(3)])

    def work() -> Clip:
        return stage(Window(Clip(moving, 8.0), 0, 0, 0, last=True), params=params, seed=1, report=ignore_progress)

    cost = cost_vfi(TINY, size, 3, "cpu")
    work()
    assert cost.flops == pytest.approx(flops_of(work), rel=WITHIN)
    assert cost.activation_peak_bytes == pytest.approx(peak_of(work), rel=WITHIN)
    assert cost.output_bytes == work().nbytes


def test_the_meter_counts_products_attention_and_what_lives_at_once() -> None:
    a, b = torch.empty(8, 16, device="meta"), torch.empty(16, 4, device="meta")
    found = measure(lambda: a @ b)
    assert (found.flops, found.peak_bytes) == (2 * 8 * 16 * 4, 8 * 4 * 4)
    heads = torch.empty(2, 3, 5, 7, device="meta")
    attention = measure(lambda: torch.nn.functional.scaled_dot_product_attention(heads, heads, heads))
    assert (attention.flops, attention.peak_bytes) == (2 * 2 * (2 * 3 * 5 * 5 * 7), heads.nbytes)

    def chain() -> torch.Tensor:
        state = torch.empty(1000, device="meta")
        for _ in range(5):
            state = state + 1
        return state

    assert measure(chain).peak_bytes == 2 * 4000


@pytest.mark.slow
def test_the_table_of_the_paper_needs_no_network(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--preset", "paper"]) == 0
    shown = capsys.readouterr().out
    assert all(stage in shown for stage in ("t2i", "i2v", "v2v", "vfi"))
    assert main(["--preset", "huge"]) == 2
    assert main(["--preset", "paper", "--size", "3x3"]) == 2
