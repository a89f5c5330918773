"""The counted cost against a real call on a CPU: FLOPs, weights, the allocator's peak, bytes of the output."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from stages.base import ignore_progress
from stages.cost.command import GPU_NAMES, main
from stages.cost.gpus import GPUS, fits
from stages.cost.meter import measure
from stages.cost.sketch import modules_of, resident_network_bytes, sketch_network, weight_bytes
from stages.cost.stages import GIB, Cost, cost_i2v, cost_t2i, cost_v2v, cost_vfi
from stages.i2v import I2V
from stages.model.network.network import VideoNetwork
from stages.model.sampling.windows import plan_windows
from stages.presets import PAPER, TINY, Preset, Windows, plan
from stages.settings import with_speeds
from stages.speed import OFFLOADS, Offload
from stages.t2i import T2I
from stages.types import STAGE_NAMES, Clip, Image, Keyframes, Window
from stages.v2v import V2V
from stages.vfi import VFI
from tests.stages.modern.rig import Shelf, modern_preset
from tests.stages.random_parts import paper_like

WITHIN = 0.15
PROMPT = "a fox"


def flops_of(work: Callable[[], Any]) -> tuple[int, Any]:
    """And what was made. The counter does not know the CPU's fused attention: here it is matrix products."""
    with FlopCounterMode(display=False) as meter, sdpa_kernel(SDPBackend.MATH):
        made = work()
    return int(meter.get_total_flops()), made


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


def check(cost: Cost, work: Callable[[], Any], networks: Sequence[nn.Module]) -> None:
    flops, made = flops_of(work)  # first: what a first call sets up once is no cost of a call
    assert cost.flops == pytest.approx(flops, rel=0.01)
    assert cost.activation_peak_bytes == pytest.approx(peak_of(work), rel=WITHIN)
    assert cost.output_bytes == (made if isinstance(made, int) else made.nbytes)
    assert cost.weight_bytes == cost.resident_bytes == weight_bytes(networks)
    assert set(cost.resident_if.values()) == {cost.weight_bytes}  # on a CPU there is nothing to offload


@pytest.fixture(scope="module", params=["tiny", "like paper"])
def preset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Preset:
    like = paper_like(tmp_path_factory.mktemp("parts")) if request.param == "like paper" else TINY
    few = {name: replace(getattr(like, name), steps=2) for name in ("t2i", "i2v", "v2v")}
    return replace(like, **few)


SIZES = [((128, 64), 6)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(128, 64)])
def test_t2i(preset: Preset, size: tuple[int, int]) -> None:
    stage, params = T2I.load(preset, "cpu"), replace(plan(preset, PROMPT).t2i, size=size)
    painter: Any = stage._painter
    hub = hasattr(painter, "runner")
    networks = [*painter.runner.modules.values()] if hub else [painter._unet, painter._vae, painter._text.model]
    check(cost_t2i(preset, size, "cpu"), lambda: stage(params=params, seed=1, report=ignore_progress), networks)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "frames"), SIZES)
def test_i2v(preset: Preset, size: tuple[int, int], frames: int) -> None:
    stage, params = I2V.load(preset, "cpu"), replace(plan(preset, PROMPT).i2v, size=size, frames=frames)
    image = picture((64, 64))

    def work() -> Keyframes:
        return stage(image, params=params, seed=1, report=ignore_progress)

    check(cost_i2v(preset, size, frames, "cpu"), work, modules_of(stage.network))


@pytest.mark.slow
def test_i2v_in_windows_that_share_residuals_and_reuse_deep_layers(tmp_path_factory: pytest.TempPathFactory) -> None:
    like = paper_like(tmp_path_factory.mktemp("windows"))
    preset = replace(like, i2v_windows=Windows(6, 2), i2v=replace(like.i2v, steps=4))
    preset = with_speeds(preset, {"i2v": {"reuse_every": 2}})
    stage, params = I2V.load(preset, "cpu"), replace(plan(preset, PROMPT).i2v, size=(40, 40), frames=14)

    def work() -> Keyframes:
        return stage(picture((64, 64)), params=params, seed=1, report=ignore_progress)

    check(cost_i2v(preset, (40, 40), 14, "cpu"), work, modules_of(stage.network))


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
    check(cost, work, modules_of(stage.network))


