"""New weights in the place of a preset's, for whoever trains a part from nothing on a public backbone.

Takes a loaded video network and changes it in place: a motion module whose output is zero, a plain RGB ControlNet that
starts as the UNet's way down with zero outputs (arXiv 2302.05543), or image keys and values that start as the text's.
All three leave the backbone's pictures as they are at the first step, or nearly so. Knows nothing of training.
"""

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import nn

from stages.model.network.control import PlainControl
from stages.model.network.network import VideoNetwork, is_temporal

_BESIDE_TIME = ("addition_embed_type", "addition_time_embed_dim", "projection_class_embeddings_input_dim")


def renew_motion(network: VideoNetwork) -> None:
    """Every layer of the motion module as diffusers makes it, its output projections zero."""
    for name, module in network.unet.named_modules():
        if not is_temporal(name):
            continue
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        if name.endswith("proj_out"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def renew_control(network: VideoNetwork, part: str, spatial: UNet2DConditionModel) -> None:
    """A ControlNet over RGB in the place of `part`, whatever its kind was; it hears no text beside the time."""
    control = ControlNetModel.from_unet(spatial).to(network.unet.device).eval()
    if spatial.config.addition_embed_type:
        control.register_to_config(**dict.fromkeys(_BESIDE_TIME))
        del control.add_embedding
    network.controls[part] = PlainControl(control)


def renew_appearance(network: VideoNetwork) -> None:
    """The projection as diffusers makes it; keys as the text's, values a tenth of them."""
    projection = network.unet.encoder_hid_proj.image_projection_layers[0]
    for name, module in projection.named_modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        del name
    if hasattr(projection, "latents"):
        nn.init.normal_(projection.latents, std=projection.latents.shape[-1] ** -0.5)
    with torch.no_grad():
        for name, processor in network.unet.attn_processors.items():
            if hasattr(processor, "to_k_ip"):
                layer = network.unet.get_submodule(name.removesuffix(".processor"))
                processor.to_k_ip[0].weight.copy_(layer.to_k.weight)
                processor.to_v_ip[0].weight.copy_(0.1 * layer.to_v.weight)
