"""What human feedback is trained on: any differentiable function of pictures and prompts, named "module:function".

    def reward(pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        (N, 3, H, W) in about -1..1, N prompts -> (N,) higher is better, with gradients

A learnt model of preferences (ImageReward, HPS, PickScore, an aesthetic head) is wrapped in such a function, in a
module of yours. The two functions here measure the pixels alone: they show the mechanism and say nothing about beauty.
"""

import importlib
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
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise InputError(f"The reward is {name!r}; name it as module:function, such as {__name__}:colourfulness.")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(
            f"The module {module_name!r} of the reward cannot be imported ({error}); put its folder on PYTHONPATH."
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        found = ", ".join(sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))[:8])
        raise InputError(
            f"The module {module_name!r} has no function {function_name!r}, only {found or 'none'}; name one of these."
        )
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
