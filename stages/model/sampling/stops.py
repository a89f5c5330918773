"""Where one denoising may stop, and from where it goes on: between the tensors of a loop and a `DenoisingState`.

Takes a call's latents, scheduler and generators at a boundary between two steps; gives a state, or puts one back. Of a
scheduler everything is kept that is not known to be the same at every step: its place in the schedule, the outputs and
samples that a multistep solver remembers. Knows nothing of networks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.model.sampling.windows import Span
from stages.state import DenoisingState, Item, Offer, digest_of, judge
from stages.types import StageName

_SCHEDULE = {
    *("betas", "alphas", "alphas_cumprod", "final_alpha_cumprod", "alpha_t", "sigma_t", "lambda_t"),
    *("sigmas", "timesteps"),
}  # of the schedulers of diffusers: set once a request, by its settings


@dataclass(frozen=True)
class Stops:
    """Of one call. Without `offer` it never stops, without `state` it starts at its first step."""

    facts: Callable[[], Mapping[str, str]] = dict
    offer: Offer | None = None
    state: DenoisingState | None = None

    def latents(self, start: Callable[[], Tensor], device: torch.device | str) -> Tensor:
        """Those to go on from; what `start` makes at the first step."""
        return start() if self.state is None else to_tensor(self.state.latents, device)

    def enter(self, scheduler: Any, generators: Sequence[torch.Generator], device: torch.device | str) -> int:
        """Put scheduler and generators where the state left them; how many steps are done."""
        if self.state is None:
            return 0
        for name, items in self.state.scheduler.items():
            values = [to_tensor(item, device) if isinstance(item, np.ndarray) else item for item in items]
            setattr(scheduler, name, values if isinstance(getattr(scheduler, name, None), list) else values[0])
        for generator, drawn in zip(generators, self.state.draws, strict=True):
            generator.set_state(torch.from_numpy(np.array(drawn)))
        return self.state.step

    def reach(
        self,
        step: int,
        total: int,
        latents: Tensor,
        scheduler: Any,
        generators: Sequence[torch.Generator],
        spans: Sequence[Span] = (),
    ) -> None:
        """Offer the state after `step` steps.

        Raises:
            Yielded: the offer was taken.
        """
        if self.offer is not None:
            self.offer(partial(self._take, step, total, latents, scheduler, generators, spans))

    def _take(
        self,
        step: int,
        total: int,
        latents: Tensor,
        scheduler: Any,
        generators: Sequence[torch.Generator],
        spans: Sequence[Span],
    ) -> DenoisingState:
        return DenoisingState(
            facts=self.facts(),
            step=step,
            total=total,
            latents=to_array(latents),
            scheduler=remembered(scheduler),
            draws=tuple(generator.get_state().numpy() for generator in generators),
            spans=tuple((span.start, span.stop) for span in spans),
        )


NO_STOPS = Stops()


def stops_at(
    stage: StageName,
    model: Mapping[str, str],
    request: Sequence[Any],
    steps: int,
    offer: Offer | None,
    resume: DenoisingState | bytes | None,
) -> Stops:
    """Of one call: `model` says what computes (`stages.model.weights.facts.facts_of`), empty where it cannot stop;
    `request` holds its parameters, seed and inputs.
    """

    @cache
    def facts() -> Mapping[str, str]:
        return {"stage": stage, **model, "steps": str(steps), "request": digest_of(*request)} if model else {}

    if offer is None and resume is None:
        return NO_STOPS
    return Stops(facts, offer if model else None, judge(resume, facts, f"Stage {stage}"))


def remembered(scheduler: Any) -> Mapping[str, tuple[Item, ...]]:
    """What it may have changed, by attribute; a value that is no list stands alone."""
    found: dict[str, tuple[Item, ...]] = {}
    for name, value in vars(scheduler).items():
        items = value if isinstance(value, list) else [value]
        if name not in _SCHEDULE and all(item is None or isinstance(item, Tensor | int | float) for item in items):
            found[name] = tuple(to_array(item) if isinstance(item, Tensor) else item for item in items)
    return found


def to_array(tensor: Tensor) -> NDArray[Any]:
    """A copy on the host; numpy has no bfloat16, its bits stand as uint16."""
    host = tensor.detach().to("cpu", copy=True).contiguous()
    array: NDArray[Any] = (host.view(torch.uint16) if host.dtype == torch.bfloat16 else host).numpy()
    return array


def to_tensor(array: NDArray[Any], device: torch.device | str) -> Tensor:
    """Back, in memory of torch's own."""
    tensor = torch.from_numpy(np.array(array, order="C")).clone()
    return (tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor).to(device)
