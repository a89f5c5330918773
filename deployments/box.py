"""One machine with GPUs: which there are, what a preset needs of them, and what goes where, said before anything loads.

GPUs are those of `nvidia-smi`, with what is free of their memory; needs are counted by `python -m stages cost` for the
largest video that the preset allows, in a process of its own, so that this one never loads torch.
`settings.placement` decides. Gives the application's arguments, or one sentence about what is missing.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from deployments.api.gate import is_loopback
from deployments.errors import ConfigError, StartError
from deployments.settings.placement import GIB, Gpu, Placement, needs_of, place
from stages.presets import RequestError, get_preset

CPU_PRESET = "tiny"  # the one that a CPU is good for
MAX_JOBS = 8  # in flight at once; their values lie in the object store
_QUERY = ("index", "uuid", "name", "memory.total", "memory.free")
_NEXT = f"take --preset {CPU_PRESET}, which runs on the CPU, or the GPUs of a cluster with --cluster"


@dataclass(frozen=True)
class Box:
    """What was found and decided."""

    preset: str
    gpus: tuple[Gpu, ...]
    placement: Placement
    store_bytes: int  # of shared memory, for the values of `MAX_JOBS` jobs
    absent: tuple[str, ...]  # parts whose weights are not here yet

    @property
    def visible(self) -> tuple[str, ...]:
        """The GPUs as CUDA_VISIBLE_DEVICES names them."""
        return tuple(str(gpu.index) for gpu in self.gpus)

    def report(self, host: str, port: int) -> str:
        """Where everything is, what it needs, what is missing, and who may ask."""
        lines = [f"Preset {self.preset} on {_counted(len(self.gpus), 'GPU')}:", *self.placement.lines(self.gpus)]
        if self.placement.main_gib:
            free_gib = psutil.virtual_memory().available / GIB
            lines.append(f"  main memory ({free_gib:.1f} GiB free): {self.placement.main_gib:.1f} GiB of weights")
        if self.absent:
            lines.append(
                f"  missing weights: {', '.join(self.absent)}; the start fetches them from the hub, or before it "
                f"`python -m stages weights --preset {self.preset} --pull`"
            )
        if self.placement.unused:
            unused = ", ".join(map(str, self.placement.unused))
            lines.append(
                f"  GPU {unused}: left out, as what computes most has no room there but with weights in main memory"
            )
        whom = (
            "this machine alone; for others add --host 0.0.0.0, after `python -m deployments keys create --tenant NAME`"
            if is_loopback(host)
            else "every machine that has one of its API keys"
        )
        lines.append(f"  {host}:{port} answers {whom}")
        return "\n".join(lines)


def look(preset: str, wanted: str) -> Box:
    """Find the GPUs that `wanted` names ("auto": all that CUDA_VISIBLE_DEVICES leaves), and place the preset's stages.

    Raises:
        ConfigError: there is no such preset or GPU, no GPU at all, or too little memory.
        StartError: `nvidia-smi` or the count of what is needed failed.
    """
    try:
        known = get_preset(preset)
    except RequestError as error:
        raise ConfigError(f"--preset: {error}") from error
    gpus = choose(find_gpus(), wanted, preset)
    print(f"Counting what preset {preset} needs ...", file=sys.stderr, flush=True)
    size = max(known.sizes, key=lambda name: known.sizes[name].v2v[0] * known.sizes[name].v2v[1])
    seconds = max(known.keyframes, key=lambda name: known.keyframes[name])
    cost = _stages_say("cost", "--preset", preset, "--size", size, "--seconds", seconds, "--json")
    placement = place(gpus, needs_of(cost), preset)
    free_gib = psutil.virtual_memory().available / GIB
    if placement.main_gib > free_gib:
        raise ConfigError(
            f"What does not fit on the GPUs, {placement.main_gib:.1f} GiB of weights of preset {preset}, waits in main "
            f"memory, and {free_gib:.1f} GiB of that are free; give more GPUs with --gpus, or {_NEXT}."
        )
    values = sum(cost["stages"][name]["output_bytes"] for name in ("t2i", "i2v", "v2v"))
    absent = _stages_say("weights", "--preset", preset, "--json")["absent"]
    return Box(preset, gpus, placement, MAX_JOBS * values, tuple(absent))


def find_gpus() -> tuple[tuple[Gpu, str], ...]:
    """Every GPU of this machine with its UUID, in the order of the PCI bus; none where there is no `nvidia-smi`.

    Raises:
        StartError: `nvidia-smi` is there and does not say what it should.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60.0)
    except FileNotFoundError:
        return ()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StartError(f"nvidia-smi does not answer ({error}); look at the GPUs' driver.") from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())[:300] or f"exit code {done.returncode}"
        if "No devices were found" in said:
            return ()
        raise StartError(f"nvidia-smi fails: {said.rstrip('.')}; look at the GPUs' driver.")
    return tuple(_gpu(line) for line in done.stdout.splitlines() if line.strip())


