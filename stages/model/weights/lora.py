"""Low-rank changes merged into a UNet when it loads: W + scale · alpha / rank · up · down (arXiv 2106.09685).

Takes a bare UNet and the preset's `loras`; changes its weights in place, so that nothing is paid at a step. The
names of the three layouts in use are understood: kohya's (`lora_unet_..._to_q.lora_down.weight`, with `.alpha`;
AnimateLCM's and LCM's files), PEFT's (`unet.....to_q.lora_A.weight`; what `stages.training` saves) and diffusers'
older one (`unet.....processor.to_q_lora.down.weight`). Tensors of a text encoder are passed over; any other that is not
understood (DoRA's, LoHa's, one half of a pair) is refused, because a part of a change is another change. Knows nothing
of video.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.base import WeightsError
from stages.model.weights.files import is_pipeline
from stages.model.weights.loading import load_tensors
from stages.presets import Preset

_DOWN = (".lora_down.weight", ".lora_A.weight", "_lora.down.weight", ".lora.down.weight")
_UP = (".lora_up.weight", ".lora_B.weight", "_lora.up.weight", ".lora.up.weight")
_BIAS = ".lora_B.bias"
_TEXT = ("lora_te", "text_encoder.", "lora_te1", "lora_te2")


def check_places(preset: Preset) -> None:
    """That every LoRA is for a network that one of the preset's pipelines may have, or for the built-in ones.

    Raises:
        WeightsError: it would change nothing.
    """
    has = [name for name in preset.parts if is_pipeline(name)]
    for lora in preset.loras:
        part, _, network = lora.into.partition(".")
        if lora.into and (part not in has or not network):
            raise WeightsError(
                f"LoRA {lora.part!r} is to change {lora.into!r}, and preset {preset.name!r} has the pipelines "
                f"{', '.join(has) or 'none'}: let `into` name one and its network, as in 'i2v_pipeline.transformer'."
            )


def merge_loras(unet: Any, preset: Preset) -> None:
    """Merge every LoRA of the preset; a scale of 0 leaves the weights as they are.

    Raises:
        WeightsError: a file is missing or fits no layer of the UNet, or one is for a pipeline that is not there.
    """
    check_places(preset)
    for lora in preset.loras:
        if lora.into:
            continue
        tensors = load_tensors(preset, lora.part)
        if lora.scale:
            merge(unet, tensors, lora.scale, lora.part)


@dataclass(frozen=True)
class Change:
    """Of one layer's weight: alpha / rank · up · down; without an alpha, up · down."""

    down: Tensor
    up: Tensor
    alpha: float | None


def find_changes(
    unet: Any, tensors: Mapping[str, Tensor], part: str, whose: str = "this UNet"
) -> tuple[dict[str, Change], dict[str, Tensor]]:
    """What a LoRA changes, by layer: weights and biases. `whose` names the network, which may have no weights yet.

    Raises:
        WeightsError: a change that fits no layer, or a layer of another shape.
    """
    layers = _layers(unet)
    biases = {_plain(key.removesuffix(_BIAS)): value for key, value in tensors.items() if key.endswith(_BIAS)}
    pairs = _pairs({key: value for key, value in tensors.items() if not key.endswith(_BIAS)}, part)
    without = sorted(name for name in biases if getattr(layers.get(name), "bias", None) is None)
    if without:
        raise WeightsError(
            f"Part {part!r} changes the bias of {without[0]}, which {whose} has not; choose one made for the same base."
        )
    unknown = sorted(name for name in pairs if name not in layers)
    if unknown or not pairs:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        told = f"changes layers that it has not: {', '.join(unknown[:3])}{more}" if pairs else "holds no change"
        raise WeightsError(f"Part {part!r} is no LoRA of {whose}, it {told}; choose one made for the same base.")
    for name, change in pairs.items():
        weight, low, high = layers[name].weight, change.down.flatten(1).shape, change.up.flatten(1).shape
        rows = weight.flatten(1).shape
        if (high[0], high[1], low[1]) != (rows[0], low[0], rows[1]):
            raise WeightsError(
                f"Part {part!r} changes {name} by {tuple(high)} x {tuple(low)}, the layer is "
                f"{tuple(weight.shape)}; choose a LoRA made for the same base."
            )
    return pairs, biases


@torch.no_grad()
def merge(unet: Any, tensors: Mapping[str, Tensor], scale: float, part: str, whose: str = "this UNet") -> int:
    """Add the changes to the weights; how many layers changed. Raises as `find_changes` does."""
    pairs, biases = find_changes(unet, tensors, part, whose)
    layers = _layers(unet)
    for name, own in pairs.items():
        weight, rank = layers[name].weight, len(own.down)
        change = own.up.flatten(1).float() @ own.down.flatten(1).float()
        change *= scale * (rank if own.alpha is None else own.alpha) / rank
        weight.copy_((weight.float() + change.view(weight.shape).to(weight.device)).to(weight.dtype))
    for name, change in biases.items():
        bias = layers[name].bias
        bias.copy_((bias.float() + scale * change.float().to(bias.device)).to(bias.dtype))
    return len(pairs)


def _layers(network: Any) -> dict[str, Any]:
    return {_plain(name): layer for name, layer in network.named_modules() if hasattr(layer, "weight")}


def _pairs(tensors: Mapping[str, Tensor], part: str) -> dict[str, Change]:
    """By the name of the layer."""
    result, used = {}, set()
    for key, down in tensors.items():
        ending = next((ending for ending in _DOWN if key.endswith(ending)), None)
        if ending is None or key.startswith(_TEXT):
            continue
        stem = key.removesuffix(ending)
        up, alpha = stem + _UP[_DOWN.index(ending)], f"{stem}.alpha"
        if up not in tensors:
            continue
        result[_plain(stem)] = Change(down, tensors[up], float(tensors[alpha]) if alpha in tensors else None)
        used |= {key, up, alpha}
    if strange := sorted(key for key in tensors if key not in used and not key.startswith(_TEXT)):
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise WeightsError(
            f"Part {part!r} holds tensors that are no pair of a LoRA: {', '.join(strange[:3])}{more}; "
            f"choose a plain LoRA (kohya's, PEFT's or diffusers' layout), without DoRA, LoHa or LoKr."
        )
    return result


def _plain(name: str) -> str:
    """One spelling for all layouts: without prefix, processor and the list around an output, dots as underscores."""
    name = re.sub(r"^(lora_unet_|unet\.)", "", name).replace(".processor.", ".")
    return re.sub(r"\.to_out$", ".to_out.0", name).replace(".", "_")
