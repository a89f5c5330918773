"""What a file of weights holds, told by its first bytes: safetensors that are whole, a pickle, a pointer of git-lfs.

A pickle is recognised by its name and by its first bytes, and never read: it can run code. Knows nothing of where a
part's files are.
"""

import json
import struct
from pathlib import Path
from typing import Any

from stages.base import WeightsError
from stages.presets import Part

PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
TEXTS = ("*.json", "*.txt", "*.model", "*.jinja")  # the last: how a message is laid out for a language model
_MAY_BE_POINTERS = (".safetensors", *(text.removeprefix("*") for text in TEXTS))
_POINTER = b"version https://git-lfs"  # how a file begins that git-lfs has not fetched yet


def refuse_pickle(name: str, part: Part, file: Path) -> None:
    """By the first bytes, whatever the file is called.

    Raises:
        WeightsError: it is a pickle.
    """
    refuse_pointer(name, file)
    with file.open("rb") as opened:
        head = opened.read(9)
    pickled = head[:2] == b"PK" or (head[:1] == b"\x80" and head[8:] != b"{")  # safetensors: a length, then JSON
    if file.suffix in PICKLES or pickled:
        raise WeightsError(
            f"Part {name!r} from {part.source}: {file.name} is a pickle, where safetensors belong; a pickle can run "
            f"code and is never read here: fetch the safetensors file."
        )


def refuse_pointer(name: str, file: Path) -> None:
    """Raises: WeightsError: git-lfs has left a pointer in the place of the file."""
    if is_pointer(file):
        raise WeightsError(
            f"Part {name!r} cannot be loaded from {file}: it is a git-lfs pointer, not the file; run `git lfs pull` "
            f"in {file.parent}."
        )


def refuse_pointers(name: str, folder: Path) -> None:
    """The same of every config and vocabulary in the folder, which the libraries would read as broken ones."""
    for pattern in TEXTS:
        for file in sorted(folder.glob(f"[!.]{pattern}")):
            refuse_pointer(name, file)


def is_pointer(file: Path) -> bool:
    """Whether the file is the line of git-lfs that stands for one."""
    with file.open("rb") as opened:
        return opened.read(len(_POINTER)) == _POINTER


def read_header(file: Path) -> dict[str, Any]:
    """Names, dtypes, shapes and offsets of a safetensors file, without its tensors.

    Raises:
        ValueError: it has no readable header.
    """
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8).ljust(8, b"\0"))
        if not 2 <= length <= file.stat().st_size - 8:
            raise ValueError(f"its header would be {length} bytes long, the file has {file.stat().st_size}")
        header: dict[str, Any] = json.loads(opened.read(length))
    return header


def check_whole(name: str, file: Path) -> None:
    try:
        header = read_header(file)
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
        wanted, found = 8 + length + max(ends, default=0), file.stat().st_size
        if found < wanted:
            raise ValueError(f"it is cut off after {found} of {wanted} bytes")
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise WeightsError(
            f"Part {name!r} cannot be loaded from {file} ({error}); check the folder or fetch it again."
        ) from error


def has_pointer(folder: Path) -> bool:
    return any(is_pointer(file) for file in folder.rglob("[!.]*") if file.suffix in _MAY_BE_POINTERS)
