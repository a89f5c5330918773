"""The repositories of `paper` and `paper-fast` as they are published, but narrow and with random weights.

Same folders, file names, names of tensors and dtypes, with what older libraries left in them: a VAE whose attention is
called `query` and `proj_attn`, text encoders with `position_ids`, tokenizers of two files, pickles beside the
safetensors, several adapters in one folder.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import MotionAdapter, SparseControlNetModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from stages.model.weights import published
from stages.presets import PAPER, PAPER_FAST
from tests.stages import random_parts as parts
from tests.stages.modern.tiny import stable_diffusion_xl

VAE = "stabilityai/sd-vae-ft-mse"
SDXL, SDXL_VAE = "stabilityai/stable-diffusion-xl-base-1.0", "madebyollin/sdxl-vae-fp16-fix"
SD15, UNET = "stable-diffusion-v1-5/stable-diffusion-v1-5", "mhdang/dpo-sd1.5-text2image-v1"
MOTION, LCM = "guoyww/animatediff-motion-adapter-v1-5-3", "wangfuyun/AnimateLCM"
DOMAIN = "guoyww/animatediff-motion-lora-v1-5-3"
IP, SPARSE, TILE = (
    "h94/IP-Adapter",
    "guoyww/animatediff-sparsectrl-rgb",
    "ControlNet-1-1-preview/control_v11f1e_sd15_tile",
)

WHOLE, HALF = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"
RANK = 4


def publish(root: Path) -> None:
    """Every repository as `<root>/<org>/<name>`."""
    torch.manual_seed(0)
    unet = parts.make_unet()
    unet.save_pretrained(root / UNET / "unet")
    vae = parts.make_vae()
    for repository in (VAE, SDXL_VAE):
        vae.save_pretrained(root / repository)
        rewrite(root / repository / WHOLE, _older_attention)
    _stable_diffusion(root / SD15)
    _stable_diffusion_xl(root / SDXL)
    parts.make_motion().save_pretrained(root / MOTION)
    (root / DOMAIN).mkdir(parents=True)
    save_file(domain_lora(), root / DOMAIN / WHOLE)
    _animate_lcm(root / LCM, unet)
    _ip_adapter(root / IP)
    _sparse(root / SPARSE)
    parts.make_control(unet).save_pretrained(root / TILE)
    torch.save(load_file(root / TILE / WHOLE), root / TILE / "diffusion_pytorch_model.bin")


def rewrite(file: Path, change: Any) -> None:
    """Other names or tensors in a file."""
    tensors = {key: tensor.clone() for key, tensor in load_file(file).items()}
    save_file(change(tensors), file, {"format": "pt"})


def as_cache(root: Path, hub: Path) -> None:
    """The same in the hub's cache: files are links from a snapshot to what is called by its content."""
    pinned = {part.source: part.revision for part in (*PAPER.parts.values(), *PAPER_FAST.parts.values())}
    for repository in (UNET, VAE, SDXL, SDXL_VAE, SD15, MOTION, DOMAIN, LCM, IP, SPARSE, TILE):
        home, revision = hub / f"models--{repository.replace('/', '--')}", pinned[repository]
        for folder in ("blobs", f"snapshots/{revision}"):
            (home / folder).mkdir(parents=True)
        files = (file for file in sorted((root / repository).rglob("*")) if file.is_file())
        for number, file in enumerate(files):
            shutil.copy(file, home / "blobs" / f"{number:040x}")
            link = home / "snapshots" / revision / file.relative_to(root / repository)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(home / "blobs" / f"{number:040x}")


def lcm_lora() -> dict[str, Tensor]:
    """Kohya's names, every attention and feed-forward layer, half precision, as AnimateLCM's file has them."""
    torch.manual_seed(3)
    tensors: dict[str, Tensor] = {}
    for name, layer in parts.make_unet().named_modules():
        if ".transformer_blocks." in name and hasattr(layer, "weight") and layer.weight.dim() == 2:
            rows, columns = layer.weight.shape
            stem = "lora_unet_" + name.replace(".", "_")
            tensors[f"{stem}.alpha"] = torch.tensor(RANK / 2).half()
            tensors[f"{stem}.lora_down.weight"] = (0.1 * torch.randn(RANK, columns)).half()
            tensors[f"{stem}.lora_up.weight"] = (0.1 * torch.randn(rows, RANK)).half()
    return tensors


