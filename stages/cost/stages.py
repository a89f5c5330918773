"""The cost of each stage's call: its passes on the meta device, each measured once and counted as often as it runs.

Takes a preset, a final size or a stage's own, and a number of keyframes; gives a `Cost` for one request, V2V's windows
and VFI's gaps all together. The passes are those of the stages' own code. Where a stage is a pipeline of the hub, its
call is rehearsed (`stages.model.hub.rehearsal`). `device` is "cpu" (float32, work in chunks) or any GPU's name; it need
not exist. Knows nothing of seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from stages.cost.denoising import counted_as, denoise, empty, encode_prompts, guide
from stages.cost.meter import Tally
from stages.cost.sketch import (
    dtype_on,
    is_cpu,
    lighten,
    modules_of,
    resident_bytes,
    resident_network_bytes,
    sketch_module,
    sketch_network,
    weight_bytes,
)
from stages.model.hub.rehearsal import OnMeta, Rehearsal
from stages.model.hub.skipping import runs_each_step
from stages.model.hub.video import HubAnimator, HubRedrawer
from stages.model.network import vae as codec
from stages.model.network.network import VideoNetwork
from stages.model.network.reference import put_beside, reads_reference
from stages.model.network.text import beside_time
from stages.model.sampling.windows import Span, plan_windows
from stages.presets import Preset, plan
from stages.speed import OFFLOADS, Offload
from stages.t2i.stage import Pipeline
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
    resident_bytes: int  # of them, the most that is on the device at once: less where the preset offloads
    activation_peak_bytes: int  # beside the weights, at the worst moment of one call
    output_bytes: int
    calls: int = 1  # V2V and VFI are called once a window
    step_flops: int = 0  # of one denoising step of one call, where a stage denoises
    resident_if: Mapping[Offload, int] = field(default_factory=dict)  # `resident_bytes` with every kind of offloading
    gpus: int = 1  # that share a call; each holds all of the weights

    @property
    def memory_bytes(self) -> int:
        """What a GPU needs for the stage: its weights there, activations, and `OVERHEAD_BYTES`."""
        return self.resident_bytes + self.activation_peak_bytes + OVERHEAD_BYTES


def cost_t2i(preset: Preset, size: tuple[int, int], device: str = "cuda") -> Cost:
    """One picture of `size` (width, height)."""
    params, (width, height) = replace(plan(preset, "x").t2i, size=size), size
    if "t2i" in preset.parts:
        rehearsal = Pipeline.rehearse(preset, params, _stand_in(device))
        return _rehearsed("t2i", preset, [(rehearsal, 1)], width * height * 3, device)
    total, dtype = Tally(), dtype_on(preset, device)
    text = sketch_module(preset, "text_encoder", CLIPTextModel, dtype)
    unet = sketch_module(preset, "unet", UNet2DConditionModel, dtype)
    vae = sketch_module(preset, "vae", AutoencoderKL, dtype)
    read = encode_prompts(total, text, dtype)
    latent = codec.latent_size("T2I", codec.reduction(vae), size)
    pair = empty((2, int(vae.config.latent_channels), *latent), dtype)
    added = beside_time(unet, read.pooled, size)

    def ask() -> Tensor:
        said: Tensor = unet(put_beside(unet, pair), 500, read.states, added_cond_kwargs=added).sample
        return said

    step = total.add(ask, params.denoising.steps, pair.nbytes)
    total.add(lambda: codec.decode_raw(vae, pair[:1]), held=pair.nbytes)
    weights = weight_bytes([text, unet, vae])
    resident: dict[Offload, int] = {
        "none": weights,
        "model": resident_bytes("model", [text, unet, vae], device),
        "layers": weight_bytes([text, vae]) + resident_bytes("layers", [unet], device),
    }
    output = width * height * 3
    return Cost("t2i", total.flops, weights, _held(resident, preset, "t2i"), total.peak, output, 1, step, resident)


def cost_i2v(preset: Preset, size: tuple[int, int], frames: int, device: str = "cuda") -> Cost:
    """`frames` keyframes of `size`."""
    params = replace(plan(preset, "x").i2v, size=size, frames=frames)
    (width, height), pixels = size, frames * size[0] * size[1] * 3
    if "i2v_pipeline" in preset.parts:
        rehearsal = HubAnimator.rehearse(preset, params, _stand_in(device))
        return _rehearsed("i2v", preset, [(rehearsal, 1)], pixels, device)
    network = sketch_network(preset, motion="motion", guide=preset.i2v_guide, device=device)
    total, latent, every = Tally(), _latent(network, size), preset.speed("i2v").reuse_every
    held = 4 * frames * latent.nbytes  # noise, latents, what was said, scaled
    with counted_as(device):
        given = guide(total, network, params, frames)
        held += given.nbytes
        total.add(lambda: codec.encode_moments(network.vae, empty((1, 3, height, width), network.vae.dtype)))
        step = denoise(total, network, params, given, plan_windows(frames, params.windows), held, every)
        total.add(lambda: codec.decode_raw(network.vae, latent.to(network.vae.dtype)), frames, held)
    weights, output = weight_bytes(modules_of(network)), pixels + frames * latent.numel() * 2  # latents are float16
    resident = _resident(preset, network, device)
    return Cost("i2v", total.flops, weights, _held(resident, preset, "i2v"), total.peak, output, 1, step, resident)


def cost_v2v(
    preset: Preset, size: tuple[int, int], frames: int, device: str = "cuda", strength: float | None = None
) -> Cost:
    """All windows of `frames` keyframes redrawn at `size`; the peak is that of one window's call.

    `strength` is that of the final size, where it has one of its own.
    """
    (width, height), wanted = size, preset.strength if strength is None else strength
    params = replace(plan(preset, "x").v2v, size=size, strength=wanted)
    spans = plan_windows(frames, params.windows)
    lengths = [len(span) for span in spans]  # windows of one length cost the same
    output = sum(lengths) * width * height * 3
    if "v2v_pipeline" in preset.parts:
        part_of = {len(span): part for part, span in enumerate(spans)}
        calls = [
            (HubRedrawer.rehearse(preset, replace(params, part=part), frames, _stand_in(device)), lengths.count(length))
            for length, part in part_of.items()
        ]
        return _rehearsed("v2v", preset, calls, output, device)
    network = sketch_network(preset, motion="motion_v2v", guide=preset.v2v_guide, device=device)
    weights, resident = weight_bytes(modules_of(network)), _resident(preset, network, device)
    if params.strength == 0:
        return Cost("v2v", 0, weights, _held(resident, preset, "v2v"), output, output, len(spans), 0, resident)
    latent, one = _latent(network, size), empty((1, 3, height, width), network.vae.dtype)
    windows: dict[int, Tally] = {}
    step, every = 0, preset.speed("v2v").reuse_every
    for length in set(lengths):
        total = windows[length] = Tally()
        with counted_as(device):
            given = guide(total, network, params, length)
            held = 4 * length * latent.nbytes + given.nbytes
            pictures = length + reads_reference(network.unet)
            total.add(partial(codec.encode_moments, network.vae, one), pictures, held)
            step = max(step, denoise(total, network, params, given, [Span(0, length)], held, every))
            total.add(partial(codec.decode_raw, network.vae, latent.to(network.vae.dtype)), length, held)
    flops = sum(windows[length].flops for length in lengths)
    peak = max(total.peak for total in windows.values())
    return Cost("v2v", flops, weights, _held(resident, preset, "v2v"), peak, output, len(spans), step, resident)


def cost_vfi(preset: Preset, size: tuple[int, int], frames: int, device: str = "cuda") -> Cost:
    """The video of `frames` keyframes at `size`; a scene cut, which is copied, would cost less."""
    (width, height), nowhere, dtype = size, torch.device("meta"), dtype_on(preset, device)
    factor, calls = preset.vfi_factor, len(plan_windows(frames, preset.v2v_windows))
    made = factor * (frames - 1) + 1
    flow = load_rife(preset.parts["flow"], nowhere, dtype)
    gan = load_gan(preset.parts["gan"], nowhere, dtype) if preset.gan and "gan" in preset.parts else None
    total = Tally()
    picture = torch.empty((1, 3, height, width), device="meta")

    def see() -> tuple[Encoded, list[Tensor]]:
        encoded = flow.encode(picture)
        return encoded, [] if gan is None else gan.encode(encoded.frame)

    def between() -> Tensor:
        found = flow.estimate(encoded, encoded, 1 / factor)
        if gan is None:
            return found.frame
        time = torch.full((1,), 1 / factor, device="meta")
        given = Candidates(encoded.frame, encoded.frame, found.frame, found.flow, found.mask, time)
        return gan.between(given, features, features)

    with OnMeta(outermost=True), torch.no_grad():
        encoded, features = see()
    held = 2 * sum(tensor.nbytes for tensor in (encoded.frame, *encoded.context, *features))
    if factor > 1:
        total.add(see, frames + calls - 1, held // 2)  # a window sees the last frame of the one before again
        total.add(between, made - frames, held)
    networks: list[nn.Module] = [flow] if gan is None else [flow, gan]
    weights = weight_bytes(networks)
    output, resident = made * width * height * 3, dict.fromkeys(OFFLOADS, weights)
    return Cost("vfi", total.flops, weights, weights, total.peak, output, calls, 0, resident)  # it offloads nothing


def cost_of(preset: Preset, size: str, frames: int, device: str = "cuda") -> dict[StageName, Cost]:
    """Every stage for a final size of the preset's table and a number of keyframes."""
    sizes = preset.sizes[size]
    return {
        "t2i": cost_t2i(preset, sizes.t2i, device),
        "i2v": cost_i2v(preset, sizes.i2v, frames, device),
        "v2v": cost_v2v(preset, sizes.v2v, frames, device, sizes.strength),
        "vfi": cost_vfi(preset, sizes.v2v, frames, device),
    }


