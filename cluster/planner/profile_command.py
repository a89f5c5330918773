"""`python -m cluster profile`: measure this machine, or estimate GPUs from what a preset computes.

Measuring runs `python -m stages profile` in a process of its own, so that nothing here needs torch. An estimate takes
the operations and bytes that `python -m stages cost --json` counts, the published peak of each GPU and the share of it
that such models reach, and is labelled an estimate wherever it is shown.
"""

import argparse
import datetime
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from client._shell.outputs import is_stdout, judge_output
from client._shell.terminal import make_console, tell
from cluster.planner.efficiency import BASE_MODEL_S, ENCODE_S, PIPELINE_S, STEP_S, reached
from cluster.planner.profiles import AcceleratorProfile, Profile, ProfileError, StageProfile, fitted, save_profile
from stages import commands
from stages.model.sampling.windows import plan_windows
from stages.presets import Preset, RequestError, get_preset, plan
from stages.settings import I2VParams, T2IParams, V2VParams
from stages.types import STAGE_NAMES, StageName

_GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """Of the maker's data sheet: dense BF16 tensor operations a second, memory."""

    tflops: float
    gib: float
    sheet: str


GPUS: dict[str, Gpu] = {
    "H100": Gpu(989.4, 80, "NVIDIA H100 SXM data sheet: 1,979 TFLOPS BF16 with sparsity, half without; 80 GB"),
    "A100": Gpu(312.0, 80, "NVIDIA A100 data sheet: 312 TFLOPS BF16; 80 GB"),
    "H200": Gpu(989.4, 141, "NVIDIA H200 data sheet: 1,979 TFLOPS BF16 with sparsity, half without; 141 GB"),
    "L40S": Gpu(362.05, 48, "NVIDIA L40S data sheet: 362.05 TFLOPS BF16; 48 GB"),
    "A10G": Gpu(70.0, 24, "AWS g5 instances: A10G, 70 TFLOPS FP16 tensor; 24 GB"),
}


def add_command(parsers: Any) -> None:
    """Put it on `python -m cluster`."""
    command = parsers.add_parser("profile", help="measure the stages on this machine, or estimate GPUs")
    command.set_defaults(run=run)
    command.add_argument("--preset", default="tiny", help="whose stages (%(default)s)")
    command.add_argument("--device", type=commands.device, default="cpu", help="cpu, or cuda:0 (%(default)s)")
    command.add_argument("--accelerator", help="name of the device in pools.yaml; the device's kind when left out")
    command.add_argument("--gib", type=float, help="memory of the device; 24 for a CPU when left out")
    command.add_argument("--repeats", type=commands.positive, default=3, help="calls of each kind (%(default)s)")
    command.add_argument("--estimate", action="store_true", help=f"no measuring: {', '.join(GPUS)} from data sheets")
    command.add_argument("--out", type=Path, help="file to write; NAME.json here when left out")


def run(options: argparse.Namespace) -> int:
    """The command."""
    try:
        preset = get_preset(options.preset)
    except RequestError as error:
        raise ProfileError(str(error)) from error
    _judge(options)
    kind = "estimate" if options.estimate else options.device.partition(":")[0]
    path = options.out or Path(f"{preset.name}-{kind}.json" if options.estimate else f"{kind}-{preset.name}.json")
    judge_output(path)
    profile = estimate(preset) if options.estimate else measure(preset, options)
    save_profile(profile, path)
    show(profile)
    if not is_stdout(path):
        tell(str(path))
        tell(f"Next: python -m cluster plan --preset {preset.name} --profile {path} --rate 6/min --p95 300", err=True)
    return 0


def _judge(options: argparse.Namespace) -> None:
    """Raises ProfileError before minutes of measuring."""
    if options.gib is not None and not 0 < options.gib < math.inf:
        raise ProfileError(f"--gib is {options.gib:g}; it must be above 0 and finite, like 80.")
    told = {"--device": options.device != "cpu", "--accelerator": options.accelerator, "--gib": options.gib}
    if options.estimate and (beside := [name for name, given in told.items() if given]):
        raise ProfileError(
            f"--estimate measures nothing and is of {', '.join(GPUS)}, so {beside[0]} says nothing; leave out one."
        )


