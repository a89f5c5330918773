"""What a video pipeline can make: its numbers of frames and its sizes, read from its own configuration.

Takes a loaded pipeline of diffusers; gives rules that judge a request before anything is computed. Pipelines round what
they cannot make, with a warning that nobody sees; here it is refused with both values and the nearest allowed.
"""

from dataclasses import dataclass
from typing import Any

from diffusers import AutoencoderKLCogVideoX

from stages.base import InputError
from stages.model.hub.classes import UPSCALES

# What their `check_inputs` wants, beyond what VAE and patches need.
_MULTIPLES = {
    "LTX2ImageToVideoPipeline": 32,
    "SanaImageToVideoPipeline": 32,
    "SkyReelsV2ImageToVideoPipeline": 16,
    "Kandinsky5I2VPipeline": 16,
}


@dataclass(frozen=True)
class FrameRule:
    """Numbers of frames: first, first + step, first + 2 step, ... up to `most`."""

    first: int = 1
    step: int = 1
    most: int | None = None

    def allows(self, frames: int) -> bool:
        within = self.most is None or frames <= self.most
        return within and frames >= self.first and (frames - self.first) % self.step == 0

    def at_least(self, frames: int) -> int | None:
        """The smallest allowed number that is not below `frames`; None where there is none."""
        above = self.first + max(0, -(-(frames - self.first) // self.step)) * self.step
        return above if self.allows(above) else None

    def nearest(self, frames: int) -> str:
        """The allowed numbers on both sides of `frames`, for a message."""
        limit = frames if self.most is None else min(frames, self.most)
        below = self.first + (limit - self.first) // self.step * self.step
        found = [number for number in (below, self.at_least(frames)) if number is not None and self.allows(number)]
        return " or ".join(str(number) for number in dict.fromkeys(found))

    def __str__(self) -> str:
        if self.first == self.most:
            return f"{self.first} frames alone"
        if self.step == 1:
            return f"{self.first} to {self.most} frames" if self.most else f"{self.first} frames or more"
        return f"{self.first}, {self.first + self.step}, {self.first + 2 * self.step}, ... frames"


@dataclass(frozen=True)
class SizeRule:
    """Sizes: multiples of `multiple` pixels or, where the model has learnt some sizes alone, those."""

    multiple: int = 1
    among: tuple[tuple[int, int], ...] = ()  # (width, height)

    def allows(self, size: tuple[int, int]) -> bool:
        return size in self.among if self.among else all(side > 0 and side % self.multiple == 0 for side in size)

    def nearest(self, size: tuple[int, int]) -> str:
        """The allowed size next to `size`, for a message."""
        if self.among:
            width, height = min(self.among, key=lambda own: abs(own[0] - size[0]) + abs(own[1] - size[1]))
            return f"{width}x{height}"
        return "x".join(str(max(1, round(side / self.multiple)) * self.multiple) for side in size)

    def __str__(self) -> str:
        if len(self.among) > 1:
            return f"{len(self.among)} sizes of its own list"
        return f"{self.nearest((0, 0))} alone" if self.among else f"multiples of {self.multiple} pixels"


def check_frames(who: str, rule: FrameRule, frames: int) -> None:
    """Raises InputError where the rule does not allow `frames`."""
    if not rule.allows(frames):
        raise InputError(
            f"{who} was asked for {frames} frames; it makes {rule}: take {rule.nearest(frames)} in the preset."
        )


def check_size(who: str, rule: SizeRule, size: tuple[int, int]) -> None:
    """Raises InputError where the rule does not allow `size`."""
    if not rule.allows(size):
        raise InputError(
            f"{who} was asked for {size[0]}x{size[1]} pixels; it makes {rule}: take {rule.nearest(size)} in the preset."
        )


def _config(pipeline: Any, component: str) -> Any:
    return getattr(getattr(pipeline, component, None), "config", {})


def _first(*values: Any) -> int | None:
    return next((int(value) for value in values if value), None)


def temporal_factor(pipeline: Any) -> int:
    """Frames that one latent frame stands for: 4 with Wan and CogVideoX, 8 with LTX, 1 where each has its own."""
    vae = _config(pipeline, "vae")
    return (
        _first(
            getattr(pipeline, "vae_scale_factor_temporal", None),
            getattr(pipeline, "vae_temporal_compression_ratio", None),
            vae.get("temporal_compression_ratio"),
            vae.get("scale_factor_temporal"),
        )
        or 1
    )


def spatial_factor(pipeline: Any) -> int:
    """Pixels a latent along each axis, as the pipeline counts them."""
    return (
        _first(
            getattr(pipeline, "vae_scale_factor_spatial", None),
            getattr(pipeline, "vae_spatial_compression_ratio", None),
            getattr(pipeline, "vae_scale_factor", None),
        )
        or 8
    )


def frame_rule(pipeline: Any, *, redraws: bool) -> FrameRule:
    """Which numbers of frames the pipeline makes.

    Args:
        redraws: it is given a video.

    Raises:
        InputError: none at all.
    """
    unet = _config(pipeline, "unet")
    if unet.get("motion_max_seq_length"):  # AnimateDiff: as many as its motion module has positions for
        return FrameRule(most=int(unet["motion_max_seq_length"]))
    if unet.get("num_frames"):  # Stable Video Diffusion: as many as it was trained on
        return FrameRule(first=int(unet["num_frames"]), most=int(unet["num_frames"]))
    factor = temporal_factor(pipeline)
    if type(pipeline).__name__ == "Kandinsky5I2VPipeline":  # it evens out the first four latent frames by the fifth
        return FrameRule(first=4 * factor + 1, step=factor)
    if not isinstance(getattr(pipeline, "vae", None), AutoencoderKLCogVideoX):
        return FrameRule(step=factor)
    # This VAE decodes latent frames in pairs, after a first one; 1.5 pads what it makes of a picture to
    # pairs, and wants a video to be in pairs already.
    if redraws and (_config(pipeline, "transformer").get("patch_size_t") or 1) > 1:
        raise InputError(
            f"{type(pipeline).__name__} of CogVideoX 1.5 cannot redraw: it wants an even number of latent frames, its "
            f"VAE makes odd ones; take CogVideoX 1.0."
        )
    return FrameRule(step=2 * factor)


def size_rule(pipeline: Any) -> SizeRule:
    """Which sizes the pipeline makes."""
    factor, transformer = spatial_factor(pipeline), _config(pipeline, "transformer")
    if transformer.get("use_learned_positional_embeddings"):  # CogVideoX-5b-I2V
        return SizeRule(
            among=((int(transformer["sample_width"]) * factor, int(transformer["sample_height"]) * factor),)
        )
    if hasattr(getattr(pipeline, "video_processor", None), "calculate_default_height_width"):
        return SizeRule(among=_own_sizes(pipeline, factor))  # HunyuanVideo 1.5
    if type(pipeline).__name__ in UPSCALES:
        return SizeRule(2 * factor)  # of what it gives: twice what it is given
    patch = transformer.get("patch_size") or 1
    patch = int(patch if isinstance(patch, int) else patch[-1])
    return SizeRule(max(factor * patch, _MULTIPLES.get(type(pipeline).__name__, 1)))


def _own_sizes(pipeline: Any, factor: int) -> tuple[tuple[int, int], ...]:
    """Those that a pipeline which chooses a size by a picture's shape leaves as they are."""
    choose, target = pipeline.video_processor.calculate_default_height_width, pipeline.target_size
    sides = range(factor, 4 * target + 1, factor)
    found = {choose(height=height, width=width, target_size=target) for height in sides for width in (target,)}
    found |= {choose(height=target, width=width, target_size=target) for width in sides}
    kept = {size for size in found if choose(height=size[0], width=size[1], target_size=target) == size}
    return tuple(sorted((int(width), int(height)) for height, width in kept))


def picture_size_rule(pipeline: Any) -> SizeRule:
    """Which sizes a text-to-image pipeline makes: FLUX packs 2x2 latents, and says so in its image processor alone."""
    patch = _config(pipeline, "transformer").get("patch_size") or 1
    packed = _first(_config(pipeline, "image_processor").get("vae_scale_factor")) or 1
    return SizeRule(max(packed, spatial_factor(pipeline) * (patch if isinstance(patch, int) else 1)))


def vae_factor(pipeline: Any) -> int:
    """Pixels a latent along each axis, as the VAE says; what the pipeline counts on where the VAE does not say."""
    return _first(_config(pipeline, "vae").get("scale_factor_spatial")) or spatial_factor(pipeline)
