"""V2V by pipelines that make a video larger and take no strength: Kandinsky's super resolution, LTX's upsamplers.

Takes what the stage was asked for; gives what such a pipeline is called with. The keyframes come at the size that the
pipeline makes the wanted one of: their own where it fits, resized where not. Knows nothing of windows.
"""

from typing import Any

import numpy as np
import PIL.Image
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_kandinsky6_sr import apply_rotary
from diffusers.pipelines.kandinsky6.pipeline_kandinsky6_sr import _tile_positions
from torch import Tensor

from stages.base import InputError
from stages.model.hub.limits import spatial_factor
from stages.model.network.pictures import resize_frames
from stages.types import UInt8

_SCALES = (2, 2.25, 4)  # Kandinsky's; 2.25 is 1.125 of the pixels, then twice
_OVERLAP = 0.2  # of its tiles


class WholeAttention:
    """Every token of a tile attends to every other, as is the default of Kandinsky's authors in ComfyUI.

    The processor of diffusers attends to blocks that it chooses, in a kernel that must be compiled first: without that
    it holds the scores of all pairs, which no GPU has room for.
    """

    _attention_backend: Any = None
    _parallel_config: Any = None

    def __call__(self, attn: Any, hidden_states: Tensor, rotary_emb: Tensor, sparse_params: Any = None) -> Tensor:
        said = [layer(hidden_states).unflatten(-1, (attn.num_heads, -1)) for layer in (attn.to_query, attn.to_key)]
        norms = (attn.query_norm, attn.key_norm)
        query, key = (apply_rotary(norm(x.float()).type_as(x), rotary_emb) for norm, x in zip(norms, said, strict=True))
        value = attn.to_value(hidden_states).unflatten(-1, (attn.num_heads, -1))
        seen = dispatch_attention_fn(
            query, key, value, backend=self._attention_backend, parallel_config=self._parallel_config
        )
        made: Tensor = attn.out_layer(seen.flatten(2, 3))
        return made


def attend_to_all(pipeline: Any) -> None:
    """Give Kandinsky's upscaler the attention that runs anywhere."""
    if hasattr(pipeline, "transformer_tile_sizes"):
        pipeline.transformer.set_attn_processor(WholeAttention())


def small_size(pipeline: Any, who: str, size: tuple[int, int], given: tuple[int, int]) -> tuple[float, tuple[int, int]]:
    """How many times larger `size` is than what the pipeline is to be given, and that size.

    Raises:
        InputError: it makes `size` of nothing that it takes.
    """
    if not hasattr(pipeline, "transformer_tile_sizes"):
        return 2, (size[0] // 2, size[1] // 2)
    snap = spatial_factor(pipeline)
    fits = {}
    for scale in _SCALES:
        small = (round(size[0] / scale / snap) * snap, round(size[1] / scale / snap) * snap)
        if min(small) > 0 and _made_of(small, scale, snap) == size:
            fits[scale] = small
    if not fits:
        raise InputError(
            f"{who} was asked for {size[0]}x{size[1]} pixels, which is none of its scales (2, 2.25, 4) of multiples of "
            f"{snap} pixels: take {size[0] // (2 * snap) * 2 * snap}x{size[1] // (2 * snap) * 2 * snap} in the preset."
        )
    best = min(fits, key=lambda scale: abs(fits[scale][0] - given[0]) + abs(fits[scale][1] - given[1]))
    tile = _tile(pipeline, fits[best])
    enlarged = 4 if best == 4 else 2
    canvas = tuple(side // enlarged for side in size)
    if canvas[0] < tile[1] // enlarged or canvas[1] < tile[0] // enlarged:
        raise InputError(
            f"{who} was asked for {size[0]}x{size[1]} pixels; its tiles are {tile[1]}x{tile[0]}: take at least that in "
            f"the preset."
        )
    return best, fits[best]


def upscaling(pipeline: Any, frames: UInt8, scale: float, small: tuple[int, int], strength: float) -> dict[str, Any]:
    """What the pipeline is called with beside steps and seed."""
    return {
        "video": [PIL.Image.fromarray(frame) for frame in resize_frames(np.asarray(frames), small)],
        "width": small[0],
        "height": small[1],
        "resolution_scale": scale,
        "lq_noise_scale": strength,
        "min_overlap": _OVERLAP,
    }


def count_passes(pipeline: Any, steps: int, scale: float, size: tuple[int, int]) -> int:
    """How many steps the pipeline counts: those of every tile; one where it has none."""
    if not hasattr(pipeline, "transformer_tile_sizes"):
        return 1
    enlarged, snap = (4 if scale == 4 else 2), spatial_factor(pipeline)
    tile = _tile(pipeline, size)
    places = [
        len(_tile_positions(side // enlarged, own // enlarged, _OVERLAP, snap))
        for side, own in ((size[1], tile[0]), (size[0], tile[1]))
    ]
    return steps * places[0] * places[1]


def held_beside(pipeline: Any, frames: int, size: tuple[int, int]) -> int:
    """Bytes of float32 that Kandinsky's upscaler keeps while it goes from tile to tile: its canvas, and a copy as it
    is cut from, at half the side."""
    return frames * 3 * 4 * size[0] * size[1] * 5 // 4 if hasattr(pipeline, "transformer_tile_sizes") else 0


def _tile(pipeline: Any, size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the trained tile next in shape."""
    tiles: tuple[tuple[int, int], ...] = pipeline.transformer_tile_sizes
    return min(tiles, key=lambda own: abs(own[1] / own[0] - size[0] / size[1]))


def _made_of(small: tuple[int, int], scale: float, snap: int) -> tuple[int, int]:
    if scale != 2.25:
        return int(small[0] * scale), int(small[1] * scale)
    return round(small[0] * 1.125 / snap) * snap * 2, round(small[1] * 1.125 / snap) * snap * 2
