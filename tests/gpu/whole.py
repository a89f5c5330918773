"""A preset at its full size with random weights: what every stage takes of a device, in seconds and memory.

Networks are built on the device from the configurations that are published here (or stand in a folder), so nothing is
fetched. Hub pipelines are put together as the cost model does it, with a tokenizer that knows lengths alone; the parts
of the built-in networks are written to a folder and loaded as weights of the hub are.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from deployments.replicas.memory import PeakMemory
from stages.base import ignore_progress
from stages.cost.sketch import dtype_on, sketch_module, sketch_network
from stages.cost.stages import GIB, Cost, cost_of
from stages.i2v import I2V
from stages.model.hub.rehearsal import sketch_pipeline
from stages.model.hub.video import HubAnimator, HubRedrawer, _animator_class, _redrawer_class
from stages.model.sampling.windows import join, plan_windows
from stages.presets import Part, Preset, plan
from stages.settings import Guide, with_speeds
from stages.speed import OFFLOADS, Offload
from stages.t2i import T2I
from stages.t2i.stage import Pipeline, _painter_class
from stages.types import Piece, StageName
from stages.v2v import V2V
from stages.vfi import VFI
from tests.stages.random_parts import make_tokenizer

BUILT_IN: Mapping[str, type] = {
    "vae": diffusers.AutoencoderKL,
    "text_encoder": transformers.CLIPTextModel,
    "unet": diffusers.UNet2DConditionModel,
    "image_encoder": transformers.CLIPVisionModelWithProjection,
}


@dataclass(frozen=True)
class Taken:
    """By one stage, for one video."""

    seconds: float
    peak_gib: float
    said: Cost
    offload: Offload

    @property
    def said_gib(self) -> float:
        return (self.said.resident_if[self.offload] + self.said.activation_peak_bytes) / GIB


def drawn(like: nn.Module, device: str) -> nn.Module:
    """A network with weights, as random as its class makes them, like one on the meta device."""
    kind: Any = type(like)
    config: Any = like.config
    before = torch.get_default_dtype()
    torch.set_default_dtype(next(like.parameters()).dtype)  # in half precision from the start: it may not fit twice
    try:
        with torch.device(device):
            made = kind(config) if kind.__module__.startswith("transformers") else kind.from_config(config)
    finally:
        torch.set_default_dtype(before)
    dtypes = {name: tensor.dtype for name, tensor in like.named_parameters()}
    for name, tensor in made.named_parameters():
        tensor.data = tensor.data.to(dtypes[name])
    network: nn.Module = made.to(device).eval().requires_grad_(False)
    return network


def hub_pipeline(preset: Preset, name: str, device: str, offload: Offload, choose: Callable[[str], type]) -> Any:
    pipeline = sketch_pipeline(preset, name, choose, "cpu" if device == "cpu" else "meta")
    for component, module in pipeline.components.items():
        if isinstance(module, nn.Module):
            made = drawn(module, device)
            pipeline.register_modules(**{component: made if offload == "none" else made.to("cpu")})
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=torch.device(device))
    elif offload == "layers":
        pipeline.enable_sequential_cpu_offload(device=torch.device(device))
    return pipeline


def saved(preset: Preset, folder: Path, device: str, motion: str, guide: Guide) -> Preset:
    """The parts of a built-in network in `folder`, as the hub lays them out."""
    dtype = dtype_on(preset, device)
    kinds = {**BUILT_IN, motion: diffusers.MotionAdapter}
    for control in guide.controls:
        sparse = control.kind == "sparse"
        kinds[control.part] = diffusers.SparseControlNetModel if sparse else diffusers.ControlNetModel
    parts = {}
    for name, kind in kinds.items():
        module: Any = drawn(sketch_module(preset, name, kind, dtype), device)
        module.save_pretrained(folder / name)
        parts[name] = Part(str(folder / name), "test")
    appearance = sketch_network(preset, motion=motion, guide=guide, device=device).appearance
    assert appearance is not None
    shapes = {f"{k}.{key}": tuple(t.shape) for k, own in appearance.weights.items() for key, t in own.items()}
    (folder / "appearance").mkdir(exist_ok=True)
    tensors = {key: (0.02 * torch.randn(shape)).to(dtype) for key, shape in shapes.items()}
    save_file(tensors, folder / "appearance" / "appearance.safetensors")
    make_tokenizer().save_pretrained(folder / "tokenizer")
    parts |= {name: Part(str(folder / name), "test") for name in ("appearance", "tokenizer")}
    return replace(preset, parts=MappingProxyType({**preset.parts, **parts}), loras=())


class Trial:
    """One video of a preset, stage after stage, each alone on the device."""

    def __init__(self, preset: Preset, device: str, folder: Path, room: float) -> None:
        """`room` is what the device has, in bytes."""
        self.preset, self.device, self.folder, self.room = preset, device, folder, room
        self.plan = plan(preset, "a fox in a snowy forest at dusk", seed=7)
        self.costs = cost_of(preset, preset.default_size, self.plan.i2v.frames, device)
        self.taken: dict[StageName, Taken] = {}

    def run(self) -> None:
        """Raises: StageError where a pixel is not finite, or a stage makes another number or size of them."""
        params, report = self.plan, ignore_progress
        with self.loaded("t2i", self.t2i) as stage:
            image = self.timed("t2i", lambda: stage(params=params.t2i, seed=7, report=report))
        with self.loaded("i2v", self.i2v) as stage:
            keyframes = self.timed("i2v", lambda: stage(image, params=params.i2v, seed=7, report=report))
        spans = plan_windows(params.i2v.frames, params.v2v.windows)
        with self.loaded("v2v", self.v2v) as stage:
            calls = [replace(params.v2v, part=part) for part in range(len(spans))]
            pieces = self.timed(
                "v2v", lambda: [stage(image, keyframes, params=call, seed=7, report=report) for call in calls]
            )
        with self.loaded("vfi", lambda _: VFI.load(self.preset, self.device)) as stage:
            pairs: list[tuple[Piece, Piece | None]] = list(zip(pieces, [None, *pieces[:-1]], strict=True))
            clips = self.timed(
                "vfi", lambda: [stage(join(*pair), params=params.vfi, seed=7, report=report) for pair in pairs]
            )
        frames = np.concatenate([clip.frames for clip in clips])
        assert frames.shape == (params.frames, params.v2v.size[1], params.v2v.size[0], 3)

    def t2i(self, offload: Offload) -> T2I:
        if "t2i" not in self.preset.parts:
            return T2I.load(self.saved_for("motion", self.preset.i2v_guide, "t2i", offload), self.device)
        choose = partial(_painter_class, self.preset.parts["t2i"])
        return T2I(Pipeline(hub_pipeline(self.preset, "t2i", self.device, offload, choose)))

    def i2v(self, offload: Offload) -> I2V:
        if "i2v_pipeline" in self.preset.parts:
            choose = partial(_animator_class, self.preset)
            return I2V(HubAnimator(hub_pipeline(self.preset, "i2v_pipeline", self.device, offload, choose)))
        return I2V.load(self.saved_for("motion", self.preset.i2v_guide, "i2v", offload), self.device)

    def v2v(self, offload: Offload) -> V2V:
        if "v2v_pipeline" in self.preset.parts:
            choose = partial(_redrawer_class, self.preset)
            return V2V(HubRedrawer(hub_pipeline(self.preset, "v2v_pipeline", self.device, offload, choose)))
        return V2V.load(self.saved_for("motion_v2v", self.preset.v2v_guide, "v2v", offload), self.device)

    def saved_for(self, motion: str, guide: Guide, stage: StageName, offload: Offload) -> Preset:
        own = saved(self.preset, self.folder, self.device, motion, guide)
        return with_speeds(own, {stage: {"offload": offload}})

    @contextmanager
    def loaded(self, name: StageName, load: Callable[[Offload], Any]) -> Iterator[Any]:
        """With the fastest offloading that has room; the memory is given back."""
        beside = self.costs[name].activation_peak_bytes + GIB
        resident = self.costs[name].resident_if
        self.offload: Offload = next((kind for kind in OFFLOADS if resident[kind] + beside <= self.room), "layers")
        stage = load(self.offload)
        yield stage
        del stage
        gc.collect()
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def timed(self, name: StageName, work: Callable[[], Any]) -> Any:
        peak = PeakMemory(self.device)
        peak.begin()
        begun = time.monotonic()
        made = work()
        seconds = time.monotonic() - begun
        self.taken[name] = Taken(seconds, (peak.mb() or 0.0) / 1024, self.costs[name], self.offload)
        return made