def measure(preset: Preset, options: argparse.Namespace) -> Profile:
    """From calls of the real stages.

    Raises:
        ProfileError: they did not run.
    """
    arguments = ["profile", "--preset", preset.name, "--device", options.device, "--repeats", str(options.repeats)]
    document = _stages_say(arguments)
    accelerator = options.accelerator or options.device.partition(":")[0]
    return fitted(document, accelerator=accelerator, gib=options.gib or 24.0, calls=calls_of(preset))


def estimate(preset: Preset) -> Profile:
    """From operations and data sheets.

    Raises:
        ProfileError: they cannot be counted for this preset.
    """
    costs = _stages_say(["cost", "--preset", preset.name, "--json"])["stages"]
    request = plan(preset, "x")
    window = len(plan_windows(request.i2v.frames, request.v2v.windows)[0])
    frames: dict[StageName, int] = {"t2i": 1, "i2v": request.i2v.frames, "v2v": window}
    frames["vfi"] = (window - 1) * request.vfi.factor + 1
    denoised: dict[StageName, T2IParams | I2VParams | V2VParams]
    denoised = {"t2i": request.t2i, "i2v": request.i2v, "v2v": request.v2v}
    found = {}
    for accelerator, gpu in GPUS.items():
        stages, per_s = {}, gpu.tflops * 1e12 * reached(accelerator)
        for name in STAGE_NAMES:
            cost, params = costs[name], denoised.get(name, request.v2v)
            seconds = cost["flops"] / cost["calls"] / per_s
            steps, pixels = params.denoising.steps if name in denoised else 1, params.size[0] * params.size[1]
            stepped = min(seconds, steps * cost["step_flops"] / per_s) or seconds
            stages[name] = StageProfile(
                fixed_s=round(seconds - stepped, 4),
                step_s=round(stepped / steps, 6),
                encode_s=round(ENCODE_S * frames[name] * pixels / 1e6, 4) if name == "vfi" else 0.0,
                steps=steps,
                frames=frames[name],
                pixels=pixels,
                calls=cost["calls"],
                cv=0.05,
                gib=round(cost["memory_bytes"] / _GIB, 2),
                bytes_out=cost["output_bytes"] // cost["calls"],
                load_s=round(PIPELINE_S + (BASE_MODEL_S if name in denoised else 0.0), 2),
            )
        found[accelerator] = AcceleratorProfile(gib=gpu.gib, stages=stages)
    shares = ", ".join(f"{name} {reached(name):.0%}" for name in STEP_S)
    sheets = "; ".join(gpu.sheet for gpu in GPUS.values())
    return Profile(
        preset=preset.name,
        kind="estimate",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        accelerators=found,
        note=(
            f"AN ESTIMATE, nothing was measured here: counted operations over the share of the published peak that "
            f"FLUX.1 reached in StreamWise's measurements ({shares}; others as the least of them: {sheets}), without "
            f"what memory costs; VFI encodes on a core, {ENCODE_S:g} s a megapixel as measured on a cloud's CPU; "
            "loading takes the medians of Alibaba's "
            "GenTD26; a spread of 5 % is an assumption, and no batch is taken to save anything: operations grow with "
            "its size, and how well small ones fill a GPU is not counted."
        ),
    )


def calls_of(preset: Preset) -> dict[StageName, int]:
    """Calls of each stage in a default job."""
    request = plan(preset, "x")
    windows = len(plan_windows(request.i2v.frames, request.v2v.windows))
    return {"t2i": 1, "i2v": 1, "v2v": windows, "vfi": windows}


def show(profile: Profile) -> None:
    """As a table."""
    console = make_console(stderr=True)
    for accelerator, device in profile.accelerators.items():
        table = Table(title=f"{profile.preset} on {accelerator}, {profile.kind}", title_justify="left")
        for column in ("stage", "calls", "s a call", "s a step", "spread", "GiB", "MB a call", "load s", "batch"):
            table.add_column(column, justify="left" if column == "stage" else "right")
        for name in STAGE_NAMES:
            own = device.stages[name]
            cells = (f"{own.call_s():.2f}", f"{own.step_s:.3f}", f"{own.cv:.1%}", f"{own.gib:.1f}")
            table.add_row(
                name, str(own.calls), *cells, f"{own.bytes_out / 1e6:.1f}", f"{own.load_s:.1f}", str(own.batch)
            )
        console.print(table)


def _stages_say(arguments: Sequence[str]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "stages", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = " ".join(done.stderr.strip().splitlines()[-1:]) or f"exit code {done.returncode}"
        raise ProfileError(f"`python -m stages {' '.join(arguments)}` failed: {why}")
    document: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return document
