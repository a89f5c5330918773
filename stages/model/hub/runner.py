"""One call of a pipeline of diffusers: progress at every step, a stop within one, nothing left behind.

Takes a loaded pipeline; gives its frames or pictures as uint8. Which arguments it takes is found from its signature,
once. Knows nothing of stages, presets or where the pipeline came from.
"""

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.base import Report, StageError
from stages.model.hub.knobs import Caching
from stages.model.hub.noise import Share, shared_noise
from stages.model.hub.skipping import RESUMABLE, Skip
from stages.model.sampling.sampler import build_scheduler
from stages.model.sampling.stops import NO_STOPS, Stops
from stages.presets import Denoising
from stages.speed import EXACT, Speed
from stages.types import UInt8

log = logging.getLogger(__name__)


class Runner:
    """A pipeline that is called again and again, one call at a time."""

    def __init__(self, pipeline: Any, speed: Speed = EXACT) -> None:
        self.pipeline = pipeline
        self._speed, self._caching = speed, Caching(pipeline, speed)
        self.takes = frozenset(inspect.signature(type(pipeline).__call__).parameters)
        self._own_scheduler = getattr(pipeline, "scheduler", None)
        self._own_guider = getattr(pipeline, "guider", None)

    @property
    def name(self) -> str:
        """The pipeline's class, for messages."""
        return type(self.pipeline).__name__

    @property
    def resumable(self) -> bool:
        """Whether a call can stop between two steps and go on elsewhere: not with a cache, which no state holds."""
        return self.name in RESUMABLE and self._speed.cache == "none"

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """Every network that the pipeline holds, by the name of its component."""
        return {name: part for name, part in self.pipeline.components.items() if isinstance(part, nn.Module)}

    @torch.no_grad()
    def frames(
        self,
        arguments: Mapping[str, Any],
        denoising: Denoising,
        steps: int,
        seeds: Sequence[int],
        report: Report,
        stops: Stops = NO_STOPS,
        share: Share | None = None,
    ) -> UInt8:
        """(T, H, W, 3): the one video, or the pictures, of a call with those of `arguments` that the pipeline takes.

        Args:
            steps: how many steps `report` should expect; the pipeline's own count replaces it once it is known.
            seeds: one for each prompt in `arguments`.
            stops: it may stop after any step, where it is `resumable`.
            share: what of a whole clip's noise the first latents are.

        Raises:
            StageError: the model overflowed.
            Cancelled: `report` asked to stop.
            Yielded: an offer of `stops` did.
        """
        self._renew_scheduler(denoising)
        if self._own_guider is not None:
            self.pipeline.guider = self._own_guider.new(guidance_scale=denoising.guidance)
        if arguments.get("negative_prompt") and "negative_prompt" not in self.takes:
            _tell_once(self.name)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        given = {
            **arguments,
            "num_inference_steps": denoising.steps,
            "generator": generators if len(generators) > 1 else generators[0],
            "output_type": "np",
            "use_resolution_binning": False,  # PixArt and Sana would draw another size and crop it
            "sample_audio": False,
            **({"sigmas": [*denoising.sigmas]} if denoising.sigmas else {}),
        }
        skip = Skip(self.pipeline, stops, generators)
        report(skip.left, steps)
        with (
            self._watched(steps, report, stops, skip) as callback,
            skip.running(),
            self._caching.on(steps, denoising.guidance),
            shared_noise(self.pipeline, share),
        ):
            if "callback_on_step_end" in self.takes:
                given["callback_on_step_end"] = callback
            result = self.pipeline(**{name: value for name, value in given.items() if name in self.takes})
        if self._own_scheduler is None:
            report(steps, steps)
        return _to_pixels(result.images if hasattr(result, "images") else result.frames[0], self.name)

    def _renew_scheduler(self, denoising: Denoising) -> None:
        """Schedulers keep state, so each call has its own."""
        own = self._own_scheduler
        if denoising.scheduler != "own":
            self.pipeline.scheduler = build_scheduler(denoising)
        elif own is not None:
            self.pipeline.scheduler = type(own).from_config(own.config, **_changes(own, denoising))

    @contextmanager
    def _watched(self, steps: int, report: Report, stops: Stops, skip: Skip) -> Iterator[Callable[..., dict[str, Any]]]:
        """Reports every step, and may stop between: before each pass of a network, and of the VAE's decoder.

        Not of its encoder: some pipelines change the VAE's dtype around it, and would not change it back.
        """
        pipeline, done, total = self.pipeline, skip.left, steps

        def again(*_: Any) -> None:
            report(done, total)

        def after_step(*given: Any) -> dict[str, Any]:
            nonlocal done, total
            latents: Tensor | None = given[-1].get("latents") if given else None
            if skip.left and latents is not None:
                return {"latents": skip.over(latents)}
            done += 1
            total = max(done, int(getattr(pipeline, "num_timesteps", 0) or steps))
            report(done, total)
            if not self.resumable or latents is None:
                return {}
            whole = latents.contiguous()  # as a state gives them back
            stops.reach(done, total, whole, pipeline.scheduler, skip.generators)
            return {"latents": whole}

        watched: list[Any] = [module for name, module in self.modules.items() if name != "vae"]
        watched.append(getattr(getattr(pipeline, "vae", None), "decoder", None))
        with ExitStack() as stack:
            for module in watched:
                if isinstance(module, nn.Module):
                    stack.callback(module.register_forward_pre_hook(again).remove)
            if "callback_on_step_end" not in self.takes and hasattr(pipeline, "scheduler"):
                _call_after(pipeline.scheduler, "step", after_step)
            try:
                yield after_step
            except BaseException:
                self._leave()
                raise

    def _leave(self) -> None:
        """What a pipeline does at its end, for one that was stopped: models leave the device, caches are emptied."""
        self.pipeline.maybe_free_model_hooks()
        clear = getattr(getattr(self.pipeline, "vae", None), "clear_cache", None)
        if callable(clear):
            clear()