@pytest.mark.slow
@pytest.mark.parametrize(("size", "gan"), [((128, 128), True), ((192, 128), False)])
def test_vfi(size: tuple[int, int], gan: bool) -> None:
    preset = replace(TINY, gan=gan)
    stage, params = VFI.load(preset, "cpu"), plan(preset, PROMPT).vfi
    moving = np.stack([np.roll(picture(size).pixels, 2 * step, 1) for step in range(3)])
    within = stage._full if gan else stage._plain
    networks = [network for network in (within._flow, within._gan) if network is not None]

    def work() -> Clip:
        return stage(Window(Clip(moving, 8.0), 0, 0, 0, last=True), params=params, seed=1, report=ignore_progress)

    check(cost_vfi(preset, size, 3, "cpu"), work, networks)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "frames"), [("stable_video", (72, 40), 5), ("wan_a14b", (128, 96), 13), ("ltx_text", (96, 64), 9)]
)
def test_pipelines_of_today(tmp_path: Path, name: str, size: tuple[int, int], frames: int) -> None:
    preset = modern_preset({"i2v_pipeline": Shelf(tmp_path)[name]}, size=size, frames=frames)
    stage, params = I2V.load(preset, "cpu"), plan(preset, PROMPT).i2v
    networks = [*stage.maker.runner.modules.values()]  # type: ignore[union-attr]

    def work() -> Keyframes:
        return stage(picture((64, 64)), params=params, seed=1, report=ignore_progress)

    check(cost_i2v(preset, size, frames, "cpu"), work, networks)


@pytest.fixture(scope="module")
def paper() -> VideoNetwork:
    return sketch(PAPER)


@pytest.mark.slow
def test_half_precision_halves_and_a_part_may_differ(paper: VideoNetwork) -> None:
    half, single = paper, sketch(replace(PAPER, dtype="float32"))
    assert weight_bytes(modules_of(half)) * 2 == weight_bytes(modules_of(single))
    parts = {**PAPER.parts, "vae": replace(PAPER.parts["vae"], dtype="float32")}
    mixed = sketch(replace(PAPER, parts=parts))
    assert weight_bytes([mixed.vae]) == weight_bytes([single.vae])
    assert weight_bytes([mixed.unet]) == weight_bytes([half.unet])


@pytest.mark.slow
def test_what_offloading_leaves_on_the_gpu(paper: VideoNetwork) -> None:
    network = paper
    everything, denoisers = weight_bytes(modules_of(network)), weight_bytes([*network.denoisers])
    assert resident_network_bytes(PAPER, "none", network, "cuda") == everything
    assert resident_network_bytes(PAPER, "model", network, "cuda") == denoisers
    layers = resident_network_bytes(PAPER, "layers", network, "cuda")
    assert everything - denoisers < layers < everything - denoisers + denoisers // 20
    text = {**PAPER.parts, "text_encoder": replace(PAPER.parts["text_encoder"], device="cpu")}
    stays = resident_network_bytes(replace(PAPER, parts=text), "none", network, "cuda")
    assert everything - stays == weight_bytes([network.text.model])


@pytest.mark.slow
@pytest.mark.parametrize("offload", OFFLOADS)
def test_a_cost_knows_what_every_offloading_leaves_there(offload: Offload) -> None:
    preset = with_speeds(TINY, {"t2i": {"offload": offload}, "i2v": {"offload": offload}})
    costs = [cost_t2i(preset, (64, 64)), cost_i2v(preset, (64, 64), 4), cost_vfi(preset, (64, 64), 3)]
    for cost in costs[:2]:
        assert cost.resident_bytes == cost.resident_if[offload]
        assert cost.resident_if["layers"] < cost.resident_if["none"] == cost.weight_bytes > cost.resident_if["model"]
    assert set(costs[2].resident_if.values()) == {costs[2].weight_bytes}


def sketch(preset: Preset) -> VideoNetwork:
    return sketch_network(preset, motion="motion", guide=preset.i2v_guide, device="cuda")


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
def test_the_table_names_every_stage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--preset", "tiny"]) == 0  # of paper: tests/deployments/test_box.py
    shown = capsys.readouterr().out
    assert all(stage in shown for stage in ("t2i", "i2v", "v2v", "vfi"))
    assert main(["--preset", "huge"]) == 2
    assert main(["--preset", "paper", "--size", "3x3"]) == 2


@pytest.mark.slow
def test_a_card_by_name_says_what_fits_there_and_about_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(GPU_NAMES) == set(GPUS)
    assert main(["--preset", "tiny", "--gpu", "h100", "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["stages"]
    assert {name: own["fits"] for name, own in stages.items()} == dict.fromkeys(STAGE_NAMES, "none")
    assert stages["i2v"]["seconds"] == pytest.approx(stages["i2v"]["flops"] / (0.4 * 989e12))
    with pytest.raises(SystemExit) as refused:
        main(["--preset", "tiny", "--gpu", "h100", "--device", "cpu"])
    assert refused.value.code == 2


def test_what_does_not_fit_whole_fits_in_parts() -> None:
    cost = Cost(
        "i2v", 0, 60 * GIB, 60 * GIB, 8 * GIB, 0, resident_if={"none": 60 * GIB, "model": 28 * GIB, "layers": 1}
    )
    assert [fits(cost, GPUS[name]) for name in ("l4", "a100-40", "h100")] == ["layers", "model", "none"]
    assert fits(replace(cost, activation_peak_bytes=30 * GIB), GPUS["l4"]) is None
