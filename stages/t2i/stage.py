"""The T2I stage: a prompt becomes one picture.

Takes no input values; gives an `Image` of `params.size`. Where a preset names a part `t2i`, any text-to-image pipeline
of diffusers draws it (SDXL, SD1.5, PixArt, FLUX), by its own scheduler where the preset's says "own"; otherwise this
module's own loop does, over a UNet2DConditionModel, with classifier-free guidance. Noise comes from one generator per
job seed, on the CPU, so the picture does not depend on the device's index. Several prompts of one shape may be drawn
at once, each as if it were alone but for rounding.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol, Self

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from stages.base import InputError, Report, StageName, WeightsError, derive_seed, ignore_progress
from stages.model.hub.classes import takes
from stages.model.hub.gang import Gang
from stages.model.hub.layout import choose_class, load_pipeline, look_up
from stages.model.hub.limits import check_size, picture_size_rule
from stages.model.hub.rehearsal import Rehearsal, rehearse, sketch_pipeline
from stages.model.hub.runner import Runner, expect
from stages.model.network import vae as codec
from stages.model.network.reference import put_beside
from stages.model.network.text import TextEncoder, beside_time
from stages.model.sampling.glimpses import Colours
from stages.model.sampling.sampler import build_scheduler, draw_noise, draws_noise
from stages.model.sampling.stops import NO_STOPS, Stops, stops_at
from stages.model.weights.facts import facts_of
from stages.model.weights.fit import check_unet
from stages.model.weights.loading import compute_dtype, find_part, load_module, settle
from stages.model.weights.offload import Places
from stages.presets import Part, Preset, T2IParams
from stages.speed import EXACT, Speed
from stages.state import DenoisingState, Offer
from stages.types import Image, UInt8

Asked = tuple[T2IParams, int]  # and the seed


class Painter(Protocol):
    """What draws the pictures."""

    facts: Mapping[str, str]  # what computes here; empty for one that cannot stop between two steps

    def paint(self, requests: Sequence[Asked], report: Report, stops: Stops = NO_STOPS) -> UInt8:
        """(N, H, W, 3) uint8, one for each request; they have one shape. `stops` is for one alone."""


class T2I:
    """Text to image; see the top of this module."""

    name: StageName = "t2i"

    def __init__(self, painter: Painter) -> None:
        self._painter = painter

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        """Build the stage: from `t2i` (and `t2i_vae`), or from `unet`, `vae`, `text_encoder` and `tokenizer`.

        Raises:
            WeightsError: a part is missing or broken.
        """
        if preset.speed("t2i").gpus > 1:
            return cls(Gang.load(Pipeline, preset, "t2i", device))
        return cls(Pipeline.load(preset, device) if "t2i" in preset.parts else OwnLoop.load(preset, device))

    @property
    def resumable(self) -> bool:
        """As `stages.state.ResumableStage`; not where a pipeline draws that cannot stop. A batch never does."""
        return bool(self._painter.facts)

    def __call__(
        self,
        *,
        params: T2IParams,
        seed: int,
        report: Report,
        offer: Offer | None = None,
        resume: DenoisingState | bytes | None = None,
    ) -> Image:
        """One picture. Calls `report` at every denoising step.

        Raises:
            InputError: a size that the model cannot draw.
            Cancelled: `report` asked to stop.
            Yielded: `offer` did, to go on with `resume`.
        """
        facts, steps = self._painter.facts, params.denoising.steps
        stops = stops_at(self.name, facts, (params, seed), steps, offer, resume)
        return Image(self._painter.paint([(params, seed)], report, stops)[0])

    def shape(self, params: T2IParams) -> Hashable:
        """All but the texts; a negative prompt or none, since some pipelines take it for another thing than "no"."""
        return replace(params, prompt="", negative_prompt="x" if params.negative_prompt else "")

    def batch(self, requests: Sequence[Asked], report: Report) -> Sequence[Image]:
        """One picture for each request, in their order; as `stages.base.BatchStage` says."""
        if others := {self.shape(params) for params, _ in requests[1:]} - {self.shape(requests[0][0])}:
            raise InputError(f"T2I draws pictures of one shape at once, got {self.shape(requests[0][0])} and {others}.")
        return [Image(pixels) for pixels in self._painter.paint(requests, report)]


class OwnLoop:
    """Denoising written out: the tiny preset, and every SD1.5-type set of weights."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text: TextEncoder,
        places: Places | None = None,
        facts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._unet = unet
        self._vae = vae
        self._text = text
        self._places = Places(unet.device) if places is None else places
        self._dtype = unet.dtype
        self._colours = Colours(vae)
        self.facts = facts

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        dtype, places = compute_dtype(preset, device), Places(device, preset.speed("t2i").offload)
        facts = facts_of(preset, device)
        preset = settle(preset, device, together=["unet"])
        unet = load_module(preset, "unet", UNet2DConditionModel, "cpu", dtype)
        vae = load_module(preset, "vae", AutoencoderKL, "cpu", dtype)
        text = TextEncoder.load(preset, "cpu", dtype)
        text_width, channels = int(text.model.config.hidden_size), int(vae.config.latent_channels)
        check_unet(unet, text_width, channels, beside=preset.beside)
        places.put(vae, preset.parts["vae"].device)  # everything is there and fits: only now the device's memory
        places.put(text.model, preset.parts["text_encoder"].device)
        places.put(unet, every_step=True)
        return cls(unet, vae, text, places, facts)

    @torch.no_grad()
    def paint(self, requests: Sequence[Asked], report: Report, stops: Stops = NO_STOPS) -> UInt8:
        params, total = requests[0][0], requests[0][0].denoising.steps
        latent = codec.latent_size("T2I", codec.reduction(self._vae), params.size)
        device, dtype = self._places.device, self._dtype
        scheduler = build_scheduler(params.denoising)
        scheduler.set_timesteps(total, device=device)
        shape = (1, int(self._vae.config.latent_channels), *latent)

        def start() -> Tensor:
            noise = torch.cat([draw_noise(shape, seed, "t2i") for _, seed in requests])
            scaled: Tensor = noise.to(device, dtype) * scheduler.init_noise_sigma
            return scaled

        latents = stops.latents(start, device)
        with self._places.lend(self._text.model):  # each alone, so that all that a batch shares is the UNet's rounding
            pairs = [self._text.encode([own.negative_prompt, own.prompt]) for own, _ in requests]
        rows = [(pair, slice(side, side + 1)) for side in (0, 1) for pair in pairs]
        text = torch.cat([pair.states[row] for pair, row in rows]).to(device, dtype)
        pooled = torch.cat([pair.pooled[row] for pair, row in rows]).to(device, dtype)
        added = beside_time(self._unet, pooled, params.size)
        steps = [torch.Generator("cpu").manual_seed(derive_seed(seed, "t2i", "steps")) for _, seed in requests]
        draws = {"generator": steps} if draws_noise(scheduler) else {}
        drawing = steps if draws else []
        done = stops.enter(scheduler, drawing, device)
        with self._places.lend(self._vae):
            self._colours.fit(report)
        report(done, total)
        with self._places.lend(self._unet):
            for step, t in enumerate(scheduler.timesteps[done:], done):
                stops.reach(step, total, latents, scheduler, drawing)
                pair = scheduler.scale_model_input(torch.cat([latents] * 2), t)
                said = self._unet(put_beside(self._unet, pair), t, text, added_cond_kwargs=added).sample
                without, given = said.chunk(2)
                guided = without + params.denoising.guidance * (given - without)
                stepped = scheduler.step(guided, t, latents, **draws)
                latents = stepped.prev_sample.contiguous()
                self._colours.show(report, scheduler, stepped)
                report(step + 1, total)
            stops.reach(total, total, latents, scheduler, drawing)
        with self._places.lend(self._vae):
            return codec.decode(self._vae, latents)


