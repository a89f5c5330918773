"""Puts the next default set together: `python -m stages.training.default.assemble --out FOLDER`.

From what the trainings have left under the cache, finished or not: the autoencoder; text encoder, UNet and motion
module of the clips' run; where that has not begun, T2I's newest average with a motion module that does nothing yet.
Rows of the text encoder's and of the UNet's feed-forward layers are packed into a byte each
(`stages.model.weights.packed`), so that the set stays within 64 MB. The vocabulary goes beside them.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from stages.base import InputError
from stages.model.weights.packed import pack
from stages.training.default.clips import build_motion, widened
from stages.training.default.pictures import WIDTHS, build_unet
from stages.training.default.reading import build_text
from stages.training.default.words import TARGET
from stages.training.loop.loop import load_average
from stages.training.scenes.fetch import cache_folder

__all__ = ["assemble", "main"]

_PACKED = {"text_encoder": ("_proj.", ".fc1.", ".fc2.", "token_embedding."), "unet": (".ff.net.", ".time_emb_proj.")}


def assemble(cache: Path, out: Path) -> str:
    """Write every part below `out`; says what they were taken from.

    Raises:
        InputError: a training has left nothing yet.
    """
    vae, clips = cache / "autoencoder" / "finished" / "vae", cache / "clips"
    if not vae.is_dir():
        raise InputError(f"There is no finished autoencoder in {vae}; train it first.")
    made = next((clips / name for name in ("finished", "newest") if (clips / name / "unet").is_dir()), None)
    out.mkdir(parents=True, exist_ok=True)
    _copy(vae, out / "vae")
    if made is not None:
        for name in ("unet", "motion"):
            _copy(made / name, out / name)
        for name in ("text_encoder", "tokenizer"):
            _copy(clips / "start" / name, out / name)
        said = f"clips, {made.name}"
    else:
        said = f"pictures alone, step {_from_pictures(cache / 'pictures', out)}"
    for name, inside in _PACKED.items():
        file = next((out / name).glob("*.safetensors"))
        draft = file.with_suffix(".tmp")
        pack(file, draft, lambda key, tensor, inside=inside: _is_packed(key, tensor, inside))  # type: ignore[misc]
        draft.replace(file)
    shutil.copyfile(TARGET, out / "words.json")
    return said


def _is_packed(key: str, tensor: Tensor, inside: tuple[str, ...]) -> bool:
    return tensor.ndim > 1 and key.endswith("weight") and any(part in key for part in inside)


def _from_pictures(work: Path, out: Path) -> int:
    """T2I's newest average; the step it comes from.

    Raises:
        InputError: there is none.
    """
    tokenizer: Any = CLIPTokenizer.from_pretrained(work / "tokenizer") if (work / "tokenizer").is_dir() else None
    if tokenizer is None or not (work / "pictures.pt").exists():
        raise InputError(f"T2I has left nothing in {work} yet; train it first.")
    text: CLIPTextModel = build_text(tokenizer)
    spatial: UNet2DConditionModel = build_unet()
    step = load_average("pictures", nn.ModuleDict({"text": text, "unet": spatial}), work)
    _copy(work / "tokenizer", out / "tokenizer")
    modules: dict[str, Any] = {"text_encoder": text, "unet": widened(spatial), "motion": build_motion(WIDTHS)}
    for name, module in modules.items():
        module.half().save_pretrained(out / name, safe_serialization=True)
    return step


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.training.default.assemble", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="where the trainings are")
    parser.add_argument("--out", type=Path, required=True, help="the folder of parts to write")
    args = parser.parse_args()
    print(f"{args.out}: {assemble(args.cache, args.out)}")
    files = [file for file in args.out.rglob("*") if file.is_file()]
    print(f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB in {len(files)} files")


if __name__ == "__main__":
    main()
