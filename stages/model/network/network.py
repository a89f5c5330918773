"""The video network of I2V and V2V: an inflated UNet, its motion module, appearance encoder, ControlNet, VAE, text.

Takes a preset and the names of the parts that differ between the two stages. Where both live in one process,
`share_spatial` makes them hold the spatial layers once. Knows nothing of schedules, windows or requests.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from torch import Tensor, nn

from stages.base import WeightsError
from stages.model.network import vae as codec
from stages.model.network.appearance import Appearance
from stages.model.network.control import ControlNet, PlainControl, load_controls
from stages.model.network.text import TextEncoder
from stages.model.weights.facts import facts_of
from stages.model.weights.fit import check_adapter, check_control, check_motion, check_unet
from stages.model.weights.loading import compute_dtype, load_module, multiplies_in_bf16, settle
from stages.model.weights.lora import merge_loras
from stages.model.weights.offload import Places
from stages.presets import Guide, Preset
from stages.speed import EXACT, Speed


@dataclass
class VideoNetwork:
    """All modules that one denoising of a video needs, on one device."""

    unet: UNetMotionModel
    vae: AutoencoderKL
    text: TextEncoder
    appearance: Appearance | None  # None: the preset names none
    controls: dict[str, ControlNet]  # by the name of their part
    max_frames: int  # positions that the motion module knows
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))  # where it computes
    dtype: torch.dtype = torch.float32  # of the latents
    places: Places = field(default_factory=Places)
    facts: Mapping[str, str] = field(default_factory=dict)  # what computes here; empty for one that was not loaded
    bf16: bool = False  # its products are bfloat16's
    reuse_every: int = 1  # of the steps, how many share their deep layers

    @classmethod
    def load(cls, preset: Preset, device: str, *, motion: str, guide: Guide, speed: Speed = EXACT) -> Self:
        """Build from `preset.video_unet`, the given motion module, `vae`, text, what `guide` names, and the parts
        `appearance` and `image_encoder` where there are such.

        Raises:
            WeightsError: a part is missing, broken, or does not fit the others.
        """
        dtype, facts = compute_dtype(preset, device), facts_of(preset, device)
        together = (preset.video_unet, motion, *(control.part for control in guide.controls))
        preset = settle(preset, device, together=together)
        adapter = load_module(preset, motion, MotionAdapter, "cpu", dtype)
        spatial = load_module(preset, preset.video_unet, UNet2DConditionModel, "cpu", dtype)
        merge_loras(spatial, preset)
        appearance = Appearance.load(preset, "cpu", dtype) if "appearance" in preset.parts else None
        vae = load_module(preset, "vae", AutoencoderKL, "cpu", dtype)
        text = TextEncoder.load(preset, "cpu", dtype)
        controls = load_controls(preset, guide.controls, vae, "cpu", dtype)
        text_width, channels = int(text.model.config.hidden_size), int(vae.config.latent_channels)
        check_unet(spatial, text_width, channels, beside=preset.beside)
        for name, control in controls.items():
            check_control(name, spatial, control.model)
        unet = inflate(spatial, adapter)
        if appearance is not None:
            check_adapter(unet, appearance.encoder, appearance.weights)
            appearance.install(unet)
        network = cls(
            unet=unet.to(dtype).eval().requires_grad_(False),
            vae=vae,
            text=text,
            appearance=appearance,
            controls=controls,
            max_frames=int(adapter.config.motion_max_seq_length),
            device=torch.device(device),
            dtype=dtype,
            places=Places(device, speed.offload),
            facts=facts,
            bf16=multiplies_in_bf16(preset, device),
            reuse_every=speed.reuse_every,
        )
        network._place(preset)  # every part is there and fits: only now the device's memory is taken
        return network

    def _place(self, preset: Preset) -> None:
        """`preset` says of every part on which device it is (`stages.model.weights.loading.settle`)."""
        for control in self.controls.values():
            if isinstance(control, PlainControl):
                control.embedding.to(self.device)  # small, and not part of the model that comes and goes
        for name, module in self.openers.items():
            self.places.put(module, preset.parts[name].device)
        for module in self.denoisers:
            self.places.put(module, every_step=True)

    def lend(self, *modules: nn.Module) -> AbstractContextManager[None]:
        """With `modules` on the device; where whole models are offloaded, they leave it afterwards."""
        return self.places.lend(*modules)

    def products(self) -> AbstractContextManager[None]:
        """In which a step runs."""
        return torch.autocast("cpu", torch.bfloat16) if self.bf16 else nullcontext()

    @property
    def denoisers(self) -> tuple[nn.Module, ...]:
        """What every step runs: the UNet and the ControlNets."""
        return (self.unet, *(control.model for control in self.controls.values()))

    @property
    def openers(self) -> dict[str, nn.Module]:
        """What opens a request, by the names of their parts."""
        encoder = {} if self.appearance is None else {"image_encoder": self.appearance.encoder}
        return {"text_encoder": self.text.model, **encoder, "vae": self.vae}

    @property
    def channels(self) -> int:
        """Of the latents."""
        return int(self.vae.config.latent_channels)

    @property
    def reduction(self) -> int:
        """Pixels a latent along each axis."""
        return codec.reduction(self.vae)


def inflate(spatial: UNet2DConditionModel, adapter: MotionAdapter) -> UNetMotionModel:
    """The UNet with the motion module between its spatial layers.

    Raises:
        WeightsError: the two were not made for each other.
    """
    check_motion(spatial, adapter)
    try:
        unet = UNetMotionModel.from_unet2d(spatial, adapter)
        if spatial.config.addition_embed_type:  # its layers `from_unet2d` leaves as they were drawn
            unet.add_embedding.load_state_dict(spatial.add_embedding.state_dict())
        return unet
    except (RuntimeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise WeightsError(f"The motion module does not fit the UNet ({reason}); choose one made for it.") from error


def is_temporal(name: str) -> bool:
    """Whether a tensor of an inflated UNet belongs to its motion module."""
    return "motion_modules" in name


@contextmanager
def bypass_motion(unet: Any) -> Iterator[None]:
    """Without the motion module while the context lasts: every frame is then a picture of its own."""
    modules = [module for name, module in unet.named_modules() if is_temporal(name) and hasattr(module, "proj_in")]
    for module in modules:
        module.forward = _hand_on
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def _hand_on(hidden_states: Tensor, *args: Any, **options: Any) -> Tensor:
    return hidden_states


def share_spatial(target: Any, source: Any) -> int:
    """Make `target` use the storage of `source` for every layer that is not of the motion module; bytes saved."""
    shared: dict[str, Tensor] = {
        name: tensor for name, tensor in source.state_dict(keep_vars=True).items() if not is_temporal(name)
    }
    before = {name: tensor.data_ptr() for name, tensor in target.state_dict().items() if name in shared}
    target.load_state_dict(shared, strict=False, assign=True)
    return sum(shared[name].nbytes for name, pointer in before.items() if pointer != shared[name].data_ptr())


def largest_difference(one: Any, other: Any) -> float:
    """How far two networks' spatial layers are apart; 0 means that `share_spatial` changes nothing."""
    theirs = other.state_dict()
    return max(
        float((tensor - theirs[name]).abs().max())
        if tensor.is_floating_point()
        else float(not torch.equal(tensor, theirs[name]))
        for name, tensor in one.state_dict().items()
        if not is_temporal(name)
    )
