"""What a training command is given, judged before torch, a network or weights are loaded: data, places, presets.

Knows nothing of pixels: whether a clip can be decoded is told when it is opened.
"""

import argparse
import os
import pkgutil
from pathlib import Path

from client._shell.outputs import judge_folder, judge_output
from stages.base import InputError
from stages.commands import errors
from stages.presets import TINY, Preset, get_preset
from stages.training.own_data.manifest import load_manifest, load_pairs, load_prompts, write_manifest


def judge(args: argparse.Namespace) -> None:
    """Raises: InputError, RequestError or OutputError, one sentence on the first thing that cannot be."""
    for name in ("latents", "cache"):
        if getattr(args, name, None) is not None:
            judge_folder(getattr(args, name))
    if args.command == "manifest":
        judge_output(args.out)
    elif getattr(args, "out", None) is not None:
        judge_folder(args.out)
    if args.command is None:
        judge_start(args.start)
    if getattr(args, "videos", None) is not None and not args.videos.is_dir():
        raise InputError(f"There is no folder {args.videos}; name the one that holds the videos.")
    if hasattr(args, "preset"):
        find_preset(args.preset)
        find_precision(args.precision)
        {"refl": load_prompts, "dpo": load_pairs}.get(args.command, load_manifest)(args.data)


def write_list(args: argparse.Namespace) -> None:
    """The command `manifest`."""
    count, bare = write_manifest(args.folder, args.out)
    errors.print(f"{args.out}: {count} clips and pictures.", soft_wrap=True)
    if bare:
        said = f"{len(bare)} have no caption beside them and are left out, the first is {bare[0]}."
        errors.print(said, soft_wrap=True)


def find_preset(name: str) -> Preset:
    """A preset of the table, or "module:NAME" of a user's own.

    Raises:
        InputError: there is none.
    """
    if ":" not in name:
        return get_preset(name)
    try:
        found = pkgutil.resolve_name(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise InputError(f"There is no preset {name!r} ({error}); name it as module:NAME.") from error
    if not isinstance(found, Preset):
        raise InputError(f"{name!r} is a {type(found).__name__}; name a Preset.")
    return found


def find_precision(given: str | None) -> str:
    """What is asked for, else what accelerate says.

    Raises:
        InputError: there is no such one.
    """
    found = given or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if found not in PRECISIONS:
        raise InputError(f"The precision is {found!r}; it must be one of: {', '.join(PRECISIONS)}.")
    return found


def judge_start(where: Path | None) -> None:
    """Raises: InputError, where the folder to go on from holds no tiny weights."""
    parts = [Path(part.source).name for part in TINY.parts.values() if part.source.startswith("embedded:tiny/")]
    missing = [name for name in parts if where is not None and not (where / name).is_dir()]
    if missing:
        raise InputError(
            f"--start is {where}, which has no folder {missing[0]!r}; give a folder of tiny weights, such as "
            "stages/weights/tiny."
        )


PRECISIONS = ("no", "bf16", "fp16")
