"""Counts what a pass computes and how much memory its tensors hold at once, also on the meta device.

FLOPs are torch's own count (a multiply and an add are two). Attention is counted by its two matrix products, and its
scores take no memory: every device here computes it in one fused kernel. The peak holds everything that is alive beside
the weights and inputs which were there before, and what a convolution takes while it runs: oneDNN copies what it reads
and writes into a layout of its own, in groups of channels. That is measured on a CPU; a GPU's library chooses by shape
between copies and none, so there it is an upper bound. Knows nothing of stages.
"""

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from stages.model.hub.rehearsal import OnMeta, tensors_in
from stages.model.network.layers import COUNTED_AS

_GROUP = 16  # channels that a kernel of convolution handles at once; measured on a CPU


@dataclass(frozen=True)
class Measured:
    """One pass."""

    flops: int
    peak_bytes: int


class _Attention(TorchFunctionMode):
    """Fused attention: its FLOPs, and its result without the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return self._attend(*args, **(kwargs or {}))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        *batch, rows, width = query.shape  # (..., heads, L, d)
        self.flops += 2 * math.prod(batch) * rows * key.shape[-2] * (width + value.shape[-1])
        return query.new_empty((*batch, rows, value.shape[-1]))


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """FLOPs, and bytes of the storages that were made inside and are still referred to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        if func is torch.ops.aten.convolution.default and (_by_pixel(args[0]) or _by_pixel(args[1])):
            result = result.contiguous(memory_format=torch.channels_last)  # as on a device; meta forgets it
        given = {tensor.untyped_storage()._cdata for tensor in tensors_in((args, kwargs))}
        for tensor in tensors_in(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in given and storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        if func is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self.now + _scratch(args[0], args[1], result))
        return result

    def _freed(self, number: int, nbytes: int) -> None:
        self._known.discard(number)
        self.now -= nbytes


def _scratch(given: Tensor, weight: Tensor, made: Tensor) -> int:
    """Bytes that a convolution takes beside its result and gives back; none for 1x1."""
    if weight.shape[2:].numel() == 1:
        return 0
    if made.ndim == 5 and COUNTED_AS.get() == "cpu":  # in three dimensions a CPU unrolls what every result reads
        return made.numel() // made.shape[1] * weight[0].numel() * weight.element_size()
    if _by_pixel(made):  # computed in that layout, as it is
        return (0 if _by_pixel(given) else given.nbytes) + weight.nbytes
    read = _grouped(given) if given.shape[1] >= _GROUP else 0
    return max(read + weight.nbytes, _grouped(made))  # the weight's and the input's copy are gone before the result's


def _by_pixel(features: Tensor) -> bool:
    """Whether a pixel's channels lie side by side, "channels last"."""
    last = features.ndim == 4 and features.is_contiguous(memory_format=torch.channels_last)
    return last and not features.is_contiguous()


def _grouped(features: Tensor) -> int:
    channels = features.shape[1]
    return features.nbytes // channels * (-(-channels // _GROUP) * _GROUP)


def measure(work: Callable[[], object]) -> Measured:
    """What `work` computes and holds; its result counts while it is made."""
    attention, live = _Attention(), _Live()
    with OnMeta(outermost=True), torch.no_grad(), live, attention:
        result = work()
        del result
    return Measured(live.flops + attention.flops, live.peak)


@dataclass
class Tally:
    """Passes added up: their FLOPs, and the peak of the one that holds most."""

    flops: int = 0
    peak: int = 0

    def add(self, work: Callable[[], object], times: int = 1, held: int = 0) -> int:
        """Measure once, count `times`; `held` bytes lie beside it. Gives the FLOPs of one."""
        found = measure(work)
        self.flops += times * found.flops
        self.peak = max(self.peak, found.peak_bytes + held)
        return found.flops