class Pipeline:
    """Any text-to-image pipeline of diffusers; the paper's system is "compatible with different T2I models"."""

    def __init__(self, pipeline: Any, facts: Mapping[str, str] = MappingProxyType({}), speed: Speed = EXACT) -> None:
        self.runner = Runner(pipeline, speed)
        self.facts = facts if self.runner.resumable else {}
        self._size_rule = picture_size_rule(pipeline)

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        part = find_part(preset, "t2i")

        def judge(pipeline: Any) -> None:
            rule = picture_size_rule(pipeline)
            for sizes in preset.sizes.values():
                if not rule.allows(sizes.t2i):
                    raise WeightsError(
                        f"Preset {preset.name!r} draws {sizes.t2i[0]}x{sizes.t2i[1]} pixels, its part 't2i' "
                        f"({part.source}) makes {rule}: take {rule.nearest(sizes.t2i)}."
                    )

        facts = facts_of(preset, device)
        pipeline = load_pipeline(preset, "t2i", device, partial(_painter_class, part), judge)
        return cls(pipeline, facts, preset.speed("t2i"))

    @staticmethod
    def check(preset: Preset, device: str) -> str:
        """As `stages.model.hub.video.HubAnimator.check`."""
        return look_up(preset, "t2i", device, partial(_painter_class, find_part(preset, "t2i")))[2].__name__

    @classmethod
    def rehearse(cls, preset: Preset, params: T2IParams, device: str = "meta") -> Rehearsal:
        """What one call would compute; from configurations alone, in the dtype of `device` ("meta": a GPU)."""
        part = find_part(preset, "t2i")
        made = cls(sketch_pipeline(preset, "t2i", partial(_painter_class, part), device))
        return rehearse(made, lambda: made.paint([(params, 0)], ignore_progress))

    def paint(self, requests: Sequence[Asked], report: Report, stops: Stops = NO_STOPS) -> UInt8:
        params = requests[0][0]
        check_size(f"T2I's {self.runner.name}", self._size_rule, params.size)
        width, height = params.size
        prompts = [own.prompt for own, _ in requests]
        negative = [own.negative_prompt for own, _ in requests]
        given = {
            "prompt": prompts if len(requests) > 1 else params.prompt,
            **({"negative_prompt": negative if len(requests) > 1 else negative[0]} if params.negative_prompt else {}),
            "width": width,
            "height": height,
            "guidance_scale": params.denoising.guidance,
        }
        steps, seeds = params.denoising.steps, [derive_seed(seed, "t2i") for _, seed in requests]
        pictures = self.runner.frames(given, params.denoising, steps, seeds, report, stops)
        return expect(pictures, len(requests), params.size, f"T2I's {self.runner.name}")


def _painter_class(part: Part, own: str) -> type:
    return choose_class("t2i", part, own, _paints, (), "draws a picture from a `prompt` alone")


def _paints(cls: type) -> bool:
    """Whether a pipeline class makes one picture from a prompt, and looks at no other."""
    wanted = takes(cls, "prompt", "width", "height", "num_inference_steps")
    return wanted and not any(takes(cls, name) for name in ("image", "control_image", "num_frames"))
