"""Which weights a part has on this machine, as a short text: another one as soon as what is loaded is another.

    a folder, a copy             a digest of its files: texts whole; of safetensors the size, the header and blocks all
                                 over the file, because gigabytes take minutes and new weights differ everywhere
    the hub's cache              the commit of its snapshot
    not on this machine          "absent"

Fetches nothing. Knows nothing of modules.
"""

import hashlib
import struct
from pathlib import Path

from stages.model.weights.files import local_folder, patterns
from stages.presets import Part

_BLOCK = 4096
_BLOCKS = 256  # of one file, evenly spread; a smaller one is read whole


def identity_of(name: str, part: Part) -> str:
    """Of the part of that name."""
    root = local_folder(name, part)
    if root is None:
        return "absent"
    if root.parent.name == "snapshots":
        return f"commit {root.name}"
    own = hashlib.sha256()
    for file in sorted({file for pattern in patterns(name, part) for file in root.glob(pattern) if file.is_file()}):
        own.update(file.relative_to(root).as_posix().encode())
        own.update(_sample(file))
    return f"files {own.hexdigest()}"


def _sample(file: Path) -> bytes:
    own, size = hashlib.sha256(), file.stat().st_size
    own.update(struct.pack("<Q", size))
    with file.open("rb") as opened:
        if file.suffix != ".safetensors" or size <= _BLOCKS * _BLOCK:
            own.update(opened.read())
            return own.digest()
        (length,) = struct.unpack("<Q", opened.read(8))
        own.update(opened.read(min(length, size)))
        for number in range(_BLOCKS):
            opened.seek((size - _BLOCK) * number // (_BLOCKS - 1))
            own.update(opened.read(_BLOCK))
    return own.digest()
