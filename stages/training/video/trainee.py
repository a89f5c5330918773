"""A video network while it is trained: which of its parts learn, what its loss is, how the parts are saved.

Takes a `VideoNetwork` as the stages load it, so that what is trained is what runs: the same appearance encoder, the
same ControlNets, the same order of things. Saved parts are folders in the hub's layout.
Knows nothing of presets' sizes, of files that are trained on, or of schedules.
"""

import copy
import inspect
import random
import shutil
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import MotionAdapter, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from client._shell.outputs import written
from stages.base import InputError
from stages.model.network import vae as codec
from stages.model.network.appearance import flatten_adapter, normalise, read_adapter, set_scale
from stages.model.network.control import PlainControl, PlainHint, SparseHint
from stages.model.network.network import VideoNetwork, bypass_motion, is_temporal
from stages.model.network.reference import planes_for, put_beside, reads_reference
from stages.model.network.text import Text, beside_time, read
from stages.settings import Control, ImageMode
from stages.training.video.batches import Batch
from stages.training.video.noising import Noising

Target = Literal["motion", "control", "appearance", "encoder", "spatial"]
TARGETS: tuple[Target, ...] = ("motion", "control", "appearance", "encoder", "spatial")


@dataclass(frozen=True)
class Dropping:
    """How often a sample loses its caption, its picture (the appearance encoder's, never a ControlNet's), or both.

    The shares of IP-Adapter (arXiv 2308.06721, section 4.1), so that guidance can leave out either.
    """

    text: float = 0.05
    picture: float = 0.05
    both: float = 0.05
    noise: float = 0.1  # the most on the reference's latents, where they stand beside the noise

    def draw(self, count: int, rng: random.Random) -> tuple[list[bool], list[bool]]:
        """For each of `count` samples, whether (the caption, the picture) is kept."""
        draws = [rng.random() for _ in range(count)]
        one, two, three = self.text, self.text + self.picture, self.text + self.picture + self.both
        return [not (d < one or two <= d < three) for d in draws], [not one <= d < three for d in draws]


