"""Seconds, memory and bytes of each stage's calls, measured on this machine: `python -m stages profile --preset tiny`.

Loads one stage after the other and calls it over grey inputs of the preset's true sizes, with two lengths of the
denoising schedule and with the two shortest videos, some times each. Prints one JSON document: raw seconds, no model of
them; `cluster.planner.profiles` makes one. A stage that computes several calls at once is timed in batches too, one
size after the other in turns, so that a machine that is busy at times favours none. What leaves VFI is encoded by the
server, on the replica's own thread: that is timed by itself. Knows nothing of Ray or of pools.
"""

import datetime
import gc
import io
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import av
import numpy as np
import torch

from stages.base import BatchStage, Stage, ignore_progress
from stages.commands import check_device, device, positive, preset_parser, reports_errors
from stages.i2v import I2V
from stages.model.sampling.windows import plan_windows
from stages.presets import Plan, Preset, get_preset, plan
from stages.settings import I2VParams, T2IParams, V2VParams
from stages.t2i import T2I
from stages.types import STAGE_NAMES, Clip, Image, Keyframes, StageName, UInt8, Window
from stages.v2v import V2V
from stages.vfi import VFI

_CLASSES: dict[StageName, Any] = {"t2i": T2I, "i2v": I2V, "v2v": V2V, "vfi": VFI}
_LIBRARIES = ("torch", "diffusers", "transformers", "numpy")
_GIB = 2**30
_BATCHES = (1, 2, 4)


def run(words: list[str]) -> int:
    """The command; returns the exit status."""
    parser = preset_parser("profile", __doc__, "tiny")
    parser.add_argument("--device", type=device, default="cpu", help="where they run, such as cuda:0 (default: cpu)")
    parser.add_argument("--repeats", type=positive, default=3, help="calls of each kind (default: 3)")
    parser.add_argument("--stages", nargs="*", choices=STAGE_NAMES, default=list(STAGE_NAMES), help="only these")
    args = parser.parse_args(words)
    preset = get_preset(args.preset)
    check_device(args.device)
    print(json.dumps(measure(preset, args.device, args.repeats, args.stages)))
    return 0


