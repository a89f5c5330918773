"""The processes that train together: one on a laptop, one a GPU under `accelerate launch`.

Takes what the launcher put into the environment; gives each process its rank, its device, and gradients that are the
mean over all (torch's DistributedDataParallel; gloo on CPUs, NCCL on GPUs). Every process holds the whole model. Knows
nothing of what is trained.
"""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import nn

from stages.base import InputError


@dataclass(frozen=True)
class Team:
    """This process among `size`; rank 0 writes files and speaks."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    def join(cls, device: str = "auto") -> Self:
        """Meet the other processes, if a launcher started more than one.

        Args:
            device: "auto" (a GPU where there is one), "cpu" or "cuda".

        Raises:
            InputError: "cuda" where there is none, or processes that do not find each other.
        """
        from accelerate import PartialState

        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("The device is cuda, this machine has none that torch can use; use --device cpu.")
        told = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
        state = PartialState(cpu=told or device == "cpu" or not torch.accelerator.is_available())
        if (meant := int(os.environ.get("WORLD_SIZE", "1"))) != state.num_processes:
            raise InputError(
                f"The launcher started {meant} processes, this one knows of {state.num_processes}; start them with "
                f"`accelerate launch --multi_gpu --num_processes {meant}`, or with torchrun."
            )
        return cls(int(state.process_index), int(state.num_processes), torch.device(state.device))

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def spread(self, module: nn.Module) -> nn.Module:
        """`module` with gradients that are the mean over all processes, and the weights of rank 0."""
        if self.size == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            module, device_ids=devices, find_unused_parameters=True, broadcast_buffers=False
        )

    def hold(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Gradients stay local inside: for all but the last of several batches that make up one step."""
        return module.no_sync() if isinstance(module, nn.parallel.DistributedDataParallel) else nullcontext()

    def mean(self, value: float) -> float:
        """The mean of every process's `value`; all must ask."""
        if self.size == 1:
            return value
        total = torch.tensor([value], dtype=torch.float64 if self.device.type == "cpu" else torch.float32)
        total = total.to(self.device)
        torch.distributed.all_reduce(total)
        return float(total) / self.size

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            torch.distributed.barrier()

    def leave(self) -> None:
        """Part from the others, at the end of a program."""
        if self.size > 1:
            torch.distributed.destroy_process_group()

    def once(self, make: Callable[[], None]) -> None:
        """`make` in the first process alone, while the others wait for it."""
        if self.leads:
            make()
        self.wait()
