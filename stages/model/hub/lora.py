"""LoRAs of a preset merged into the networks of a pipeline when it loads: several, each by its weight and its place.

Changes weights in place on the CPU, so that nothing is paid at a step. Whether each fits is judged before, by networks
without weights. The layouts that others publish (Wan's own names, LTX's, kohya's, PEFT's) are read by the pipeline
class's own reader in diffusers, which needs no network and no further library. Knows nothing of what a LoRA was trained
for.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, nn

from stages.base import WeightsError
from stages.model.weights.loading import load_tensors
from stages.model.weights.lora import check_places, find_changes, merge
from stages.presets import Lora, Preset


def check_loras(
    preset: Preset, name: str, cls: type, networks: Collection[str], sketch: Callable[[str], nn.Module]
) -> None:
    """Judge every LoRA of the preset whose `into` is a network of part `name`, before a weight of that is read.

    Args:
        cls: the pipeline's class.
        networks: the names of its networks.
        sketch: a network of it by name, without weights.

    Raises:
        WeightsError: a file is missing, cannot be read for this pipeline, or fits no layer of the network.
    """
    check_places(preset)
    for lora, component in _of(preset, name):
        if component not in networks:
            raise WeightsError(
                f"LoRA {lora.part!r} is to change {component!r} of part {name!r}, a {cls.__name__}, which has "
                f"{', '.join(sorted(networks))}: choose one of these by `into`."
            )
        for place, own in _read(preset, name, cls, lora, component, networks).items():
            find_changes(sketch(place), own, lora.part, _whose(place, name))


def merge_into_pipeline(pipeline: Any, preset: Preset, name: str) -> None:
    """Merge every LoRA of the preset whose `into` is a network of part `name`. Raises as `check_loras` does."""
    networks = {key: value for key, value in pipeline.components.items() if isinstance(value, nn.Module)}
    for lora, component in _of(preset, name):
        if lora.scale:
            for place, own in _read(preset, name, type(pipeline), lora, component, networks).items():
                merge(networks[place], own, lora.scale, lora.part, _whose(place, name))


def _of(preset: Preset, name: str) -> list[tuple[Lora, str]]:
    """Those of part `name`, each with the network that it is for."""
    named = [(lora, *lora.into.partition(".")[::2]) for lora in preset.loras]
    return [(lora, component) for lora, part, component in named if part == name]


def _whose(place: str, name: str) -> str:
    return f"{place!r} of part {name!r}"


def _read(
    preset: Preset, name: str, cls: type, lora: Lora, component: str, networks: Collection[str]
) -> dict[str, dict[str, Tensor]]:
    """The tensors by network. What is named after another of the pipeline goes there, as LTX-2's `connectors`."""
    reader = getattr(cls, "lora_state_dict", None)
    if reader is None:
        raise WeightsError(
            f"Part {name!r} is a {cls.__name__}, for which diffusers reads no LoRAs; leave {lora.part!r} out of the "
            f"preset's `loras`."
        )
    tensors = load_tensors(preset, lora.part)
    try:
        read = reader(dict(tensors))
        read = read[0] if isinstance(read, tuple) else read
    except Exception as error:  # the readers raise what they stumble over
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise WeightsError(
            f"Part {lora.part!r} is no LoRA of a {cls.__name__} ({reason}); choose one made for the same base."
        ) from error
    return _parted(read, component, networks)


def _parted(tensors: Mapping[str, Tensor], component: str, networks: Collection[str]) -> dict[str, dict[str, Tensor]]:
    """A reader calls the denoising network by one name, whichever of two is meant; texts are not changed here."""
    parted: dict[str, dict[str, Tensor]] = {component: {}}
    for key, value in tensors.items():
        place, _, rest = key.partition(".")
        if place in (component, "transformer", "unet"):
            parted[component][rest] = value
        elif place in networks and not place.startswith("text_encoder"):
            parted.setdefault(place, {})[rest] = value
        else:
            parted[component][key] = value
    return parted
