"""What human feedback is trained on: any differentiable function of pictures and prompts, named "module:function".

    def reward(pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        (N, 3, H, W) in about -1..1, N prompts -> (N,) higher is better, with gradients

A learnt model of preferences (ImageReward, HPS, PickScore, an aesthetic head) is wrapped in such a function, in a
module of yours. The two functions here measure the pixels alone: they show the mechanism and say nothing about beauty.
"""

import pkgutil
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stages.base import InputError

Reward = Callable[[Tensor, Sequence[str]], Tensor]


def colourfulness(pictures: Tensor, prompts: Sequence[str]) -> Tensor:
    """Spread and mean of the two opponent colours (Hasler and Suesstrunk 2003, without its constants)."""
    red, green, blue = pictures.unbind(1)
    one, two = red - green, (red + green) / 2 - blue
    spread = (one.var((1, 2)) + two.var((1, 2)) + 1e-8).sqrt()
    mean = (one.mean((1, 2)) ** 2 + two.mean((1, 2)) ** 2 + 1e-8).sqrt()
    return spread + 0.3 * mean


def sharpness(pictures: Tensor, prompts: Sequence[str]) -> Tensor:
    """Mean absolute difference of neighbouring pixels."""
    return pictures.diff(dim=2).abs().mean((1, 2, 3)) + pictures.diff(dim=3).abs().mean((1, 2, 3))


def load_reward(name: str) -> Reward:
    """The function that "module:function" names, which must be importable from here.

    Raises:
        InputError: there is none.
    """
    try:
        function = pkgutil.resolve_name(name)
    except (ValueError, ImportError, AttributeError) as error:
        raise InputError(
            f"The reward {name!r} cannot be imported ({error}); name it as module:function, such as "
            f"{__name__}:colourfulness, and put the module's folder on PYTHONPATH."
        ) from error
    if not callable(function):
        raise InputError(f"The reward {name!r} is a {type(function).__name__}; name a function.")
    reward: Reward = function
    return reward


def ask(reward: Reward, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
    """(N,) rewards.

    Raises:
        InputError: what comes back is not one differentiable number a picture.
    """
    said = reward(pictures, prompts)
    if not isinstance(said, Tensor) or said.shape != (len(pictures),):
        shape = tuple(said.shape) if isinstance(said, Tensor) else type(said).__name__
        raise InputError(
            f"The reward gave {shape} for {len(pictures)} pictures; it gives a tensor of ({len(pictures)},)."
        )
    if torch.is_grad_enabled() and pictures.requires_grad and not said.requires_grad:
        raise InputError("The reward has no gradient; compute it with torch alone, without no_grad, numpy or item().")
    return said