def domain_lora() -> dict[str, Tensor]:
    """In diffusers' older names, every attention of the spatial layers, single precision."""
    torch.manual_seed(4)
    tensors: dict[str, Tensor] = {}
    for name, layer in parts.make_unet().named_modules():
        place, _, last = name.removesuffix(".0").rpartition(".")
        if place.endswith((".attn1", ".attn2")) and hasattr(layer, "weight"):
            rows, columns = layer.weight.shape
            tensors[f"{place}.processor.{last}_lora.down.weight"] = 0.1 * torch.randn(RANK, columns)
            tensors[f"{place}.processor.{last}_lora.up.weight"] = 0.1 * torch.randn(rows, RANK)
    return tensors


def _older_attention(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(key: str) -> str:
        for ours, theirs in older.items():
            key = key.replace(f".attentions.0.{ours}.", f".attentions.0.{theirs}.")
        return key

    return {rename(key): tensor for key, tensor in tensors.items()}


def _older_clip(kind: str, positions: int) -> Any:
    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        own = ("text_projection", "visual_projection")
        named = {k if k.startswith((kind, *own)) else f"{kind}.{k}": tensor for k, tensor in tensors.items()}
        return {**named, f"{kind}.embeddings.position_ids": torch.arange(positions)[None]}

    return change


def _two_files(folder: Path) -> None:
    """A CLIP tokenizer as its repositories have it: no tokenizer.json."""
    tokenizer = parts.make_tokenizer()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    end = "<|endoftext|>"
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 16,
        "unk_token": end,
        "bos_token": "<|startoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "eos_token": end, "pad_token": end}))


def _stable_diffusion(folder: Path) -> None:
    parts.make_text().save_pretrained(folder / "text_encoder")
    rewrite(folder / "text_encoder" / "model.safetensors", _older_clip("text_model", 16))
    torch.save({"none": torch.zeros(1)}, folder / "text_encoder" / "pytorch_model.bin")
    _two_files(folder / "tokenizer")


def _stable_diffusion_xl(folder: Path) -> None:
    stable_diffusion_xl().to(torch.float16).save_pretrained(folder, variant="fp16")
    for name in ("text_encoder", "text_encoder_2"):
        rewrite(folder / name / "model.fp16.safetensors", _older_clip("text_model", 16))
    for name in ("tokenizer", "tokenizer_2"):
        _two_files(folder / name)


def _animate_lcm(folder: Path, unet: Any) -> None:
    motion = MotionAdapter(
        block_out_channels=parts.WIDTHS, motion_layers_per_block=1, motion_num_attention_heads=2,
        motion_norm_num_groups=8, use_motion_mid_block=published.MOTION_V2["use_motion_mid_block"],
        motion_mid_block_layers_per_block=1,
    )  # fmt: skip
    motion.save_pretrained(folder)
    motion.half().save_pretrained(folder, variant="fp16")
    save_file(lcm_lora(), folder / "AnimateLCM_sd15_t2v_lora.safetensors")
    (folder / "AnimateLCM_sd15_t2v.ckpt").write_bytes(b"\x80\x02 not to be read")


def _ip_adapter(folder: Path) -> None:
    parts.make_image_encoder().save_pretrained(folder / "models" / "image_encoder")
    rewrite(folder / "models" / "image_encoder" / "model.safetensors", _older_clip("vision_model", 17))
    (folder / "models" / "image_encoder" / "pytorch_model.bin").write_bytes(b"\x80\x02 not to be read")
    halves = {key: tensor.half() for key, tensor in parts.patch_adapter().items()}
    save_file(halves, folder / "models" / "ip-adapter-plus_sd15.safetensors")
    save_file(parts.global_adapter(), folder / "models" / "ip-adapter_sd15.safetensors")
    (folder / "models" / "ip-adapter-plus_sd15.bin").write_bytes(b"\x80\x02 not to be read")


def _sparse(folder: Path) -> None:
    sparse: SparseControlNetModel = parts.make_sparse()
    sparse.save_pretrained(folder)
    saved = json.loads((folder / "config.json").read_text())
    for key in ("conditioning_channels", "in_channels", "use_simplified_condition_embedding"):
        assert saved[key] == published.SPARSE_RGB[key]
