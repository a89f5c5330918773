"""Whether the parts of a video network were made for each other, told before any of them meets: names and both shapes.

Takes modules on the CPU or the meta device; raises one sentence. What a library would find out later, at a first step
or in a broadcast of its own, is found here when the stage loads. Knows nothing of files or of how a network runs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from stages.base import WeightsError

Shape = tuple[int, ...]

SIZES = 2  # that a UNet with 'text_time' hears beside the pooled text: height and width in pixels

_GLOBAL, _PLUS = "proj.weight", "latents"  # the tensor that tells the form of an appearance adapter


def check_unet(unet: Any, text_width: int, latent_channels: int, *, beside: bool = False) -> None:
    """That the UNet reads what text encoder and VAE give, and needs nothing else.

    Args:
        beside: whether it reads the reference's latents and their mark beside the noise (`Preset.beside`).

    Raises:
        WeightsError: it does not.
    """
    config = unet.config
    added = config.addition_embed_type
    if wanted := (None if added == "text_time" else added) or config.class_embed_type or config.encoder_hid_dim_type:
        raise WeightsError(
            f"Part 'unet' is of a kind that wants {wanted!r} beside the text; T2I, I2V and V2V take UNets of the SD1.5 "
            f"kind, which want nothing else or 'text_time': choose one of those."
        )
    if (width := _one(config.cross_attention_dim)) != text_width:
        raise WeightsError(
            f"Part 'unet' reads text of width {width}, part 'text_encoder' gives {text_width}; "
            f"choose the text encoder that the UNet was trained with."
        )
    told = text_width + SIZES * (config.addition_time_embed_dim or 0)
    if added and config.projection_class_embeddings_input_dim != told:
        raise WeightsError(
            f"Part 'unet' reads {config.projection_class_embeddings_input_dim} numbers beside the time, but gets "
            f"{told}: {text_width} of pooled text, {config.addition_time_embed_dim} each of height and width (SDXL's "
            f"want more); choose a UNet that was trained with this text encoder and these two."
        )
    wide = 2 * latent_channels + 1
    if beside and config.in_channels != wide:
        raise WeightsError(
            f"Part 'unet' reads {config.in_channels} channels, but with `beside` it reads {wide}: {latent_channels} of "
            f"the noise, {latent_channels} of the reference, a mark; choose such a UNet, or set `beside` to False."
        )
    if not beside and config.in_channels != latent_channels:
        raise WeightsError(
            f"Part 'unet' reads latents of {config.in_channels} channels, part 'vae' gives {latent_channels}; choose "
            f"a UNet that is made for this VAE, and not for inpainting."
        )


def check_motion(unet: Any, adapter: Any) -> None:
    """That a motion module has a place after every layer of the UNet, of its width.

    Raises:
        WeightsError: it was made for another UNet.
    """
    if adapter.config.conv_in_channels:
        raise WeightsError(
            f"The motion module brings a first layer for {adapter.config.conv_in_channels} channels, the UNet reads "
            f"{unet.config.in_channels}; choose a motion module without one."
        )
    widths, layers = list(unet.config.block_out_channels), unet.config.layers_per_block
    wanted: dict[str, Shape] = {}
    for way, order, more in (("down", widths, 0), ("up", widths[::-1], 1)):
        for block, width in enumerate(order):
            count = layers if isinstance(layers, int) else (layers if way == "down" else layers[::-1])[block]
            for layer in range(count + more):
                wanted[f"{way}_blocks.{block}.motion_modules.{layer}.proj_in.weight"] = (width, width)
    found = {
        name: tuple(tensor.shape)
        for name, tensor in adapter.state_dict().items()
        if name.endswith(".proj_in.weight") and not name.startswith("mid_block")
    }
    _compare("The motion module does not fit the UNet", found, wanted, "choose one made for it")


def check_adapter(unet: Any, encoder: Any, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    """That the appearance adapter's keys and values fit the UNet, and its projection the image encoder.

    Raises:
        WeightsError: it was made for another UNet or image encoder, or is of another form.
    """
    projection = {name: tuple(tensor.shape) for name, tensor in weights["image_proj"].items()}
    text = _one(unet.config.cross_attention_dim)
    if _GLOBAL in projection and len(projection[_GLOBAL]) == 2:
        rows, read = projection[_GLOBAL]
        gives, reads = (text if rows % text == 0 else rows), (read, int(encoder.config.projection_dim))
    elif _PLUS in projection and {"proj_in.weight", "proj_out.weight"} <= projection.keys():
        gives = projection["proj_out.weight"][0]
        reads = (projection["proj_in.weight"][1], int(encoder.config.hidden_size))
    else:
        raise WeightsError(
            f"Part 'appearance' has a projection of an unknown form ({_three(sorted(projection))}); "
            f"the global form (ip-adapter_*) and the one over patches (ip-adapter-plus_*) can be used: choose one."
        )
    if reads[0] != reads[1]:
        raise WeightsError(
            f"Part 'appearance' reads pictures of width {reads[0]}, part 'image_encoder' gives {reads[1]}; "
            f"choose the image encoder that the adapter was trained with."
        )
    wanted: dict[str, Shape] = {}
    index = 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor") and "motion_modules" not in name:
            width = int(unet.get_submodule(name.removesuffix(".processor")).to_q.weight.shape[0])
            wanted |= {f"{index}.to_{which}_ip.weight": (width, text) for which in ("k", "v")}
            index += 2
    found = {name: tuple(tensor.shape) for name, tensor in weights["ip_adapter"].items()}
    _compare("Part 'appearance' does not fit the UNet", found, wanted, "choose an adapter made for it")
    if gives != text:
        raise WeightsError(
            f"Part 'appearance' gives tokens of width {gives}, the UNet reads {text}; choose an adapter made for it."
        )


def check_control(name: str, unet: Any, control: Any) -> None:
    """That the residuals of ControlNet `name` can be added to the UNet's features.

    Raises:
        WeightsError: it was made for another UNet.
    """
    theirs, ours = control.config, unet.config
    for key in ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim"):
        has = _plain(theirs[key])
        wants = _plain(ours["out_channels" if key == "in_channels" else key])  # it reads the noise alone
        if has != wants:
            raise WeightsError(
                f"Part {name!r} has {key} {has}, the UNet {wants}; choose a ControlNet made for this UNet."
            )
    if getattr(theirs, "addition_embed_type", None):
        raise WeightsError(
            f"Part {name!r} wants {theirs.addition_embed_type!r} beside the text (SDXL's do); choose a ControlNet of "
            f"the SD1.5 kind."
        )


def _compare(what: str, found: Mapping[str, Shape], wanted: Mapping[str, Shape], advice: str) -> None:
    both = [key for key in wanted if key in found]
    wrong = [f"{key} is {found[key]} instead of {wanted[key]}" for key in both if found[key] != wanted[key]]
    missing = [f"{key} {wanted[key]} is missing" for key in wanted if key not in found]
    unknown = [f"{key} {found[key]} has no place in it" for key in found if key not in wanted]
    if told := [*wrong, *missing, *unknown]:
        raise WeightsError(f"{what}: {_three(told)}; {advice}.")


def _three(told: Sequence[str]) -> str:
    return ", ".join(told[:3]) + (f" and {len(told) - 3} more" if len(told) > 3 else "")


def _one(width: Any) -> int:
    """The width of the text: one number, or the same for every block."""
    return int(width[0]) if isinstance(width, list | tuple) else int(width)


def _plain(value: Any) -> Any:
    """As text and comparable; what is the same for every block is one value."""
    many = tuple(value) if isinstance(value, list | tuple) else (value,)
    return many[0] if len(set(many)) == 1 else many