def _rehearsed(
    stage: StageName, preset: Preset, calls: Sequence[tuple[Rehearsal, int]], output: int, device: str
) -> Cost:
    """Of the different calls of a stage, and how many there are of each."""
    total, step = Tally(), 0
    for made, count in calls:
        for call in made.calls:
            with counted_as(device):
                flops = total.add(call.run, call.times * count, made.held)
            step = max(step, flops if call.times > 1 else 0)
    networks, speed = calls[0][0].modules, preset.speed(stage)
    for name, network in networks.items() if speed.weights != "as_published" else ():
        if runs_each_step(name):
            lighten(network, speed.weights)
    modules = list(networks.values())
    resident = {offload: resident_bytes(offload, modules, device) for offload in OFFLOADS}
    number, weights = sum(count for _, count in calls), weight_bytes(modules)
    held = _held(resident, preset, stage)
    return Cost(stage, total.flops, weights, held, total.peak, output, number, step, resident, speed.gpus)


def _resident(preset: Preset, network: VideoNetwork, device: str) -> dict[Offload, int]:
    return {offload: resident_network_bytes(preset, offload, network, device) for offload in OFFLOADS}


def _held(resident: Mapping[Offload, int], preset: Preset, stage: StageName) -> int:
    """Groups of layers take about what single ones do."""
    offload = preset.speed(stage).offload
    return resident["layers" if offload == "groups" else offload]


def _stand_in(device: str) -> str:
    """The device as a rehearsal takes it."""
    return "cpu" if is_cpu(device) else "meta"


def _latent(network: VideoNetwork, size: tuple[int, int]) -> Tensor:
    """Of one frame."""
    latent = codec.latent_size("The network", network.reduction, size)
    return empty((1, network.channels, *latent), network.dtype)