def measure(preset: Preset, device: str, repeats: int, names: Sequence[StageName] = STAGE_NAMES) -> dict[str, Any]:
    """All that was measured, with what it was measured on."""
    return {
        "preset": preset.name,
        "device": device,
        "machine": _machine(device),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "libraries": {name: metadata.version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
        "threads": torch.get_num_threads(),
        "stages": {name: _stage(name, preset, device, repeats) for name in names},
    }


def _stage(name: StageName, preset: Preset, device: str, repeats: int) -> dict[str, Any]:
    gc.collect()
    before = _rss()
    started = time.perf_counter()
    stage = _CLASSES[name].load(preset, device)
    load_s = time.perf_counter() - started
    lengths = sorted(preset.keyframes, key=lambda seconds: preset.keyframes[seconds])
    full = plan(preset, "a fox", seconds=lengths[0])
    steps = sorted({max(1, _steps(full, name) // 2), _steps(full, name)})
    asked = [plan(preset, "a fox", seconds=lengths[0], steps=count) for count in steps]
    if name == "i2v" and len(lengths) > 1:  # the others' calls do not grow with the video: they have windows
        asked.append(plan(preset, "a fox", seconds=lengths[1]))
    _call(stage, name, replace_steps(asked[0], 1))  # what a library does at its first call is no call's cost
    calls = [_timed(stage, name, request, repeats) for request in asked]
    batches = _batches(stage, full[name], repeats) if isinstance(stage, BatchStage) else []
    peak = torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else _rss_peak() - before
    del stage
    found = {"load_s": load_s, "gib": max(0, peak) / _GIB, "calls": calls, "batches": batches}
    if name == "vfi":
        found["encode_s"] = statistics.median(_encoding_s(full.v2v.size, _frames(full, name)) for _ in range(repeats))
    return found


def replace_steps(request: Plan, steps: int) -> Plan:
    """The same with another length of every schedule."""
    found = {
        name: replace(getattr(request, name), denoising=replace(getattr(request, name).denoising, steps=steps))
        for name in ("t2i", "i2v", "v2v")
    }
    return replace(request, **found)


def _timed(stage: Stage, name: StageName, request: Plan, repeats: int) -> dict[str, Any]:
    seconds, bytes_out = [], 0
    for _ in range(repeats):
        started = time.perf_counter()
        bytes_out = _call(stage, name, request)
        seconds.append(time.perf_counter() - started)
    return {
        "steps": _steps(request, name),
        "frames": _frames(request, name),
        "pixels": _pixels(request, name),
        "batch": 1,
        "bytes_out": bytes_out,
        "seconds": seconds,
    }


def _batches(stage: BatchStage, params: Any, repeats: int) -> list[dict[str, Any]]:
    """The default call in batches of each size, in turns; none where its shape goes alone."""
    if stage.shape(params) is None:
        return []
    seconds: dict[int, list[float]] = {size: [] for size in _BATCHES}
    for _ in range(repeats):
        for size in _BATCHES:
            started = time.perf_counter()
            stage.batch([(params, 7 + number) for number in range(size)], ignore_progress)
            seconds[size].append(time.perf_counter() - started)
    return [{"batch": size, "seconds": seconds[size]} for size in _BATCHES]


def _call(stage: Stage, name: StageName, request: Plan) -> int:
    value = stage(*_inputs(name, request), params=request[name], seed=7, report=ignore_progress)
    return int(value.nbytes)


def _encoding_s(size: tuple[int, int], frames: int) -> float:
    """As the server does it, on one thread; of waves that move, with grain, for one grey costs nothing."""
    width, height = size
    x, y = np.linspace(0, 40, width)[None], np.linspace(0, 40, height)[:, None]
    grain = np.random.default_rng(0).normal(128, 4, (height, width))
    waves = [50 * np.sin(x + number / 5) + 50 * np.cos(y) + grain for number in range(frames)]
    pictures = [np.repeat(np.clip(own, 0, 255).astype(np.uint8)[..., None], 3, -1) for own in waves]
    started = time.perf_counter()
    with av.open(io.BytesIO(), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"crf": "16", "preset": "medium", "bf": "0", "x264-params": "scenecut=0:threads=1"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return time.perf_counter() - started


def _steps(request: Plan, name: StageName) -> int:
    """Passes of the network in one call; VFI has one for each frame, which its frames count."""
    denoised: dict[StageName, T2IParams | I2VParams | V2VParams]
    denoised = {"t2i": request.t2i, "i2v": request.i2v, "v2v": request.v2v}
    return int(denoised[name].denoising.steps) if name in denoised else 1


def _pixels(request: Plan, name: StageName) -> int:
    """Of a frame; VFI's are as large as V2V's."""
    sizes = {"t2i": request.t2i.size, "i2v": request.i2v.size}
    width, height = sizes.get(name, request.v2v.size)
    return width * height


def _frames(request: Plan, name: StageName) -> int:
    """Frames that one call makes: V2V's first window, VFI's in-between frames of it."""
    if name == "t2i":
        return 1
    if name == "i2v":
        return request.i2v.frames
    window = plan_windows(request.i2v.frames, request.v2v.windows)[0]
    return len(window) if name == "v2v" else (len(window) - 1) * request.vfi.factor + 1


def _inputs(name: StageName, request: Plan) -> tuple[Any, ...]:
    image = Image(_grey(request.t2i.size))
    clip = Clip(np.repeat(_grey(request.i2v.size)[None], request.i2v.frames, 0), request.i2v.fps)
    length = len(plan_windows(request.i2v.frames, request.v2v.windows)[0])
    shaded = np.stack([_grey(request.v2v.size) + np.uint8(2 * number) for number in range(length)])  # no cut, no copy
    window = Window(Clip(shaded, request.i2v.fps), 0, 0, 0, last=True)
    inputs: dict[StageName, tuple[Any, ...]] = {
        "t2i": (),
        "i2v": (image,),
        "v2v": (image, Keyframes(None, clip)),
        "vfi": (window,),
    }
    return inputs[name]


def _grey(size: tuple[int, int]) -> UInt8:
    return np.full((size[1], size[0], 3), 100, np.uint8)


def _rss() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _rss_peak() -> int:
    """Of the whole process so far; a stage that needs less than one before it is told too high."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _machine(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return f"{os.cpu_count()} x {models[0] if models else platform.machine()}"


main = reports_errors(run)

if __name__ == "__main__":
    sys.exit(main())