def _changes(scheduler: Any, denoising: Denoising) -> dict[str, Any]:
    """Of its settings, under the names that the scheduler has for them: noise levels of ours are taken as they are."""
    changes: dict[str, Any] = {key: denoising.flow_shift for key in ("flow_shift", "shift") if denoising.flow_shift}
    if denoising.sigmas:
        changes |= {"use_dynamic_shifting": False, "shift_terminal": None, "shift": 1.0}
    known = inspect.signature(type(scheduler)).parameters
    return {key: value for key, value in changes.items() if key in known}


@cache
def _tell_once(name: str) -> None:
    log.warning("%s takes no negative prompt: those of requests have no effect in its stage.", name)


def expect(frames: UInt8, count: int, size: tuple[int, int], who: str) -> UInt8:
    """The frames, if they are `count` of `size`: no pipeline may round them unseen.

    Raises:
        StageError: they are not.
    """
    wanted = (count, size[1], size[0], 3)
    if frames.shape != wanted:
        raise StageError(
            f"{who} was asked for {count} frames of {size[0]}x{size[1]} and made {len(frames)} of "
            f"{frames.shape[2]}x{frames.shape[1]}; take another size or number of frames in the preset."
        )
    return frames


def _call_after(owner: Any, method: str, then: Callable[[], Any]) -> None:
    """Of this one object: call `then` each time after `method`."""
    original = getattr(owner, method)

    def both(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        then()
        return result

    setattr(owner, method, both)


def _to_pixels(values: Any, who: str) -> UInt8:
    """(T, H, W, 3) in 0..1 -> uint8."""
    array: NDArray[Any] = np.asarray(values)
    if not np.isfinite(array).all():
        raise StageError(
            f"{who} overflowed: its pixels are not finite. Use a wider dtype, for its VAE at least, or lower guidance."
        )
    pixels: UInt8 = (array * 255).round().clip(0, 255).astype(np.uint8)
    return pixels