class Trainee:
    """The modules of a video network that learn, and the loss that teaches them."""

    def __init__(
        self,
        network: VideoNetwork,
        controls: Sequence[Control],
        image_mode: ImageMode = "single_frame",
        dropping: Dropping | None = None,
    ) -> None:
        self.network = network
        self.image_mode: ImageMode = image_mode
        self._controls = [control for control in controls if control.scale]
        self._dropping = dropping or Dropping()
        look = network.appearance
        self._by_patches = look is not None and "latents" in look.weights["image_proj"]

    def all_modules(self) -> nn.ModuleDict:
        """Everything that may learn, and the spatial layers."""
        controls = nn.ModuleDict()
        for control in self._controls:
            loaded = self.network.controls[control.part]
            controls[control.part] = nn.ModuleDict(
                {"model": loaded.model, "embedding": loaded.embedding}
                if isinstance(loaded, PlainControl)
                else {"model": loaded.model}
            )
        look = self.network.appearance
        encoder = {} if look is None else {"encoder": look.encoder}
        return nn.ModuleDict({"unet": self.network.unet, "controls": controls, **encoder})

    def choose(self, targets: Iterable[Target]) -> None:
        """Let exactly these parts learn.

        Raises:
            InputError: a part that this network does not have.
        """
        chosen = set(targets)
        if unknown := sorted(chosen - set(TARGETS)):
            raise InputError(f"There is no part {unknown[0]!r} to train; choose of: {', '.join(TARGETS)}.")
        if "control" in chosen and not self._controls:
            raise InputError("There is no ControlNet to train: the preset's guide has none; add one to it.")
        if chosen & {"appearance", "encoder"} and self.network.appearance is None:
            raise InputError("There is no appearance encoder to train: the preset names none; add its two parts to it.")
        for name, parameter in self.network.unet.named_parameters():
            parameter.requires_grad_(_target_of(name) in chosen)
        for name, module in self.all_modules().items():
            if name != "unet":
                module.requires_grad_({"controls": "control"}.get(name, name) in chosen)

    def save_memory(self) -> None:
        """Keep less for the way back and compute it again: slower by a third or so, gradients unchanged."""
        network = self.network
        network.unet.enable_gradient_checkpointing()
        for control in self._controls:
            network.controls[control.part].model.enable_gradient_checkpointing()
        for name, module in network.unet.named_modules():  # diffusers leaves the motion module out
            if is_temporal(name) and name.rsplit(".", 2)[-2] == "transformer_blocks":
                module.forward = partial(checkpoint, module.forward, use_reentrant=False)

    def loss(self, batch: Batch, times: Tensor, noising: Noising, rng: random.Random) -> Tensor:
        """Mean squared error of what the network says about `batch`, noised to `times` (B,)."""
        unet = self.network.unet
        clean = batch.latents.contiguous()  # torch's group norm crashes on the way back from a channels-last clip
        count, frames = clean.shape[:2]
        with_text, with_picture = self._dropping.draw(count, rng)
        captions = [text if kept else "" for text, kept in zip(batch.captions, with_text, strict=True)]
        noised, target = noising(clean, times, noising.draw_noise(clean, batch.softened, batch.anchors))
        noised, times = noised.transpose(1, 2), times.to(clean.device)  # (B, C, F, h, w)
        planes = self.planes(batch, with_picture)
        text = self.read(captions)
        states = text.states.repeat_interleave(frames, 0)
        height, width = (side * self.network.reduction for side in noised.shape[3:])
        added = beside_time(unet, text.pooled, (width, height))
        set_scale(unet, 1.0)
        bypassed = frames == 1 and self.image_mode == "bypass"
        with bypass_motion(unet) if bypassed else nullcontext():
            down, mid = self._residuals(batch, noised, times, states)
            said = unet(
                put_beside(unet, noised, planes),
                times,
                states,
                added_cond_kwargs={"image_embeds": self.look(batch.references, with_picture), **added},
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
            ).sample
        return F.mse_loss(said.transpose(1, 2).float(), target)

    @torch.no_grad()
    def read(self, captions: Sequence[str]) -> Text:
        """What the text encoder, which does not learn, makes of them."""
        return read(self.network.text.model, self.network.text.tokenizer, captions)

    def planes(self, batch: Batch, kept: Sequence[bool]) -> Tensor | None:
        """What stands beside the noise, as `stages.model.network.reference` says: zeros for what is not kept.

        The latents carry a little noise, because at work they are those of a picture that was generated.
        """
        unet = self.network.unet
        if batch.alone or not reads_reference(unet):
            return None
        with torch.no_grad():
            known = codec.encode(self.network.vae, batch.references) if batch.anchors is None else batch.anchors
            spread = self._dropping.noise * torch.rand(len(batch), 1, 1, 1).to(known)
            planes = planes_for(
                unet, known + spread * torch.randn_like(known), batch.latents.shape[1], first=batch.first
            )
            assert planes is not None
            return planes * torch.tensor(kept).to(planes).view(-1, 1, 1, 1, 1)

    def look(self, references: Tensor, kept: Sequence[bool]) -> list[Tensor]:
        """(B, 3, H, W) in -1..1 -> `image_embeds`, one (B, 1, ...) or none; with gradients. A picture that is not kept
        is nothing, in the form in which `Appearance.encode` has it without guidance."""
        if self.network.appearance is None:
            return []
        encoder = self.network.appearance.encoder
        side, (height, width) = int(encoder.config.image_size), references.shape[2:]
        square = min(height, width)
        top, left = (height - square) // 2, (width - square) // 2
        centre = references[:, :, top : top + square, left : left + square]
        inputs = normalise(F.interpolate(centre, size=side, mode="bilinear", antialias=True))
        mask = torch.tensor(kept, dtype=inputs.dtype, device=inputs.device)
        if self._by_patches:
            states: Tensor = encoder(inputs * mask[:, None, None, None], output_hidden_states=True).hidden_states[-2]
            return [states[:, None]]
        embedding: Tensor = encoder(inputs).image_embeds
        return [(embedding * mask[:, None])[:, None]]

    def _residuals(self, batch: Batch, noised: Tensor, times: Tensor, states: Tensor) -> tuple[Any, Any]:
        """What all ControlNets add, as `stages.model.network.control.add_up` does, but with gradients and a time a
        clip.
        """
        frames = noised.shape[2]
        down: tuple[Tensor, ...] | None = None
        mid: Tensor | None = None
        for control in self._controls:
            loaded = self.network.controls[control.part]
            if isinstance(loaded, PlainControl):
                embedded = self._embed(loaded, control, batch, frames)
                hint: PlainHint | SparseHint = PlainHint(loaded.model, embedded, control.scale)
                more_down, more_mid = hint(noised, times.repeat_interleave(frames), states)
            else:
                first = codec.encode(self.network.vae, batch.references).to(noised)
                condition = first[:, :, None] * (torch.arange(frames, device=first.device) == 0).view(1, 1, -1, 1, 1)
                mask = torch.zeros_like(condition[:, :1])
                mask[:, :, 0] = 1
                more_down, more_mid = SparseHint(loaded.model, condition, mask, control.scale)(noised, times, states)
            down = more_down if down is None else tuple(a + b for a, b in zip(down, more_down, strict=True))
            mid = more_mid if mid is None else mid + more_mid
        return down, mid

    def _embed(self, loaded: PlainControl, control: Control, batch: Batch, frames: int) -> Tensor:
        """(B, F, C, h, w): the condition embedding of the reference, or of every keyframe."""
        count, size = len(batch), batch.references.shape[2:]
        if control.image == "reference":
            embedded: Tensor = loaded.embedding((batch.references + 1) / 2)
            return embedded[:, None].expand(-1, frames, -1, -1, -1)
        if batch.keyframes is None:
            raise InputError(
                f"ControlNet {control.part!r} reads every keyframe, the batch has only the reference; "
                f"draw it with `Cut.keyframes`."
            )
        flat = F.interpolate(batch.keyframes.flatten(0, 1), size=size, mode="bicubic", antialias=True).clamp(-1, 1)
        embedded = loaded.embedding((flat + 1) / 2)
        return embedded.view(count, frames, *embedded.shape[1:])

    def save(self, targets: Iterable[Target], out: Path, names: dict[Target, str], dtype: torch.dtype) -> list[str]:
        """Write the parts under `out`; the names of their folders. `names` are those that differ from the target's."""
        unet, made = self.network.unet, list[str]()
        for target in targets:
            name = names.get(target, target)
            if target == "motion":
                save_part(motion_of(unet), out / name, dtype)
            elif target == "encoder":
                name = names.get(target, "image_encoder")
                assert self.network.appearance is not None, "as `choose` says"
                save_part(self.network.appearance.encoder, out / name, dtype)
            elif target == "spatial":
                name = names.get(target, "unet")
                save_part(spatial_of(unet), out / name, dtype)
            elif target == "appearance":
                tensors = {k: v.detach().to(dtype) for k, v in flatten_adapter(read_adapter(unet)).items()}
                (out / name).mkdir(parents=True, exist_ok=True)
                with written(out / name / "appearance.safetensors") as draft:
                    save_file({k: v.cpu().clone() for k, v in tensors.items()}, draft)
            else:
                name = ", ".join(control.part for control in self._controls)
                for control in self._controls:
                    save_part(_whole(self.network.controls[control.part]), out / control.part, dtype)
            made.extend(name.split(", "))
        return made


