"""The I2V stage: a reference picture and a prompt become keyframes.

Takes an `Image`; gives `Keyframes`: latents (float16) and the same frames as pixels. The reference enters three times,
as in the paper: through the appearance encoder, through the RGB ControlNet on all frames, and as the mean of the
starting noise; where the preset says `beside`, its latents stand beside the noise of every frame as well. Clips longer
than one window are denoised window by window, fused at every step. Noise comes from one generator per job seed, on the
CPU. Where a preset names a part `i2v_pipeline`, a pipeline of diffusers does all of it.
"""

from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from stages.base import InputError, Report, StageError, StageName, derive_seed
from stages.model.hub.gang import Gang
from stages.model.hub.video import HubAnimator
from stages.model.network import vae as codec
from stages.model.network.network import VideoNetwork
from stages.model.sampling.denoise import denoise
from stages.model.sampling.glimpses import Colours
from stages.model.sampling.prior import start_latents
from stages.model.sampling.sampler import build_scheduler, draw_noise
from stages.model.sampling.stops import stops_at
from stages.model.sampling.video import check_request, encode_reference, guide_request
from stages.model.sampling.windows import plan_windows
from stages.presets import I2VParams, Preset
from stages.state import DenoisingState, Offer
from stages.types import Clip, Image, Keyframes, Latents


class I2V:
    """Image to video; see the top of this module."""

    name: StageName = "i2v"

    def __init__(self, maker: VideoNetwork | HubAnimator | Gang) -> None:
        self.maker = maker
        self._colours = Colours(maker.vae) if isinstance(maker, VideoNetwork) else None

    @property
    def network(self) -> VideoNetwork:
        """The built-in network; raises StageError where a pipeline of the hub is in its place."""
        if not isinstance(self.maker, VideoNetwork):
            raise StageError(f"{self.maker.who} has no network of ours; leave `i2v_pipeline` out of the preset.")
        return self.maker

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        """Build the stage from `unet`, `motion`, the controls, `image_encoder`, `appearance`, `vae` and the text parts;
        or from `i2v_pipeline`.

        Raises:
            WeightsError: a part is missing, broken or does not fit.
        """
        speed = preset.speed("i2v")
        if speed.gpus > 1:
            return cls(Gang.load(HubAnimator, preset, "i2v", device))
        if "i2v_pipeline" in preset.parts:
            return cls(HubAnimator.load(preset, device))
        return cls(VideoNetwork.load(preset, device, motion="motion", guide=preset.i2v_guide, speed=speed))

    @property
    def resumable(self) -> bool:
        """As `stages.state.ResumableStage`; not where a pipeline of the hub denoises that cannot stop between steps."""
        return bool(self.maker.facts)

    @torch.no_grad()
    def __call__(
        self,
        image: Image,
        *,
        params: I2VParams,
        seed: int,
        report: Report,
        offer: Offer | None = None,
        resume: DenoisingState | bytes | None = None,
    ) -> Keyframes:
        """`params.frames` keyframes of `params.size`. Calls `report` at every denoising step.

        Raises:
            InputError: a size or a number of frames that the network cannot make.
            Cancelled: `report` asked to stop.
            Yielded: `offer` did, to go on with `resume`.
        """
        request = (params, seed, image)
        stops = stops_at(self.name, self.maker.facts, request, params.denoising.steps, offer, resume)
        if not isinstance(self.maker, VideoNetwork):
            return self.maker(image, params=params, seed=seed, report=report, stops=stops)
        if params.frames < 1:
            raise InputError(f"I2V was asked for {params.frames} frames; the least is 1.")
        network, spans = self.maker, plan_windows(params.frames, params.windows)
        check_request("I2V", network, params.size, spans)
        scheduler = build_scheduler(params.denoising)
        scheduler.set_timesteps(params.denoising.steps, device=network.device)
        anchor = encode_reference(network, image, params.size)
        given = guide_request(network, params, image, {"reference": image.pixels[None]}, params.frames, anchor)
        latents = stops.latents(lambda: self._start(anchor, params, seed, scheduler), network.device)
        steps = torch.Generator("cpu").manual_seed(derive_seed(seed, "i2v", "steps"))
        if self._colours is not None:
            with network.lend(network.vae):
                self._colours.fit(report)
        with network.lend(*network.denoisers):
            latents = denoise(
                network,
                latents,
                scheduler,
                scheduler.timesteps,
                given,
                report,
                spans=spans,
                generator=steps,
                reuse_every=network.reuse_every,
                stops=stops,
                colours=self._colours,
            )
        frames = latents[0].transpose(0, 1)  # (F, C, h, w)
        total = params.denoising.steps
        with network.lend(network.vae):
            pixels = codec.decode(network.vae, frames, each=lambda: report(total, total))
        return Keyframes(Latents(frames.to(torch.float16).cpu().numpy().astype(np.float16)), Clip(pixels, params.fps))

    def _start(self, anchor: Tensor, params: I2VParams, seed: int, scheduler: Any) -> Tensor:
        """(1, C, F, h, w): noise whose mean leans towards the reference, whose latents are `anchor` (1, C, h, w)."""
        shape = (1, anchor.shape[1], params.frames, *anchor.shape[2:])
        noise = draw_noise(shape, seed, "i2v").to(anchor)
        shared = draw_noise((*shape[:2], 1, *shape[3:]), seed, "i2v", "shared").to(anchor)
        return start_latents(
            anchor[:, :, None], noise, shared if params.prior.shared else None, scheduler, params.prior
        )
