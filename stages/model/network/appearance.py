"""The appearance encoder: the reference picture as tokens that cross-attention reads beside the text.

Attn(Q, K_text, V_text) + scale · Attn(Q, K_image, V_image): only the image's keys, values and the projection are
trained (decoupled cross-attention, arXiv 2308.06721). Both public forms work: a global embedding projected to four
tokens, and patch states resampled to sixteen. `install` puts the projection and the attention into a UNet; the encoder
stays here.
"""

from typing import Any, Self

import torch
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from stages.base import WeightsError
from stages.model.network.pictures import BICUBIC, centre_square, resize_frames
from stages.model.weights.loading import load_module, load_tensors
from stages.presets import Preset
from stages.types import UInt8

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures
_STD = (0.26862954, 0.26130258, 0.27577711)

AdapterWeights = dict[str, dict[str, Tensor]]


def normalise(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) in -1..1 -> as CLIP's image encoders take them."""
    mean, std = (torch.tensor(values).to(pictures).view(1, 3, 1, 1) for values in (_MEAN, _STD))
    return ((pictures + 1) / 2 - mean) / std


class Appearance:
    """A CLIP image encoder, and the weights of the decoupled attention until they are installed."""

    def __init__(self, encoder: CLIPVisionModelWithProjection, weights: AdapterWeights) -> None:
        self.encoder = encoder
        self.weights = weights
        self.by_patches = "latents" in weights["image_proj"]

    @classmethod
    def load(cls, preset: Preset, device: str, dtype: torch.dtype) -> Self:
        """From the parts `image_encoder` and `appearance`.

        Raises:
            WeightsError: one of them is missing or broken.
        """
        encoder = load_module(preset, "image_encoder", CLIPVisionModelWithProjection, device, dtype)
        return cls(encoder, split_adapter(load_tensors(preset, "appearance")))

    def install(self, unet: Any) -> None:
        """Put the projection and the decoupled attention into `unet`, which then needs `image_embeds`.

        Raises:
            WeightsError: the adapter was made for another UNet.
        """
        try:
            unet._load_ip_adapter_weights([self.weights], low_cpu_mem_usage=False)
        except (RuntimeError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())[:160]
            raise WeightsError(
                f"Part 'appearance' does not fit this UNet ({reason}); choose one made for it."
            ) from error
        unet.requires_grad_(False)

    @torch.no_grad()
    def encode(self, reference: UInt8) -> list[Tensor]:
        """(H, W, 3) uint8 -> the `image_embeds` for (without, with) the picture: one tensor (2, 1, ...).

        Resampled and cut to the centred square as CLIP's own processor does it.
        """
        side = int(self.encoder.config.image_size)
        height, width = reference.shape[:2]
        size = (max(side, int(side * width / height)), max(side, int(side * height / width)))
        pixels = centre_square(resize_frames(reference[None], size, BICUBIC)[0])[None]
        picture = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).to(self.encoder.device).float() / 127.5 - 1
        inputs = normalise(picture).to(self.encoder.dtype)
        if self.by_patches:
            both = torch.cat([torch.zeros_like(inputs), inputs])
            states: Tensor = self.encoder(both, output_hidden_states=True).hidden_states[-2]
            return [states[:, None]]
        embedding: Tensor = self.encoder(inputs).image_embeds
        return [torch.cat([torch.zeros_like(embedding), embedding])[:, None]]


def set_scale(unet: Any, scale: float) -> None:
    """How loudly the picture speaks in every decoupled attention of `unet`; 0 is silence, exactly."""
    for processor in unet.attn_processors.values():
        if hasattr(processor, "to_k_ip"):
            processor.scale = [scale] * len(processor.scale)


def split_adapter(tensors: dict[str, Tensor]) -> AdapterWeights:
    """One flat file as the two groups of the public layout.

    Raises:
        WeightsError: there are other groups in it.
    """
    groups: AdapterWeights = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        if group not in groups:
            raise WeightsError(
                f"Part 'appearance' holds the tensor {name!r}; names start with 'image_proj.' or 'ip_adapter.'."
            )
        groups[group][rest] = tensor
    if not all(groups.values()):
        empty = next(group for group, content in groups.items() if not content)
        raise WeightsError(f"Part 'appearance' holds no tensor of the group {empty!r}; fetch it again.")
    return groups


def flatten_adapter(weights: AdapterWeights) -> dict[str, Tensor]:
    """The inverse of `split_adapter`."""
    return {f"{group}.{name}": tensor for group, content in weights.items() for name, tensor in content.items()}


def read_adapter(unet: Any) -> AdapterWeights:
    """The adapter that is installed in `unet`, to save it: a UNet with one does not save itself whole.

    Raises:
        WeightsError: it is of a form other than the global and the patch form.
    """
    projection = unet.encoder_hid_proj.image_projection_layers[0]
    attention: dict[str, Tensor] = {}
    index = 1
    for processor in unet.attn_processors.values():
        if hasattr(processor, "to_k_ip"):
            attention[f"{index}.to_k_ip.weight"] = processor.to_k_ip[0].weight
            attention[f"{index}.to_v_ip.weight"] = processor.to_v_ip[0].weight
            index += 2
    return {"image_proj": _published(projection.state_dict(keep_vars=True)), "ip_adapter": attention}


def _published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A projection's tensors under the names of the public files."""
    if "image_embeds.weight" in state:
        return {name.replace("image_embeds", "proj"): tensor for name, tensor in state.items()}
    if "latents" not in state:
        raise WeightsError(
            f"The appearance adapter starts with the tensor {next(iter(state))!r}; the forms that can be saved are the "
            f"global one (image_embeds) and the one over patches (latents)."
        )
    names = {
        ".ln0.": ".0.norm1.", ".ln1.": ".0.norm2.", ".attn.to_q.": ".0.to_q.", ".attn.to_out.0.": ".0.to_out.",
        ".ff.0.": ".1.0.", ".ff.1.net.0.proj.": ".1.1.", ".ff.1.net.2.": ".1.3.",
    }  # fmt: skip
    published: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".attn.to_v." in name:
            continue
        if ".attn.to_k." in name:
            both = torch.cat([tensor, state[name.replace("to_k", "to_v")]])
            published[name.replace(".attn.to_k.", ".0.to_kv.")] = both
            continue
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        published[name] = tensor
    return published
