"""VMAF of two encodes of the same pictures, by the ffmpeg that `imageio-ffmpeg` brings (the extra `vmaf`).

VMAF says how far people see what an encoder took away. Of two different videos it only says how much alike they are.
"""

import json
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from stages.measures.plugs import MeasureError

_LIMIT_S = 600.0
_ALIKE = "setpts=PTS-STARTPTS,format=yuv420p"


@cache
def ffmpeg() -> str:
    """The program.

    Raises:
        MeasureError: there is none here, or it was built without libvmaf.
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        program = str(get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        said = f"VMAF is not measured: {error}; pip install 'magicvideo[vmaf]' brings an ffmpeg."
        raise MeasureError(said) from error
    told = subprocess.run([program, "-hide_banner", "-filters"], check=False, capture_output=True, text=True)
    if " libvmaf " not in told.stdout:
        raise MeasureError(f"VMAF is not measured: {program} was built without libvmaf; update imageio-ffmpeg.")
    return program


def vmaf(made: Path, reference: Path) -> float:
    """0 to 100, the mean over the frames of two files of one size.

    Raises:
        MeasureError: there is no ffmpeg with libvmaf, or it cannot compare them.
    """
    with tempfile.TemporaryDirectory(prefix="magicvideo-vmaf-") as folder:
        compared = f"[0:v]{_ALIKE}[a];[1:v]{_ALIKE}[b];[a][b]libvmaf=log_fmt=json:log_path=vmaf.json:n_threads=1"
        files = ["-i", str(made.resolve()), "-i", str(reference.resolve())]
        command = [ffmpeg(), "-hide_banner", "-nostdin", "-v", "error", *files, "-lavfi", compared, "-f", "null", "-"]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, timeout=_LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise MeasureError(f"VMAF of {made.name} was not there after {_LIMIT_S:g} s.") from error
        told = Path(folder, "vmaf.json")
        if done.returncode != 0 or not told.is_file():
            said = (done.stderr.strip().splitlines() or ["ffmpeg says nothing"])[-1]
            raise MeasureError(f"{made} and {reference} cannot be compared: {said[:300]}.")
        return float(json.loads(told.read_text())["pooled_metrics"]["vmaf"]["mean"])
