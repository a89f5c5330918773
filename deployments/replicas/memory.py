"""The most memory that a call has needed: what PyTorch allocated of a CUDA device, else what was resident of this
process.

Both hold the stage's weights, too. The kernel's own high-water mark is read (`VmHWM`, set back before each call), so
that no moment is missed; where there is none, as on macOS, nothing is said. Knows nothing of stages.
"""

import contextlib
import re
import sys
from pathlib import Path
from typing import Any

_MIB = 2**20
_SET_BACK, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_HIGHEST = re.compile(r"^VmHWM:\s+(\d+) kB", re.MULTILINE)


class PeakMemory:
    """Of one call after the other."""

    def __init__(self, device: str) -> None:
        self._device, self._is_cuda = device, device.startswith("cuda")
        self._counts = False  # the kernel has set its mark back

    def begin(self) -> None:
        """A call begins."""
        if self._is_cuda:
            if self._cuda is not None:
                self._cuda.reset_peak_memory_stats(self._device)
            return
        self._counts = False
        with contextlib.suppress(OSError):
            _SET_BACK.write_text("5")
            self._counts = True

    def mb(self) -> float | None:
        """The most since then, in MiB; None where nobody counts it."""
        if self._is_cuda:
            return None if self._cuda is None else round(float(self._cuda.max_memory_allocated(self._device)) / _MIB, 1)
        found = _HIGHEST.search(_STATUS.read_text()) if self._counts else None
        return found and round(int(found[1]) / 1024, 1)

    @property
    def _cuda(self) -> Any:
        """PyTorch's module, once a stage has put something on a GPU."""
        cuda = torch.cuda if (torch := sys.modules.get("torch")) is not None else None
        return cuda if cuda is not None and cuda.is_initialized() else None