def _gpu(line: str) -> tuple[Gpu, str]:
    try:
        index, uuid, name, total, free = (cell.strip() for cell in line.split(","))
        return Gpu(int(index), int(free) / 1024, name, int(total) / 1024), uuid
    except ValueError as error:
        raise StartError(
            f"nvidia-smi says {line.strip()!r} in the place of {', '.join(_QUERY)}; name what there is in a Serve "
            "config, and start with --cluster."
        ) from error


def choose(found: Sequence[tuple[Gpu, str]], wanted: str, preset: str) -> tuple[Gpu, ...]:
    """The GPUs that are named, by index.

    Raises:
        ConfigError: one of them is not there, is named twice, or there is none.
    """
    have = f"GPU {', '.join(str(gpu.index) for gpu, _ in found)}"
    if not found:
        raise ConfigError(f"This machine has no GPU that nvidia-smi shows, and preset {preset} needs one; {_NEXT}.")
    if wanted != "auto":
        if not re.fullmatch(r"\d+(,\d+)*", wanted):
            raise ConfigError(f"--gpus is {wanted!r}; it must be auto, or indices like 0,1.")
        indices = [int(part) for part in wanted.split(",")]
        if missing := [index for index in indices if index not in [gpu.index for gpu, _ in found]]:
            raise ConfigError(
                f"--gpus names GPU {missing[0]}, and this machine has {have}; name some of those, or auto."
            )
        if len(set(indices)) < len(indices):
            raise ConfigError(f"--gpus is {wanted}, which names a GPU twice; name each once.")
        return tuple(gpu for gpu, _ in found if gpu.index in indices)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(gpu for gpu, _ in found)
    names = [name.strip() for name in visible.split(",") if name.strip()]
    left = tuple(gpu for gpu, uuid in found if any(name in (str(gpu.index), uuid) for name in names))
    if not left:
        raise ConfigError(f"CUDA_VISIBLE_DEVICES is {visible!r}, and this machine has {have}; unset it, or use --gpus.")
    return left


def check_words(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other.

    Raises:
        ConfigError: a preset or GPUs are named where these come from elsewhere.
    """
    named = f"--preset {options.preset}" if options.preset is not None else f"--gpus {options.gpus}"
    asked = options.preset is not None or options.gpus is not None
    if options.cluster and (asked or options.plan):
        excess = named if asked else "--plan"
        raise ConfigError(f"With --cluster the preset and the GPUs stand in {options.config}; leave out {excess}.")
    if options.laptop and on_gpus(options):
        raise ConfigError(f"--laptop uses no GPU, and {named} asks for one; leave out one of them.")


def on_gpus(options: argparse.Namespace) -> bool:
    """Whether the server is to run on this machine's GPUs."""
    return not options.cluster and (options.preset not in (None, CPU_PRESET) or options.gpus is not None)


def _stages_say(*words: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "stages", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = " ".join(done.stderr.strip().splitlines()[-1:]).removeprefix("Error: ") or f"exit code {done.returncode}"
        raise StartError(f"`python -m stages {' '.join(words)}` failed: {why}")
    document: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return document


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
