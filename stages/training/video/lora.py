"""Low-rank training of a network's attention: W + B·A, of which only A and B learn (arXiv 2106.09685).

`add_lora` puts the sum in the place of each weight, so that the network's code is unchanged; it can be switched off
(the reference of DPO), merged into the weights, or saved in the hub's layout (`pytorch_lora_weights.safetensors`).
Knows nothing of losses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from client._shell.outputs import written
from stages.base import InputError

FILE = "pytorch_lora_weights.safetensors"
_LAYERS = ("to_q", "to_k", "to_v", "to_out.0")


class _Sum(nn.Module):
    """W -> W + up · down."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, weight.shape[1], device=weight.device) / rank)
        self.up = nn.Parameter(torch.zeros(weight.shape[0], rank, device=weight.device))
        self.on = True

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).to(weight.dtype) if self.on else weight


class Lora:
    """The low-rank changes of one network."""

    def __init__(self, changes: dict[str, tuple[nn.Linear, _Sum]]) -> None:
        self._changes = changes

    @contextmanager
    def off(self) -> Iterator[None]:
        """The network as it was."""
        for _, change in self._changes.values():
            change.on = False
        try:
            yield
        finally:
            for _, change in self._changes.values():
                change.on = True

    def merge(self) -> None:
        """Make the changes part of the weights, for good."""
        for layer, _ in self._changes.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        self._changes = {}

    def save(self, folder: Path, dtype: torch.dtype) -> None:
        """Write `FILE`; the scale is 1 (alpha equals the rank)."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for name, (_, change) in self._changes.items():
            tensors[f"unet.{name}.lora_A.weight"] = change.down.detach().to("cpu", dtype).contiguous()
            tensors[f"unet.{name}.lora_B.weight"] = change.up.detach().to("cpu", dtype).contiguous()
        with written(folder / FILE) as draft:
            save_file(tensors, draft, {"format": "pt"})


def add_lora(network: Any, rank: int) -> Lora:
    """Freeze `network` and give the projections of its attention a low-rank change, which learns and starts at zero.

    Raises:
        InputError: a rank that is too small, or a network without attention.
    """
    if rank < 1:
        raise InputError(f"The rank of a low-rank training is {rank}; it must be at least 1, 4 to 64 are usual.")
    network.requires_grad_(False)
    changes: dict[str, tuple[nn.Linear, _Sum]] = {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear) and ".attn" in name and name.endswith(_LAYERS):
            changes[name] = (layer, _Sum(layer.weight, rank))
    if not changes:
        raise InputError(f"{type(network).__name__} has no attention to train at rank {rank}; train it whole.")
    for layer, change in changes.values():
        parametrize.register_parametrization(layer, "weight", change)  # the weight stays frozen, as it is above
    return Lora(changes)
