"""Counts what a pass computes and how much memory its tensors hold at once, also on the meta device.

FLOPs are torch's own count (a multiply and an add are two). Attention is counted by its two matrix products, and its
scores take no memory: every device here computes it in one fused kernel. The peak holds everything that is alive beside
the weights and inputs which were there before, and what a convolution takes while it runs: the libraries of CPU and GPU
(oneDNN, cuDNN) copy what they read and write into a layout of their own, in groups of channels. Knows nothing of
stages.
"""

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from stages.model.layers import COUNTED_AS


_GROUP = 16  # channels that a kernel of convolution handles at once; measured on a CPU


@dataclass(frozen=True)
class Measured:
    """One pass."""

    flops: int
    peak_bytes: int


class _Attention(TorchFunctionMode):  # type: ignore[no-untyped-call]
    """Fused attention: its FLOPs, and its result without the scores."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value = (*args, *(kwargs or {}).get("value", ()))[:3]
        batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2]).numel()
        rows, columns = query.shape[-2], key.shape[-2]
        self.flops += 2 * batch * rows * columns * (query.shape[-1] + value.shape[-1])
        return query.new_empty((*query.shape[:-1], value.shape[-1]))


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Bytes of the storages that were made inside and are still referred to."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._cpu = COUNTED_AS.get() == "cpu"
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        beside = _reordered(func, args, result) if self._cpu else 0
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in given and storage._cdata not in self._known:
                    self._known.add(storage._cdata)
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now + beside)
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        if func is torch.ops.aten.convolution.default:
            self.peak = max(self.peak, self.now + _scratch(args[0], args[1], result))
        return result

    def _freed(self, number: int, nbytes: int) -> None:
        self._known.discard(number)
        self.now -= nbytes


def _scratch(given: Tensor, weight: Tensor, made: Tensor) -> int:
    """Bytes that a convolution takes and gives back: copies of input and weight, or then of the output. None for 1x1."""
    if weight.shape[2:].numel() == 1:
        return 0
    return max(_grouped(given) + weight.nbytes, _grouped(made))


def _grouped(features: Tensor) -> int:
    channels = features.shape[1]
    return features.nbytes // channels * (-(-channels // _GROUP) * _GROUP)


def _reordered(func: Any, args: Any, result: Any) -> int:
    """What a convolution holds beside its result on a CPU: copies in blocks of its input and weights, then of that."""
    if func is not torch.ops.aten.convolution.default or args[1].shape[-1] == 1:
        return 0
    return int(max(args[0].nbytes + args[1].nbytes, result.nbytes))


def measure(work: Callable[[], object]) -> Measured:
    """What `work` computes and holds; its result counts while it is made."""
    attention, live = _Attention(), _Live()
    with torch.no_grad(), FlopCounterMode(display=False) as meter, live, attention:
        result = work()
        del result
    return Measured(int(meter.get_total_flops()) + attention.flops, live.peak)