def _target_of(name: str) -> Target:
    """Which part a tensor of the UNet belongs to."""
    if is_temporal(name):
        return "motion"
    return "appearance" if "_ip." in name or name.startswith("encoder_hid_proj") else "spatial"


def spatial_of(unet: Any) -> UNet2DConditionModel:
    """The spatial layers of an inflated UNet as a part of its own, a UNet that draws single pictures."""
    config = dict(unet.config)
    for key in ("down_block_types", "up_block_types"):
        config[key] = tuple(name.replace("BlockMotion", "Block2D") for name in config[key])
    config["attention_head_dim"] = config.pop("num_attention_heads")  # diffusers' name for the number of heads
    known = inspect.signature(UNet2DConditionModel.__init__).parameters
    spatial: UNet2DConditionModel = UNet2DConditionModel.from_config({k: v for k, v in config.items() if k in known})
    spatial.load_state_dict({k: v for k, v in unet.state_dict().items() if _target_of(k) == "spatial"})
    return spatial


def motion_of(unet: Any) -> MotionAdapter:
    """The motion module of an inflated UNet as a part of its own."""
    config = unet.config
    motion = MotionAdapter(
        block_out_channels=config["block_out_channels"],
        motion_layers_per_block=config["layers_per_block"],
        motion_norm_num_groups=config["norm_num_groups"],
        motion_num_attention_heads=config["motion_num_attention_heads"],
        motion_max_seq_length=config["motion_max_seq_length"],
        use_motion_mid_block=config["use_motion_mid_block"],
    )
    motion.load_state_dict({k: v for k, v in unet.state_dict().items() if is_temporal(k)})
    return motion


def save_part(module: Any, folder: Path, dtype: torch.dtype, name: str = "") -> None:
    """A copy of `module` in `dtype`, in the hub's layout; its config names no folder of this machine, but `name`."""
    kept = copy.deepcopy(module).to(device="cpu", dtype=dtype)
    if hasattr(kept, "register_to_config"):
        kept.register_to_config(_name_or_path=name or folder.name)
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    kept.save_pretrained(draft, safe_serialization=True)
    folder.mkdir(parents=True, exist_ok=True)
    for file in draft.iterdir():
        file.replace(folder / file.name)
    draft.rmdir()


def _whole(control: Any) -> Any:
    """A ControlNet with its condition embedding put back."""
    if not isinstance(control, PlainControl):
        return control.model
    model = copy.deepcopy(control.model)
    model.controlnet_cond_embedding = copy.deepcopy(control.embedding)
    return model
