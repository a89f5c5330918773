"""The UNet and its ControlNets, run without the work that their own `forward` repeats.

Takes the modules of diffusers and the latents of B requests once, although k copies of them are denoised (two with
classifier-free guidance); gives what the modules would give for all copies. What is saved, exactly:

- everything before the first cross-attention is computed for one copy, a ControlNet without cross-attention wholly;
  where the UNet hears the text beside the time, its copies differ from the first resnet on;
- SparseCtrl sees no latents: its frames without a picture are computed once until its first motion module;
- keys and values of text and reference are computed once a request, not at every step and for every frame;
- attention and feed-forward stay in a CPU's cache (`stages.model.network.layers`).

`can_run` says whether a network is built of what this file knows; if not, its own `forward` must be used. Knows
nothing of schedules; what reuses deep features is in `stages.model.network.reuse`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stages.model.network.layers import Call, Frames, Tokens, resnet, spatial, temporal

Skips = tuple[Frames, ...]

_BLOCKS = {
    "CrossAttnDownBlockMotion", "DownBlockMotion", "CrossAttnUpBlockMotion", "UpBlockMotion",
    "UNetMidBlockCrossAttnMotion", "CrossAttnDownBlock2D", "DownBlock2D", "UNetMidBlock2DCrossAttn", "UNetMidBlock2D",
}  # fmt: skip
_PROCESSORS = {"AttnProcessor2_0", "IPAdapterAttnProcessor2_0"}


def can_run(network: Any) -> bool:
    """Whether a UNetMotionModel, ControlNetModel or SparseControlNetModel consists of layers that are known here."""
    config = network.config
    blocks = [*network.down_blocks, network.mid_block, *getattr(network, "up_blocks", ())]
    return (
        not any(hasattr(module, "_hf_hook") or hasattr(module, "_diffusers_hook") for module in network.modules())
        and all(type(block).__name__ in _BLOCKS for block in blocks)
        and all(_is_known(module) for module in network.modules())
        and not any(getattr(block, "s1", None) for block in blocks)  # FreeU
        and config.get("addition_embed_type") in (None, "text_time" if hasattr(network, "up_blocks") else None)
        and not config.get("class_embed_type")
        and not config.get("global_pool_conditions")
        and config.get("controlnet_conditioning_channel_order", "rgb") == "rgb"
    )


def _is_known(module: Any) -> bool:
    match type(module).__name__:
        case "Transformer2DModel":
            return bool(module.is_input_continuous)
        case "BasicTransformerBlock":
            plain = module.norm_type == "layer_norm" and not module.only_cross_attention
            return plain and not hasattr(module, "fuser") and _is_simple(module.attn1) and _is_simple(module.attn2)
        case "DualTransformer2DModel":
            return False
    return True


def _is_simple(attention: Any) -> bool:
    """Whether an attention of a transformer block is queries, keys, values and one layer out."""
    if attention is None:
        return True
    norms = (attention.group_norm, attention.spatial_norm, attention.norm_cross, attention.norm_q, attention.norm_k)
    scales = getattr(attention.processor, "scale", ())
    return (
        type(attention.processor).__name__ in _PROCESSORS
        and all(isinstance(scale, int | float) for scale in scales)
        and not any(norms)
        and not attention.residual_connection
        and attention.rescale_output_factor == 1
    )


def embed_time(
    network: Any, t: Tensor, rows: int, dtype: torch.dtype, added: Mapping[str, Tensor] | None = None
) -> Tensor:
    """(1, D), computed for `rows` equal rows as diffusers does, because a product of one row may round otherwise.

    With what `stages.model.network.text.beside_time` gives for each of them: (rows, D).
    """
    times = torch.as_tensor(t, device=network.device)[None].expand(rows)
    embedded: Tensor = network.time_embedding(network.time_proj(times).to(dtype))
    if not added:
        return embedded[:1]
    sizes = network.add_time_proj(added["time_ids"].flatten()).reshape(rows, -1)
    told: Tensor = network.add_embedding(torch.cat([added["text_embeds"], sizes], -1).to(embedded.dtype))
    return embedded + told


def spread(latents: Tensor, copies: int) -> Frames:
    """(B, C, F, h, w) -> rows, one copy; a single row is copied at once: alone it would be rounded otherwise."""
    frames = Frames(latents.transpose(1, 2).flatten(0, 1).contiguous(), 1)
    return frames if len(frames.states) > 1 else frames.apart(copies)


def close_unet(unet: Any, frames: Frames, call: Call) -> Tensor:
    """Features -> (k·B, C, F, h, w)."""
    states = frames.every().apart(call.copies).states
    if unet.conv_norm_out:
        states = unet.conv_act(unet.conv_norm_out(states))
    said: Tensor = unet.conv_out(states).unflatten(0, (-1, call.frames)).transpose(1, 2)
    return said


def descend(block: Any, frames: Frames, call: Call, *, shrink: bool = True) -> Skips:
    """What a block of the way down hands to the way up; the last is what the next block reads."""
    outputs = []
    attentions = getattr(block, "attentions", (None,) * len(block.resnets))
    motions = getattr(block, "motion_modules", (None,) * len(block.resnets))
    for layer, attention, motion in zip(block.resnets, attentions, motions, strict=True):
        frames = resnet(layer, frames, call)
        if attention is not None:
            frames = spatial(attention, frames, call)
        if motion is not None:
            frames = temporal(motion, frames, call)
        outputs.append(frames)
    if shrink:
        for layer in block.downsamplers or ():
            frames = frames.map(layer)
            outputs.append(frames)
    return tuple(outputs)


def turn(block: Any, frames: Frames, call: Call) -> Frames:
    """The block between the way down and the way up."""
    if type(block).__name__ == "UNetMidBlock2D":
        return frames.map(lambda states: block(states, call.times(len(states))))
    frames = resnet(block.resnets[0], frames, call)
    motions = getattr(block, "motion_modules", (None,) * len(block.attentions))
    for attention, motion, layer in zip(block.attentions, motions, block.resnets[1:], strict=True):
        frames = spatial(attention, frames, call)
        if motion is not None:
            frames = temporal(motion, frames, call)
        frames = resnet(layer, frames, call)
    return frames


def ascend(block: Any, frames: Frames, skips: Skips, call: Call, size: Any = None) -> Frames:
    """A block of the way up; `skips` are those of its layers, the last for the first layer."""
    attentions = getattr(block, "attentions", (None,) * len(block.resnets))
    for layer, attention, motion, skip in zip(
        block.resnets, attentions, block.motion_modules, reversed(skips), strict=True
    ):
        one, two = frames.every().apart(call.copies), skip.every().apart(call.copies)
        frames = resnet(layer, Frames(torch.cat([one.states, two.states], 1), call.copies), call)
        if attention is not None:
            frames = spatial(attention, frames, call)
        frames = temporal(motion, frames, call)
    for layer in block.upsamplers or ():
        frames = frames.map(partial(layer, output_size=size))
    return frames


def add(skips: Skips, residuals: Sequence[Frames] | None) -> Skips:
    if residuals is None:
        return skips
    return tuple(skip + residual for skip, residual in zip(skips, residuals, strict=True))


def control_plain(
    model: Any, latents: Tensor, t: Tensor, embedded: Tensor, tokens: Tokens, copies: int
) -> tuple[Skips, Frames]:
    """Residuals of a ControlNetModel: a tuple for the way down and one for the middle.

    Args:
        latents: (B, C, F, h, w).
        embedded: (B, F, C, h, w), what its condition embedding made of the pictures.
    """
    batch, _, count = latents.shape[:3]
    time = embed_time(model, t, copies * batch * count, latents.dtype)
    call = Call(copies, count, time, tokens)
    opened = spread(latents, copies).map(model.conv_in)
    return _control(model, opened + Frames(embedded.flatten(0, 1), 1), call)


def control_sparse(
    model: Any, t: Tensor, condition: Tensor, places: tuple[int, ...], tokens: Tokens, copies: int
) -> tuple[Skips, Frames]:
    """The same of a SparseControlNetModel, which sees no latents.

    Args:
        condition: (B, C, F, h, w), the mask included where the model reads it.
        places: see `Frames`; which of the F frames of `condition` are equal.
    """
    batch, _, count = condition.shape[:3]
    call = Call(copies, count, embed_time(model, t, copies * batch, condition.dtype), tokens)
    firsts = [places.index(place) for place in range(max(places) + 1)]
    rows = spread(condition[:, :, firsts], copies)
    blank = rows.map(lambda states: states.new_zeros((len(states), model.conv_in.in_channels, *states.shape[2:])))
    opened = blank.map(model.conv_in) + rows.map(model.controlnet_cond_embedding)
    return _control(model, replace(opened, places=() if len(firsts) == count else places), call)


def _control(model: Any, frames: Frames, call: Call) -> tuple[Skips, Frames]:
    skips: Skips = (frames,)
    for block in model.down_blocks:
        skips += descend(block, skips[-1], call)
    middle = turn(model.mid_block, skips[-1], call)
    down = tuple(
        skip.map_whole(layer, call.copies) for skip, layer in zip(skips, model.controlnet_down_blocks, strict=True)
    )
    return down, middle.map_whole(model.controlnet_mid_block, call.copies)


def scale(residuals: tuple[Skips, Frames], by: float) -> tuple[Skips, Frames]:
    down, middle = residuals
    return tuple(part.map(lambda states: states * by) for part in down), middle.map(lambda states: states * by)
