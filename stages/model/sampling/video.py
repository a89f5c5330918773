"""How I2V and V2V open: judge what a request asks of the network, and gather what guides it.

Takes a loaded network and a stage's parameters; gives `Conditions`. Knows nothing of noise, schedules or windows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from stages.base import InputError
from stages.model.network import vae as codec
from stages.model.network.control import prepare_hints
from stages.model.network.network import VideoNetwork
from stages.model.network.pictures import resize_frames
from stages.model.network.reference import planes_for
from stages.model.sampling.denoise import Conditions, condition
from stages.model.sampling.windows import Span
from stages.presets import I2VParams, V2VParams
from stages.types import Image, UInt8


def check_request(stage: str, network: VideoNetwork, size: tuple[int, int], spans: Sequence[Span]) -> None:
    """Before any work: what the network cannot make.

    Raises:
        InputError: a size that is no multiple of its latents, or a window longer than its motion module knows.
    """
    codec.latent_size(stage, network.reduction, size)
    longest = max(len(span) for span in spans)
    if longest > network.max_frames:
        raise InputError(
            f"{stage} was asked to denoise {longest} frames at once; its motion module knows at most "
            f"{network.max_frames}. Use windows of {network.max_frames} frames or fewer in the preset."
        )


def encode_reference(network: VideoNetwork, image: Image, size: tuple[int, int]) -> Tensor:
    """(1, C, h, w): the latents of the reference at the (width, height) of the video."""
    pixels = codec.to_tensor(resize_frames(image.pixels[None], size), network.device, network.vae.dtype)
    with network.lend(network.vae):
        return codec.encode(network.vae, pixels).to(network.device, network.dtype)


def guide_request(
    network: VideoNetwork,
    params: I2VParams | V2VParams,
    image: Image,
    pictures: Mapping[str, UInt8],
    frames: int,
    reference: Tensor | None = None,
    *,
    first: bool = True,
) -> Conditions:
    """Everything that guides the denoising of `frames` frames.

    Args:
        pictures: what the ControlNets read, by `Control.image`: (N, H, W, 3) uint8.
        reference: what `encode_reference` gives, for a UNet that reads it beside the noise.
        first: whether the first of the frames is the clip's.

    Raises:
        InputError: a ControlNet that was not loaded.
    """
    with network.lend(*network.openers.values()):
        given = condition(
            network,
            (params.negative_prompt, params.prompt),
            image.pixels,
            params.size,
            guidance=params.denoising.guidance,
            image_scale=params.guide.image_scale,
        )
        return replace(
            given,
            text=given.text.to(network.device, network.dtype),
            image=[tensor.to(network.device, network.dtype) for tensor in given.image],
            added={name: tensor.to(network.device) for name, tensor in given.added.items()},
            hints=prepare_hints(network.controls, params.guide.controls, pictures, params.size, frames),
            planes=planes_for(network.unet, reference if params.guide.latents else None, frames, first=first),
            motion=params.motion and not (frames == 1 and params.image_mode == "bypass"),
        )
