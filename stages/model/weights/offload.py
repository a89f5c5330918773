"""Where a stage's modules are while nothing runs, and how they visit the device to compute: `Speed.offload`.

"none": they stay there. "model": a module visits the device while it is lent. "layers": of the modules that run at
every step, each layer visits the device while it computes (accelerate's hooks); the others stay there. A module whose
part names a device of its own stays on that one. Takes modules on the CPU. Knows nothing of what they compute.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import accelerate
import torch
from torch import nn

from stages.speed import Offload

log = logging.getLogger(__name__)


class Places:
    """The modules of one stage."""

    def __init__(self, device: str | torch.device = "cpu", offload: Offload = "none") -> None:
        self.device = torch.device(device)
        self.offload: Offload = offload_on(self.device, offload)
        self._apart: list[nn.Module] = []

    def put(self, module: nn.Module, home: str | None = None, *, every_step: bool = False) -> None:
        """Where `module` is until it is lent, or for good: at `home`, where that is another device."""
        own = torch.device(home or self.device)
        if own != self.device:
            module.to(own)
            self._apart.append(module)
        elif self.offload == "layers" and every_step:
            accelerate.cpu_offload(module, self.device)
        elif self.offload != "model":
            module.to(self.device)

    @contextmanager
    def lend(self, *modules: nn.Module) -> Iterator[None]:
        """With `modules` where they compute; where whole models are offloaded, they leave the device afterwards."""
        if self.offload != "model":
            yield
            return
        guests = [module for module in modules if all(module is not other for other in self._apart)]
        try:
            for module in guests:
                module.to(self.device)
            yield
        finally:
            for module in guests:
                module.to("cpu")


def offload_on(device: torch.device, offload: Offload) -> Offload:
    """What is left of it there; the log says it once where that is nothing."""
    if device.type != "cpu" or offload == "none":
        return offload
    _tell_once(offload)
    return "none"


@cache
def _tell_once(offload: Offload) -> None:
    log.warning("On a CPU there is nothing to offload: `offload=%r` has no effect.", offload)
