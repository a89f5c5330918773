"""A call of a pipeline of diffusers that goes on where another has stopped, by running through the steps already done.

Pipelines have no way in between two steps that all of them share. So the call begins as the first one did, with the
same texts, pictures and noise; its denoising networks give zeros and its scheduler gives the sample back until the
steps that are done are over, which costs next to nothing; there latents, scheduler and generators are put back. Takes
the pipeline, and where its call stands. Knows nothing of what a pipeline computes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from stages.model.sampling.stops import Stops

# Whose loop carries nothing from step to step but latents and what its scheduler remembers. Each is held to it by
# tests/stages/modern/test_resuming.py; of another it is not known.
RESUMABLE = frozenset(
    {
        "AnimateDiffVideoToVideoPipeline",
        "FluxPipeline",
        "LTXConditionPipeline",
        "LTXImageToVideoPipeline",
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "StableVideoDiffusionPipeline",
        "WanImageToVideoPipeline",
        "WanVideoToVideoPipeline",
    }
)
_EACH_STEP = ("transformer", "unet", "controlnet")  # how components begin that run at every step


def runs_each_step(component: str) -> bool:
    """Whether a component of a pipeline denoises."""
    return component.startswith(_EACH_STEP)


class Skip:
    """Of one call: the first steps of `stops.state`; nothing without a state."""

    def __init__(self, pipeline: Any, stops: Stops, generators: Sequence[torch.Generator]) -> None:
        self.left = 0 if stops.state is None else stops.state.step
        self.generators = generators
        self._pipeline, self._stops = pipeline, stops
        self._muted: list[tuple[Any, str, Any]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the pipeline is called."""
        if self.left:
            networks = {name: part for name, part in self._pipeline.components.items() if runs_each_step(name)}
            for part in networks.values():
                if isinstance(part, nn.Module):
                    self._mute(part, "forward", _zeros)
            self._mute(self._pipeline.scheduler, "step", _same)
        try:
            yield
        finally:
            self._unmute()

    def over(self, latents: Tensor) -> Tensor:
        """After a skipped step with its `latents`: those to go on with."""
        self.left -= 1
        if self.left:
            return latents
        self._unmute()
        self._stops.enter(self._pipeline.scheduler, self.generators, latents.device)
        return self._stops.latents(lambda: latents, latents.device)

    def _mute(self, owner: Any, method: str, instead: Any) -> None:
        self._muted.append((owner, method, vars(owner).get(method)))
        setattr(owner, method, instead)

    def _unmute(self) -> None:
        for owner, method, own in self._muted:
            if own is None:
                delattr(owner, method)
            else:
                setattr(owner, method, own)  # a hook's, which offloads
        self._muted.clear()


def _zeros(*arguments: Any, return_dict: bool = True, **options: Any) -> Any:
    """What a network says, in the least shape that fits where its answer goes."""
    given = next(value for value in (*arguments, *options.values()) if isinstance(value, Tensor) and value.ndim > 2)
    said = torch.zeros_like(given) if given.ndim == 3 else given.new_zeros((len(given), *[1] * (given.ndim - 1)))
    return SimpleNamespace(sample=said) if return_dict else (said,)


def _same(output: Tensor, t: Any, sample: Tensor, *_: Any, return_dict: bool = True, **__: Any) -> Any:
    """What a scheduler's step gives: the sample as it was."""
    return SimpleNamespace(prev_sample=sample) if return_dict else (sample,)
