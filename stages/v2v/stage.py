"""The V2V stage: low-resolution keyframes become high-resolution ones.

Takes the reference `Image` and the `Keyframes`; gives `Window`s, each as soon as nothing can change its frames any
more. The keyframes are upscaled, encoded, noised to `strength` of the schedule and denoised at the high resolution,
guided by text, appearance encoder and ControlNet. Windows overlap and are cross-faded. The noise of the whole clip
comes from one generator per job seed and is sliced, so that overlapping windows start from the same noise in the
frames they share.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from stages.base import InputError, Report, StageName
from stages.model import vae as codec
from stages.model.denoise import condition, denoise, with_control
from stages.model.network import VideoNetwork
from stages.model.pictures import resize_frames
from stages.model.sampler import build_scheduler, draw_noise, tail_timesteps
from stages.model.windows import Blender, Span, plan_windows
from stages.presets import Preset, V2VParams
from stages.types import Clip, Image, Keyframes, UInt8, Window


class V2V:
    """Video to video; see the top of this module."""

    name: StageName = "v2v"

    def __init__(self, network: VideoNetwork) -> None:
        self.network = network

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        """Build the stage; like I2V, with the parts `motion_v2v` and, where there is one, `control_v2v`.

        Raises:
            WeightsError: a part is missing, broken or does not fit.
        """
        own = "control_v2v" in preset.parts
        network = VideoNetwork.load(
            preset,
            device,
            motion="motion_v2v",
            control="control_v2v" if own else "control",
            kind="plain" if own else preset.control,
        )
        return cls(network)

    def __call__(
        self, image: Image, keyframes: Keyframes, *, params: V2VParams, seed: int, report: Report
    ) -> Iterator[Window]:
        """The windows in order. Calls `report` at every denoising step, counted over all windows.

        Raises:
            InputError: a size, strength or window that the network cannot make.
            Cancelled: `report` asked to stop.
        """
        _check(self.network, params)
        spans = plan_windows(len(keyframes.clip.frames), params.window, params.overlap)
        return self._windows(image, keyframes.clip, spans, params, seed, report)

    @torch.no_grad()
    def _windows(
        self, image: Image, clip: Clip, spans: tuple[Span, ...], params: V2VParams, seed: int, report: Report
    ) -> Iterator[Window]:
        network = self.network
        device, dtype = network.unet.device, network.unet.dtype
        upscaled = resize_frames(clip.frames, params.size)
        count = len(upscaled)
        width, height = (side // network.reduction for side in params.size)
        noise = draw_noise((1, int(network.unet.config.in_channels), count, height, width), seed, "v2v")
        given = condition(
            network,
            (params.negative_prompt, params.prompt),
            image.pixels,
            guidance=params.denoising.guidance,
            image_scale=params.guide.image_scale,
        )
        by_frame = params.guide.control_image == "keyframes"
        blender = Blender(spans)
        lead: UInt8 | None = None
        start = 0
        for index, span in enumerate(spans):
            scheduler = build_scheduler(params.denoising)
            scheduler.set_timesteps(params.denoising.steps, device=device)
            timesteps = tail_timesteps(scheduler, params.strength)
            own = upscaled[span.start : span.stop]
            latents = self._renoise(own, noise[:, :, span.start : span.stop], scheduler, timesteps)
            done, total = (index + 1) * len(timesteps), len(spans) * len(timesteps)
            latents = denoise(
                network,
                latents.to(device, dtype),
                scheduler,
                timesteps,
                with_control(
                    given,
                    network,
                    own if by_frame else image.pixels[None],
                    size=params.size,
                    frames=len(span),
                    scale=params.guide.control_scale,
                ),
                report,
                done=index * len(timesteps),
                total=total,
            )
            frames = codec.decode(network.vae, latents[0].transpose(0, 1), each=partial(report, done, total))
            final = blender.push(frames)
            pixels = final if lead is None else np.concatenate([lead, final])
            yield Window(
                Clip(pixels, clip.fps), index, start, lead=0 if lead is None else 1, last=index == len(spans) - 1
            )
            lead = final[-1:]
            start += len(final)

    def _renoise(self, frames: UInt8, noise: Tensor, scheduler: Any, timesteps: Tensor) -> Tensor:
        """(1, C, F, h, w): the frames' latents, noised to the first of `timesteps`."""
        vae = self.network.vae
        parts = [
            codec.encode(vae, codec.to_tensor(frames[i : i + 1], vae.device, vae.dtype)) for i in range(len(frames))
        ]
        clean = torch.cat(parts).transpose(0, 1)[None]
        noised: Tensor = scheduler.add_noise(clean, noise.to(clean), timesteps[:1])
        return noised


def _check(network: VideoNetwork, params: V2VParams) -> None:
    width, height = params.size
    if width % network.reduction or height % network.reduction:
        raise InputError(f"V2V makes multiples of {network.reduction} pixels, the size is {width}x{height}.")
    if not 0 < params.strength <= 1:
        raise InputError(f"V2V's strength is {params.strength:g}; it must be above 0 and at most 1.")
    if params.window > network.max_frames:
        raise InputError(
            f"V2V's window has {params.window} frames; its motion module knows at most {network.max_frames}."
        )
