"""LoRAs of a preset merged into the networks of a pipeline when it loads: several, each by its weight and its place.

Takes the pipeline on the CPU; changes its weights in place, so that nothing is paid at a step. The layouts that others
publish (Wan's own names, kohya's, PEFT's) are read by the pipeline class's own reader in diffusers, which needs no
network and no further library. Knows nothing of what a LoRA was trained for.
"""

from typing import Any

from torch import nn

from stages.base import WeightsError
from stages.model.weights.loading import load_tensors
from stages.model.weights.lora import merge
from stages.presets import Preset


def merge_into_pipeline(pipeline: Any, preset: Preset, name: str) -> None:
    """Merge every LoRA of the preset whose `into` is a network of part `name`.

    Raises:
        WeightsError: a file is missing, cannot be read for this pipeline, or fits no layer of the network.
    """
    kind = type(pipeline).__name__
    for lora in preset.loras:
        part, _, component = lora.into.partition(".")
        if part != name:
            continue
        network = getattr(pipeline, component, None)
        if not isinstance(network, nn.Module):
            there = sorted(key for key, value in pipeline.components.items() if isinstance(value, nn.Module))
            raise WeightsError(
                f"LoRA {lora.part!r} is to change {component!r} of part {name!r}, a {kind}, which has "
                f"{', '.join(there)}: choose one of these by `into`."
            )
        reader = getattr(type(pipeline), "lora_state_dict", None)
        if reader is None:
            raise WeightsError(
                f"Part {name!r} is a {kind}, for which diffusers reads no LoRAs; leave {lora.part!r} out of the "
                f"preset's `loras`."
            )
        tensors = load_tensors(preset, lora.part)
        try:
            read = reader(dict(tensors))
            read = read[0] if isinstance(read, tuple) else read
        except Exception as error:  # the readers raise what they stumble over
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise WeightsError(
                f"Part {lora.part!r} is no LoRA of a {kind} ({reason}); choose one made for the same base."
            ) from error
        prefixes = (f"{component}.", "transformer.", "unet.")
        own = {
            key.removeprefix(next((prefix for prefix in prefixes if key.startswith(prefix)), "")): value
            for key, value in read.items()
        }
        if lora.scale:
            merge(network, own, lora.scale, lora.part, f"{component!r} of part {name!r}")
