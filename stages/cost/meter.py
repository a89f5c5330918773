"""Counts what a pass computes and how much memory its tensors hold at once, also on the meta device.

FLOPs are torch's own count (a multiply and an add are two). Attention is counted by its two matrix products, and its
scores take no memory: every device here computes it in one fused kernel. The peak holds everything that is alive beside
the weights and inputs which were there before. Knows nothing of stages.
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
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in given and storage._cdata not in self._known:
                    self._known.add(storage._cdata)
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        return result

    def _freed(self, number: int, nbytes: int) -> None:
        self._known.discard(number)
        self.now -= nbytes


def measure(work: Callable[[], object]) -> Measured:
    """What `work` computes and holds; its result counts while it is made."""
    attention, live = _Attention(), _Live()
    with torch.no_grad(), FlopCounterMode(display=False) as meter, live, attention:
        result = work()
        del result
    return Measured(int(meter.get_total_flops()) + attention.flops, live.peak)
