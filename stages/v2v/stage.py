"""The V2V stage: low-resolution keyframes become high-resolution ones, window by window.

Takes the reference `Image` and the `Keyframes`; gives one `Piece`: the window `params.part` of the clip. The keyframes
are upscaled, encoded, noised to `strength` of the schedule and denoised at the high resolution, guided as I2V is; at
strength 0 they are handed on, upscaled. Windows are independent, so that they may run on different replicas; they
overlap, and `stages.model.sampling.windows.join` cross-fades them. The noise of the whole clip comes from one generator
per job seed and is sliced, so that overlapping windows start from the same noise in the frames they share. Where a
preset names a part `v2v_pipeline`, a pipeline of diffusers does all of it.
"""

from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from stages.base import InputError, Report, StageError, StageName, derive_seed
from stages.model.hub.gang import Gang
from stages.model.hub.video import HubRedrawer
from stages.model.network import vae as codec
from stages.model.network.network import VideoNetwork
from stages.model.network.pictures import resize_frames
from stages.model.network.reference import reads_reference
from stages.model.sampling.denoise import denoise
from stages.model.sampling.sampler import build_scheduler, draw_noise, tail_timesteps
from stages.model.sampling.stops import stops_at
from stages.model.sampling.video import check_request, encode_reference, guide_request
from stages.model.sampling.windows import Span, cut_piece, plan_windows
from stages.presets import Preset, V2VParams
from stages.state import DenoisingState, Offer
from stages.types import Image, Keyframes, Piece, UInt8


class V2V:
    """Video to video; see the top of this module."""

    name: StageName = "v2v"

    def __init__(self, maker: VideoNetwork | HubRedrawer | Gang) -> None:
        self.maker = maker

    @property
    def network(self) -> VideoNetwork:
        """The built-in network; raises StageError where a pipeline of the hub is in its place."""
        if not isinstance(self.maker, VideoNetwork):
            raise StageError(f"{self.maker.who} has no network of ours; leave `v2v_pipeline` out of the preset.")
        return self.maker

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        """Build the stage; like I2V, with the part `motion_v2v` and its own guide; or from `v2v_pipeline`.

        Raises:
            WeightsError: a part is missing, broken or does not fit.
        """
        speed = preset.speed("v2v")
        if speed.gpus > 1:
            return cls(Gang.load(HubRedrawer, preset, "v2v", device))
        if "v2v_pipeline" in preset.parts:
            return cls(HubRedrawer.load(preset, device))
        return cls(VideoNetwork.load(preset, device, motion="motion_v2v", guide=preset.v2v_guide, speed=speed))

    @property
    def resumable(self) -> bool:
        """As `stages.state.ResumableStage`; not where a pipeline of the hub denoises that cannot stop between steps."""
        return bool(self.maker.facts)

    @torch.no_grad()
    def __call__(
        self,
        image: Image,
        keyframes: Keyframes,
        *,
        params: V2VParams,
        seed: int,
        report: Report,
        offer: Offer | None = None,
        resume: DenoisingState | bytes | None = None,
    ) -> Piece:
        """Window `params.part`. Calls `report` at every denoising step.

        Raises:
            InputError: a size, strength, window or part that the stage cannot make.
            Cancelled: `report` asked to stop.
            Yielded: `offer` did, to go on with `resume`.
        """
        request = (params, seed, image, keyframes)
        stops = stops_at(self.name, self.maker.facts, request, params.denoising.steps, offer, resume)
        if not isinstance(self.maker, VideoNetwork):
            return self.maker(image, keyframes, params=params, seed=seed, report=report, stops=stops)
        network, clip = self.maker, keyframes.clip
        spans = plan_windows(len(clip.frames), params.windows)
        if not 0 <= params.part < len(spans):
            raise InputError(f"V2V was asked for window {params.part}; this clip has windows 0 to {len(spans) - 1}.")
        if not 0 <= params.strength <= 1:
            raise InputError(f"V2V's strength is {params.strength:g}; it must be between 0 and 1.")
        span = spans[params.part]
        own = resize_frames(clip.frames[span.start : span.stop], params.size)
        if params.strength == 0:
            report(1, 1)
            return cut_piece(own, clip.fps, spans, params.part)
        check_request("V2V", network, params.size, [span])
        scheduler = build_scheduler(params.denoising)
        scheduler.set_timesteps(params.denoising.steps, device=network.device)
        timesteps = tail_timesteps(scheduler, params.strength)
        pictures = {"reference": image.pixels[None], "keyframes": own}
        reference = encode_reference(network, image, params.size) if reads_reference(network.unet) else None
        given = guide_request(network, params, image, pictures, len(span), reference, first=span.start == 0)

        def start() -> Tensor:
            noise = self._noise(len(clip.frames), span, params, seed)
            with network.lend(network.vae):
                noised = self._renoise(own, noise, scheduler, timesteps)
            return noised.to(network.device, network.dtype)

        latents = stops.latents(start, network.device)
        steps = torch.Generator("cpu").manual_seed(derive_seed(seed, "v2v", "steps", params.part))
        with network.lend(*network.denoisers):
            latents = denoise(
                network,
                latents,
                scheduler,
                timesteps,
                given,
                report,
                generator=steps,
                reuse_every=network.reuse_every,
                stops=stops,
            )
        done = partial(report, len(timesteps), len(timesteps))
        with network.lend(network.vae):
            pixels = codec.decode(network.vae, latents[0].transpose(0, 1), each=done)
        return cut_piece(pixels, clip.fps, spans, params.part)

    def _noise(self, frames: int, span: Span, params: V2VParams, seed: int) -> Tensor:
        """(1, C, len(span), h, w): this window's share of the whole clip's noise."""
        width, height = (side // self.network.reduction for side in params.size)
        shape = (1, self.network.channels, frames, height, width)
        return draw_noise(shape, seed, "v2v")[:, :, span.start : span.stop]

    def _renoise(self, frames: UInt8, noise: Tensor, scheduler: Any, timesteps: Tensor) -> Tensor:
        """(1, C, F, h, w): the frames' latents, noised to the first of `timesteps`."""
        vae = self.network.vae
        parts = [
            codec.encode(vae, codec.to_tensor(frames[i : i + 1], vae.device, vae.dtype)) for i in range(len(frames))
        ]
        clean = torch.cat(parts).transpose(0, 1)[None]
        noised: Tensor = scheduler.add_noise(clean, noise.to(clean), timesteps[:1])
        return noised
