"""One call of a pipeline shared by several devices: a process each, which holds the whole pipeline and computes a part
of the sequence (context parallelism of diffusers, by Ulysses).

A `Gang` stands in the place of `HubAnimator`, `HubRedrawer` or T2I's `Pipeline`. It hands every call to all of its
processes and gives the first one's value. At each report all of them ask whether to go on, so that a cancelled call
stops at one step everywhere. One that dies or fails alone ends them all, and the next call starts them again. On a CPU
they talk by gloo, on GPUs by NCCL. A call never stops to go on elsewhere: that is not built here.
"""

import contextlib
import copyreg
import multiprocessing
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, cast

import diffusers
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh

from stages.base import Cancelled, Report, StageError
from stages.model.hub.knobs import denoisers
from stages.model.sampling.stops import NO_STOPS, Stops
from stages.presets import Preset
from stages.types import StageName

_TOGETHER_S = 30.0  # after one has failed, within which the others must have, too, to be called again
_SILENT = timedelta(hours=2)  # torch gives up on a peer after that; who dies is seen at once


def _frozen(mapping: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(mapping)


def _plain(mapping: MappingProxyType[Any, Any]) -> tuple[Any, tuple[dict[Any, Any]]]:
    return _frozen, (dict(mapping),)


copyreg.pickle(MappingProxyType, _plain)  # a preset's, on its way to the processes


@dataclass(frozen=True)
class _Order:
    """What one process is to be."""

    maker: type
    preset: Preset
    device: str
    rank: int
    size: int
    threads: int
    meeting: str  # a file by which they find each other


class Gang:
    """See the top of this module."""

    facts: Mapping[str, str] = MappingProxyType({})  # so the stage cannot yield

    def __init__(self, maker: type, preset: Preset, stage: StageName, device: str, who: str) -> None:
        """`preset` has a `Speed` of several GPUs for the stage, `maker` loads what each process calls."""
        size, target = preset.speed(stage).gpus, torch.device(device)
        alone = replace(preset.speed(stage), gpus=1)
        self._preset = replace(preset, speeds=MappingProxyType({**preset.speeds, stage: alone}))
        first = target.index or 0
        self._devices = [device if target.type == "cpu" else f"{target.type}:{first + rank}" for rank in range(size)]
        self._maker, self.who = maker, f"{who} on {size} devices"
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def load(cls, maker: Any, preset: Preset, stage: StageName, device: str) -> Self:
        """Started and loaded.

        Raises:
            WeightsError: as `maker.load` does, in any of the processes.
            SpeedError: the pipeline cannot be shared, or there are not as many devices.
        """
        made = cls(maker, preset, stage, device, f"{stage.upper()}'s {maker.check(preset, device)}")
        made._start()
        return made

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report, stops: Stops = NO_STOPS) -> Any:
        """As the maker's own."""
        return self._run("__call__", inputs, {"params": params, "seed": seed}, report)

    def paint(self, requests: Any, report: Report, stops: Stops = NO_STOPS) -> Any:
        """As T2I's."""
        return self._run("paint", (list(requests),), {}, report)

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.kill()
            process.join()
        self._pipes, self._processes = [], []
        if self._folder is not None:
            self._folder.cleanup()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        threads = max(1, torch.get_num_threads() // len(self._devices))
        self._folder = tempfile.TemporaryDirectory(prefix="gang-")
        meeting = str(Path(self._folder.name, "meeting"))
        answers: dict[int, Any] = {}
        try:
            for rank, device in enumerate(self._devices):
                here, there = context.Pipe()
                order = _Order(self._maker, self._preset, device, rank, len(self._devices), threads, meeting)
                process = context.Process(target=_live, args=(order, there), daemon=True, name=f"gang-{rank}")
                process.start()
                there.close()
                self._pipes.append(here)
                self._processes.append(process)
            while len(answers) < len(self._pipes):
                for rank in self._ready(answers):
                    answers[rank] = self._receive(rank)[1]
                    if isinstance(answers[rank], Exception):
                        raise answers[rank]
        except BaseException:
            self.close()
            raise

    def _run(self, method: str, inputs: tuple[Any, ...], options: Mapping[str, Any], report: Report) -> Any:
        if not self._processes:
            self._start()
        answers: dict[int, Any] = {}
        stopped: BaseException | None = None
        steps = 0
        try:
            self._tell((method, inputs, dict(options)), answers)
            while len(answers) < len(self._pipes):
                for rank in self._ready(answers):
                    kind, value = self._receive(rank)
                    if kind == "done":
                        answers[rank] = value
                        continue
                    steps += 1
                    if stopped is None:
                        try:
                            report(*value)
                        except BaseException as raised:
                            stopped = raised
                    self._tell(stopped is None and not _failures(answers), answers)
        except BaseException:
            self.close()
            raise
        failed = _failures(answers)
        if stopped is not None and all(isinstance(answer, Cancelled) for answer in failed):
            raise stopped
        if failed:
            if steps or len(failed) < len(answers):  # they may be apart by now; a wrong input is seen before any step
                self.close()
            raise next((answer for answer in failed if not isinstance(answer, Cancelled)), failed[0])
        return answers[0]

    def _tell(self, what: Any, answers: Mapping[int, Any]) -> None:
        """All that have not answered."""
        for rank, pipe in enumerate(self._pipes):
            if rank not in answers:
                with contextlib.suppress(OSError):  # it has died, which is seen when its answer is waited for
                    pipe.send(what)

    def _ready(self, answers: Mapping[int, Any]) -> list[int]:
        """Who says something; waited for. Where one has failed, the others do, too, or wait for it for ever."""
        open_ = {pipe: rank for rank, pipe in enumerate(self._pipes) if rank not in answers}
        failed = _failures(answers)
        ready = [open_[cast(Connection, pipe)] for pipe in wait(open_, _TOGETHER_S if failed else None)]
        if not ready:
            raise failed[0]
        return sorted(ready)

    def _receive(self, rank: int) -> tuple[str, Any]:
        try:
            said: tuple[str, Any] = self._pipes[rank].recv()
            return said
        except (EOFError, OSError):
            process = self._processes[rank]
            process.join(_TOGETHER_S)
            raise StageError(
                f"{self.who}: process {rank} of {len(self._pipes)} has ended (exit code {process.exitcode}); the next "
                f"call starts them again: look into the log of the replica, most often memory is short."
            ) from None


def _failures(answers: Mapping[int, Any]) -> list[Exception]:
    return [answer for answer in answers.values() if isinstance(answer, Exception)]


def _live(order: _Order, pipe: Connection) -> None:
    """A process of a gang, to the end of its parent."""
    target = torch.device(order.device)
    torch.set_num_threads(order.threads)
    try:
        if target.type == "cuda":
            torch.cuda.set_device(target)
        else:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        distributed.init_process_group(
            "nccl" if target.type == "cuda" else "gloo",
            init_method=f"file://{order.meeting}",
            rank=order.rank,
            world_size=order.size,
            timeout=_SILENT,
        )
        made = cast(Any, order.maker).load(order.preset, order.device)
        _share(made.runner.pipeline, order, target)
    except Exception as error:
        pipe.send(("ready", _sent(error)))
        return
    pipe.send(("ready", None))
    with contextlib.suppress(EOFError, OSError):  # the parent has ended
        while True:
            pipe.send(("done", _answer(made, pipe, order.rank)))


def _answer(made: Any, pipe: Connection, rank: int) -> Any:
    """The value of the next call, of the first process; or what was raised."""
    method, inputs, options = pipe.recv()

    def report(step: int, total: int) -> None:
        if rank == 0:
            pipe.send(("step", (step, total)))
        if not pipe.recv():
            raise Cancelled

    try:
        value = getattr(made, method)(*inputs, **options, report=report)
        return value if rank == 0 else None
    except (EOFError, OSError):
        raise
    except Exception as error:
        return _sent(error)


def _sent(error: Exception) -> Exception:
    """What surely arrives: errors of libraries may not come out of a pickle."""
    return error if isinstance(error, StageError | Cancelled) else StageError(f"{type(error).__name__}: {error}")


def _share(pipeline: Any, order: _Order, target: torch.device) -> None:
    """Have the denoising networks of all processes compute as one."""
    shape, names = (1, order.size), ("ring", "ulysses")
    mesh = init_device_mesh(target.type, shape, mesh_dim_names=names)

    def resolved(network: Any, config: Any) -> Any:
        """As diffusers does, but with the mesh of this process' device, which may be a CPU."""
        whole = diffusers.ParallelConfig(context_parallel_config=config)
        whole.setup(order.rank, order.size, target, mesh=mesh)
        network._parallel_config = whole
        return whole

    for network in denoisers(pipeline).values():
        network._resolve_parallel_config = partial(resolved, network)
        network.enable_parallelism(
            config=diffusers.ContextParallelConfig(ulysses_degree=order.size, ulysses_anything=True)
        )
