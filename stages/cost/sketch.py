"""A stage's networks without weights: built on the meta device from a folder's configs, or from what is published.

Takes a preset; gives modules that have shapes and no numbers, in the dtype of the device that is asked about. Nothing
is downloaded. Knows nothing of what is done with them.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, ControlNetModel, MotionAdapter, SparseControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from stages.base import WeightsError
from stages.model.hub.knobs import linear_layers
from stages.model.network.appearance import Appearance, split_adapter
from stages.model.network.control import ControlNet, PlainControl, SparseControl
from stages.model.network.network import VideoNetwork, inflate
from stages.model.network.text import TextEncoder
from stages.model.weights.contents import read_header
from stages.model.weights.loading import find_part, source_of
from stages.model.weights.published import NETWORKS, adapter_plus_shapes
from stages.presets import Guide, Preset
from stages.speed import BITS, Offload

ModuleT = TypeVar("ModuleT", bound=nn.Module)
_CONFIGS: dict[type, Any] = {CLIPTextModel: CLIPTextConfig, CLIPVisionModelWithProjection: CLIPVisionConfig}


def is_cpu(device: str) -> bool:
    """Whether the device that is asked about is a CPU; everything else is a GPU, there or not."""
    return torch.device(device).type == "cpu"


def dtype_on(preset: Preset, device: str) -> torch.dtype:
    """What a stage computes in there."""
    return torch.float32 if is_cpu(device) else getattr(torch, preset.dtype)


def sketch_module(preset: Preset, name: str, cls: type[ModuleT], dtype: torch.dtype) -> ModuleT:
    """Part `name` as a `cls` on the meta device, in its own dtype where the part has one, as `load_module` does it.

    Raises:
        WeightsError: its config is neither in a folder on this machine nor published here.
    """
    config = _config(preset, name)
    with torch.device("meta"):
        made: Any = cls(_CONFIGS[cls](**config)) if cls in _CONFIGS else cls.from_config(config)  # type: ignore[attr-defined]
    part = find_part(preset, name)
    if part.device and is_cpu(part.device):
        dtype = torch.float32
    elif part.dtype and dtype != torch.float32:
        dtype = getattr(torch, part.dtype)
    module: ModuleT = _cast(made.to("meta"), dtype)
    return module


def sketch_network(preset: Preset, *, motion: str, guide: Guide, device: str) -> VideoNetwork:
    """What `VideoNetwork.load` would build, on the meta device, in the dtype of `device`.

    Raises:
        WeightsError: as `sketch_module`, or the parts do not fit each other.
    """
    dtype = dtype_on(preset, device)
    adapter = sketch_module(preset, motion, MotionAdapter, dtype)
    spatial = sketch_module(preset, preset.video_unet, UNet2DConditionModel, dtype)
    appearance: Appearance | None = None
    vae = sketch_module(preset, "vae", AutoencoderKL, dtype)
    with torch.device("meta"):
        unet = inflate(spatial, adapter)
        if "appearance" in preset.parts:
            encoder = sketch_module(preset, "image_encoder", CLIPVisionModelWithProjection, dtype)
            appearance = Appearance(encoder, split_adapter(_adapter(preset, unet, encoder)))
            appearance.install(unet)
    controls: dict[str, ControlNet] = {}
    for control in guide.controls:
        if control.kind == "sparse":
            controls[control.part] = SparseControl(
                sketch_module(preset, control.part, SparseControlNetModel, dtype), vae
            )
        else:
            controls[control.part] = PlainControl(sketch_module(preset, control.part, ControlNetModel, dtype))
    text = sketch_module(preset, "text_encoder", CLIPTextModel, dtype)
    return VideoNetwork(
        unet=_cast(unet.to("meta"), dtype),
        vae=vae,
        text=TextEncoder(SimpleNamespace(), text),
        appearance=appearance,
        controls=controls,
        max_frames=int(adapter.config.motion_max_seq_length),
        device=torch.device("meta"),
        dtype=dtype,
    )


def lighten(network: nn.Module, weights: str) -> None:
    """Its weights as small as `Speed.weights` makes them; it computes nothing any more."""
    for layer in linear_layers(network).values():
        size = layer.weight.numel() * BITS[weights] // 8
        layer.weight = nn.Parameter(torch.empty(size, dtype=torch.uint8, device="meta"), requires_grad=False)


def weight_bytes(modules: Sequence[nn.Module]) -> int:
    """Of all parameters, tied ones once."""
    found = {id(tensor): tensor for module in modules for tensor in module.parameters()}
    return sum(tensor.numel() * tensor.element_size() for tensor in found.values())


def modules_of(network: VideoNetwork) -> list[nn.Module]:
    """Everything that a video network holds."""
    return [*network.openers.values(), *network.denoisers, *_embeddings(network)]


def resident_network_bytes(preset: Preset, offload: Offload, network: VideoNetwork, device: str) -> int:
    """The most of a video network's weights that is on `device` at once, by the preset's parts."""
    opening = network.openers
    if is_cpu(device):
        return weight_bytes(modules_of(network))
    if offload == "model":  # what opens a request is there together, then what every step runs
        steps, opens = weight_bytes([*network.denoisers]), weight_bytes([*opening.values()])
        return max(steps, opens) + weight_bytes(_embeddings(network))
    stays = [module for name, module in opening.items() if not is_cpu(preset.parts[name].device or device)]
    return weight_bytes([*stays, *_embeddings(network)]) + resident_bytes(offload, network.denoisers, device)


def resident_bytes(offload: Offload, modules: Sequence[nn.Module], device: str) -> int:
    """The most of the weights of `modules` that is on `device` at once."""
    if offload == "none" or is_cpu(device):
        return weight_bytes(modules)
    if offload == "model":
        return max(weight_bytes([module]) for module in modules)
    layers = (layer for module in modules for layer in module.modules())
    return max(sum(tensor.nbytes for tensor in layer.parameters(recurse=False)) for layer in layers)


def _embeddings(network: VideoNetwork) -> list[nn.Module]:
    """They lie beside their ControlNets."""
    return [control.embedding for control in network.controls.values() if isinstance(control, PlainControl)]


def _cast(module: Any, dtype: torch.dtype) -> Any:
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype)
    return module.eval().requires_grad_(False)


def _config(preset: Preset, name: str) -> dict[str, Any]:
    part = find_part(preset, name)
    file = Path(source_of(part)) / part.subfolder / "config.json"
    if file.is_file():
        known = json.loads(file.read_text())
        return {key: value for key, value in known.items() if not key.startswith("_")}
    if (part.source, part.subfolder) in NETWORKS:
        return dict(NETWORKS[part.source, part.subfolder])
    raise WeightsError(
        f"Part {name!r} cannot be costed: there is no {file}, and nothing is known of {part.source} here; "
        f"fetch it with `python -m stages weights --preset {preset.name} --pull`."
    )


def _adapter(preset: Preset, unet: Any, encoder: Any) -> dict[str, Tensor]:
    """The adapter's tensors on the meta device: of the file on this machine, or in the published plus form."""
    part = find_part(preset, "appearance")
    file = Path(source_of(part)) / part.subfolder / (part.weight_name or "appearance.safetensors")
    if file.is_file():
        shapes = {key: tuple(entry["shape"]) for key, entry in read_header(file).items() if key != "__metadata__"}
    else:
        text = int(unet.config.cross_attention_dim)
        plus = adapter_plus_shapes(text, int(encoder.config.hidden_size))
        shapes = {f"image_proj.{key}": shape for key, shape in plus.items()}
        index = 1
        for name in unet.attn_processors:
            if name.endswith("attn2.processor") and "motion_modules" not in name:
                width = unet.get_submodule(name.removesuffix(".processor")).to_q.weight.shape[0]
                shapes |= {f"ip_adapter.{index}.to_{which}_ip.weight": (width, text) for which in ("k", "v")}
                index += 2
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
