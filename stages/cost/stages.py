"""The cost of each stage's call: its passes on the meta device, each measured once and counted as often as it runs.

Takes a preset, a final size or a stage's own, and a number of keyframes; gives a `Cost` for one request, V2V's windows
and VFI's gaps all together. The passes are those of the stages' own code: what they compute once a request is counted
once. Prompts count with the length they are padded to. Where a stage is a pipeline of the hub, its call is rehearsed
(`stages.model.hub.rehearsal`). Knows nothing of seconds or of devices that exist.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from stages.cost.meter import measure
from stages.cost.sketch import dtype_on, modules_of, sketch_module, sketch_network, weight_bytes
from stages.model import vae as codec
from stages.model.control import Hint, SparseHint, prepare_hints
from stages.model.hub.rehearsal import OnMeta, Rehearsal
from stages.model.layers import COUNTED_AS
from stages.model.memory import Memory
from stages.model.network import VideoNetwork
from stages.model.sampler import build_scheduler, tail_timesteps
from stages.model.windows import Span, plan_windows
from stages.presets import Preset, plan
from stages.settings import Denoising, Guide
from stages.types import StageName
from stages.vfi.gan import Candidates
from stages.vfi.rife import Encoded
from stages.vfi.weights import load_gan, load_rife

GIB = 2**30
OVERHEAD_BYTES = GIB  # what CUDA, its libraries and an allocator's gaps take beside tensors: our allowance


@dataclass(frozen=True)
class Cost:
    """One request through one stage."""

    stage: StageName
    flops: int
    weight_bytes: int  # of all networks that the stage holds
    activation_peak_bytes: int  # beside the weights, at the worst moment of one call
    output_bytes: int
    calls: int = 1  # V2V and VFI are called once a window
    step_flops: int = 0  # of one denoising step of one call, where a stage denoises

    @property
    def memory_bytes(self) -> int:
        """What a GPU needs to hold the stage: weights, activations, and `OVERHEAD_BYTES`."""
        return self.weight_bytes + self.activation_peak_bytes + OVERHEAD_BYTES


@dataclass
class _Sum:
    """Passes added up."""

    flops: int = 0
    peak: int = 0

    def add(self, work: Callable[[], object], times: int = 1, held: int = 0) -> int:
        """Measure once, count `times`; `held` bytes lie beside it. Gives the FLOPs of one."""
        with OnMeta():
            found = measure(work)
        self.flops += times * found.flops
        self.peak = max(self.peak, found.peak_bytes + held)
        return found.flops


def cost_t2i(preset: Preset, size: tuple[int, int], device: str = "cuda") -> Cost:
    """One picture of `size` (width, height)."""
    params = plan(preset, "x").t2i
    total, (width, height) = _Sum(), size
    if "t2i" in preset.parts:
        from stages.t2i.stage import Pipeline

        rehearsal = Pipeline.rehearse(preset, replace(params, size=size), _stand_in(device))
        return _rehearsed("t2i", rehearsal, width * height * 3)
    dtype = dtype_on(preset, device)
    text = sketch_module(preset, "text_encoder", CLIPTextModel, dtype)
    unet = sketch_module(preset, "unet", UNet2DConditionModel, dtype)
    vae = sketch_module(preset, "vae", AutoencoderKL, dtype)
    reduction = codec.reduction(vae)
    states = _text_states(total, text, dtype)
    noise = _empty((2, int(unet.config.in_channels), height // reduction, width // reduction), dtype)
    with _counted_as(device):
        step = total.add(lambda: unet(noise, 500, states).sample, params.denoising.steps)
        total.add(lambda: codec.decode_raw(vae, noise[:1]))
    return Cost("t2i", total.flops, weight_bytes([text, unet, vae]), total.peak, width * height * 3, step_flops=step)


def cost_i2v(preset: Preset, size: tuple[int, int], frames: int, device: str = "cuda") -> Cost:
    """`frames` keyframes of `size`."""
    params = replace(plan(preset, "x").i2v, size=size, frames=frames)
    (width, height), pixels = size, frames * size[0] * size[1] * 3
    if "i2v_pipeline" in preset.parts:
        from stages.model.hub.video import HubAnimator

        return _rehearsed("i2v", HubAnimator.rehearse(preset, params, _stand_in(device)), pixels)
    network = sketch_network(preset, motion="motion", guide=preset.i2v_guide, device=device)
    total = _Sum()
    spans = plan_windows(frames, params.windows)
    latent = (int(network.unet.config.in_channels), height // network.reduction, width // network.reduction)
    held = 4 * frames * int(np.prod(latent)) * network.dtype.itemsize  # noise, latents, what was said, scaled
    with _counted_as(device):
        given, hints = _guided(total, network, params.guide, size, frames)
        total.add(lambda: codec.encode_moments(network.vae, _empty((1, 3, height, width), network.dtype)))
        step = 0
        for span in spans:
            cut = [_cut(hint, span) for hint in hints]
            step += _steps(total, network, given, cut, (len(span), latent), params.denoising, None, held)
        total.add(lambda: codec.decode_raw(network.vae, _empty((1, *latent), network.dtype)), frames, held)
    output = pixels + frames * int(np.prod(latent)) * 2
    return Cost("i2v", total.flops, weight_bytes(modules_of(network)), total.peak, output, step_flops=step)


def cost_v2v(preset: Preset, size: tuple[int, int], frames: int, device: str = "cuda") -> Cost:
    """All windows of `frames` keyframes redrawn at `size`; the peak is that of one window's call."""
    params = replace(plan(preset, "x").v2v, size=size)
    width, height = size
    spans = plan_windows(frames, params.windows)
    output = sum(map(len, spans)) * width * height * 3
    if "v2v_pipeline" in preset.parts:
        from stages.model.hub.video import HubRedrawer

        costs = [
            _rehearsed("v2v", HubRedrawer.rehearse(preset, replace(params, part=part), frames, _stand_in(device)), 0)
            for part in range(len(spans))
        ]
        peak = max(cost.activation_peak_bytes for cost in costs)
        flops = sum(cost.flops for cost in costs)
        return Cost("v2v", flops, costs[0].weight_bytes, peak, output, len(spans), costs[0].step_flops)
    network = sketch_network(preset, motion="motion_v2v", guide=preset.v2v_guide, device=device)
    total = _Sum()
    latent = (int(network.unet.config.in_channels), height // network.reduction, width // network.reduction)
    step = 0
    with _counted_as(device):
        for span in spans:
            held = 4 * len(span) * int(np.prod(latent)) * network.dtype.itemsize
            given, hints = _guided(total, network, params.guide, size, len(span))
            one = _empty((1, 3, height, width), network.dtype)
            total.add(lambda one=one: codec.encode_moments(network.vae, one), len(span), held)  # type: ignore[misc]
            step = _steps(total, network, given, hints, (len(span), latent), params.denoising, params.strength, held)
            drawn = _empty((1, *latent), network.dtype)
            total.add(lambda drawn=drawn: codec.decode_raw(network.vae, drawn), len(span), held)  # type: ignore[misc]
    return Cost("v2v", total.flops, weight_bytes(modules_of(network)), total.peak, output, len(spans), step)


def cost_vfi(preset: Preset, size: tuple[int, int], frames: int, device: str = "cuda") -> Cost:
    """The video of `frames` keyframes at `size`; each call holds its window's frames as pixels beside the networks."""
    (width, height), nowhere, dtype = size, torch.device("meta"), dtype_on(preset, device)
    made, calls = preset.vfi_factor * (frames - 1) + 1, len(plan_windows(frames, preset.v2v_windows))
    flow = load_rife(preset.parts["flow"], nowhere, dtype)
    gan = load_gan(preset.parts["gan"], nowhere, dtype) if preset.gan and "gan" in preset.parts else None
    total = _Sum()
    picture = torch.empty((1, 3, height, width), device="meta")

    def see() -> tuple[Encoded, list[Tensor]]:
        encoded = flow.encode(picture)
        return encoded, [] if gan is None else gan.encode(encoded.frame)

    def between() -> Tensor:
        found = flow.estimate(encoded, encoded, 1 / preset.vfi_factor)
        if gan is None:
            return found.frame
        time = torch.full((1,), 0.5, device="meta")
        given = Candidates(encoded.frame, encoded.frame, found.frame, found.flow, found.mask, time)
        return gan.between(given, features, features)

    with OnMeta(), torch.no_grad():
        encoded, features = see()
    held = 2 * sum(tensor.nbytes for tensor in (encoded.frame, *encoded.context, *features))
    if preset.vfi_factor > 1:
        with _counted_as(device):
            total.add(see, frames, held // 2)
            total.add(between, made - frames, held)
    networks: list[nn.Module] = [flow] if gan is None else [flow, gan]
    return Cost("vfi", total.flops, weight_bytes(networks), total.peak, made * width * height * 3, calls)


def cost_of(preset: Preset, size: str, frames: int, device: str = "cuda") -> dict[StageName, Cost]:
    """Every stage for a final size of the preset's table and a number of keyframes."""
    sizes = preset.sizes[size]
    return {
        "t2i": cost_t2i(preset, sizes.t2i, device),
        "i2v": cost_i2v(preset, sizes.i2v, frames, device),
        "v2v": cost_v2v(preset, sizes.v2v, frames, device),
        "vfi": cost_vfi(preset, sizes.v2v, frames, device),
    }


def _rehearsed(stage: StageName, rehearsal: Rehearsal, output: int) -> Cost:
    total, step = _Sum(), 0
    for call in rehearsal.calls:
        flops = total.add(call.run, call.times)
        step = flops if call.times > 1 and flops > step else step
    return Cost(stage, total.flops, rehearsal.weight_bytes, total.peak, output, step_flops=step)


def _stand_in(device: str) -> str:
    """The device as a rehearsal takes it."""
    return "cpu" if torch.device(device).type == "cpu" else "meta"


def _text_states(total: _Sum, text: Any, dtype: torch.dtype) -> Tensor:
    """(2, L, C) for the negative and the positive prompt."""
    context, width = int(text.config.max_position_embeddings), int(text.config.hidden_size)
    ids = torch.ones((2, context), dtype=torch.long, device="meta")
    total.add(lambda: text(ids)[0])
    return _empty((2, context, width), dtype)


def _guided(
    total: _Sum, network: VideoNetwork, guide: Guide, size: tuple[int, int], frames: int
) -> tuple[tuple[Tensor, list[Tensor]], list[Hint]]:
    """What text and reference say, and the ControlNets' hints; their passes are added."""
    text = _text_states(total, network.text.model, network.dtype)
    encoder, plus = network.appearance.encoder, network.appearance.by_patches
    side = int(encoder.config.image_size)
    shown = _empty((2 if plus else 1, 3, side, side), network.dtype)
    total.add(lambda: encoder(shown, output_hidden_states=plus))
    config = encoder.config
    patches = (side // int(config.patch_size)) ** 2 + 1
    told = (patches, int(config.hidden_size)) if plus else (int(config.projection_dim),)
    image = [_empty((2, 1, *told), network.dtype)]
    black = np.zeros((1, 8, 8, 3), np.uint8)
    pictures = {"reference": black, "keyframes": np.repeat(black, frames, 0)}
    made: list[Hint] = []
    total.add(lambda: made.extend(prepare_hints(network.controls, guide.controls, pictures, size, frames)))
    return (text, image), [_placed(hint, first=True) for hint in made]


def _placed(hint: Hint, *, first: bool) -> Hint:
    """SparseCtrl compares its frames to find equal ones; without numbers it is told which are."""
    if isinstance(hint, SparseHint):
        count = hint.condition.shape[2]
        hint.__dict__["_places"] = (0, *([1] * (count - 1))) if count > 1 or first else (0,)
    return hint


def _cut(hint: Hint, span: Span) -> Hint:
    return _placed(hint.cut(span.start, span.stop), first=span.start == 0)


def _steps(
    total: _Sum,
    network: VideoNetwork,
    given: tuple[Tensor, list[Tensor]],
    hints: list[Hint],
    shape: tuple[int, tuple[int, ...]],
    denoising: Denoising,
    strength: float | None,
    held: int,
) -> int:
    """All steps of one window; the FLOPs of one but the first, which also makes keys and values."""
    scheduler = build_scheduler(denoising)
    scheduler.set_timesteps(denoising.steps)
    count = len(scheduler.timesteps if strength is None else tail_timesteps(scheduler, strength))
    copies = 2 if denoising.guidance > 1 else 1
    text, image = given if copies == 2 else (given[0][1:], [tensor[1:] for tensor in given[1]])
    with OnMeta():
        memory = Memory(
            network.unet, (text, image), [hints], copies=copies, motion=True, steps=count,
            reuse_every=denoising.reuse_every,
        )  # fmt: skip
    frames, latent = shape
    noised = _empty((1, latent[0], frames, *latent[1:]), network.dtype)
    t = torch.tensor(500)
    first = total.add(lambda: memory.run(0, 0, noised, t), 1, held)
    if count == 1:
        return first
    every = denoising.reuse_every
    if every > 1:
        total.add(lambda: memory.run(1, 0, noised, t), count - 1 - (count - 1) // every, held)
    full = (count - 1) // every
    return total.add(lambda: memory.run(every, 0, noised, t), full, held) if full else first


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


class _counted_as:  # noqa: N801 - reads as a verb
    """On a CPU the networks cut their work into chunks: count as it would be there."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device).type

    def __enter__(self) -> None:
        self._token = COUNTED_AS.set(self._device)

    def __exit__(self, *_: object) -> None:
        COUNTED_AS.reset(self._token)
