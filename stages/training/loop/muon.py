"""Muon: steps of equal size in every direction of a layer's weights; for convolutions several times faster than AdamW.

The momentum of a weight, taken as a matrix of (outputs, inputs x kernel), is replaced by the nearest matrix whose
singular values are about one, by five rounds of a Newton-Schulz iteration (K. Jordan et al., "Muon: an optimizer for
hidden layers in neural networks", 2024), scaled so that a step is about as long as AdamW's (arXiv 2502.16982, section
2.2). Vectors, and the parameters named `plain`, take AdamW's steps; those named `slow` learn at a share of the rate.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Muon", "orthogonalised"]

_ROUNDS = 5
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_LENGTH = 0.2  # root mean square of AdamW's steps, measured by others
_TINY = 1e-7


class Muon(torch.optim.Optimizer):
    """Over `parameters`; those in `plain` and all vectors by AdamW. The rate of those in `plain` is multiplied by
    `plain_gain`, that of those in `slow` by `slow_gain`."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float,
        *,
        plain: Iterable[nn.Parameter] = (),
        plain_gain: float = 1.0,
        slow: Iterable[nn.Parameter] = (),
        slow_gain: float = 1.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.01,
    ) -> None:
        every, apart = list(parameters), {id(parameter) for parameter in plain}
        slowed = {id(parameter) for parameter in slow}
        kinds = {
            "muon": [p for p in every if p.ndim > 1 and id(p) not in apart],
            "adamw": [p for p in every if p.ndim < 2 and id(p) not in apart],
            "plain": [p for p in every if id(p) in apart],
        }
        groups = [
            {"params": chosen, "kind": kind, "gain": (plain_gain if kind == "plain" else 1.0) * gain}
            for kind, each in kinds.items()
            for is_slow, gain in ((False, 1.0), (True, slow_gain))
            if (chosen := [p for p in each if (id(p) in slowed) == is_slow])
        ]
        super().__init__(groups, {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step down the gradients; parameters without one stay."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                rate = group["lr"] * group["gain"]
                parameter.mul_(1 - rate * group["weight_decay"])
                turn = _muon_step if group["kind"] == "muon" else _adamw_step
                parameter.add_(turn(parameter.grad, self.state[parameter], group), alpha=-rate)


def _muon_step(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    if "momentum" not in state:
        state["momentum"] = torch.zeros_like(gradient)
    momentum: Tensor = state["momentum"]
    momentum.lerp_(gradient, 1 - group["momentum"])
    ahead = gradient.lerp(momentum, group["momentum"])
    matrix = ahead.reshape(len(ahead), -1)
    turned = orthogonalised(matrix).to(gradient.dtype) * (_LENGTH * max(matrix.shape) ** 0.5)
    step: Tensor = turned.reshape(gradient.shape)
    return step


def _adamw_step(gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> Tensor:
    if "count" not in state:
        state.update(count=0, mean=torch.zeros_like(gradient), square=torch.zeros_like(gradient))
    state["count"] += 1
    first, second = group["betas"]
    state["mean"].lerp_(gradient, 1 - first)
    state["square"].lerp_(gradient.square(), 1 - second)
    mean = state["mean"] / (1 - first ** state["count"])
    spread = (state["square"] / (1 - second ** state["count"])).sqrt()
    step: Tensor = mean / (spread + 1e-8)
    return step


def orthogonalised(matrix: Tensor) -> Tensor:
    """`matrix` (m, n) with singular values between about 0.7 and 1.2, in bfloat16 where the machine is fast in it."""
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).to(_dtype(matrix.device))
    x = x / (x.norm() + _TINY)
    a, b, c = _COEFFICIENTS
    for _ in range(_ROUNDS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    turned: Tensor = x if wide else x.T
    return turned


def _dtype(device: torch.device) -> torch.dtype:
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
