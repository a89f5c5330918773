"""I2V and V2V by any pipeline of diffusers: Wan, LTX, CogVideoX, Stable Video Diffusion, AnimateDiff and their like.

`HubAnimator` takes an `Image` and gives `Keyframes` without latents; `HubRedrawer` takes an `Image` and `Keyframes` and
gives one `Piece`, as the built-in networks do. What the paper's own networks are guided by (`Prior`, `Guide`, `motion`)
does not exist here. A pipeline denoises all the frames it is given together: I2V's windows only bound them. V2V's
windows are cut as for the built-in network; one whose length the model cannot make is denoised with a few of the
clip's next frames, and cut back. Their noise is that of the whole clip, sliced. Which classes run stands in `classes`.
Knows nothing of how a pipeline computes.
"""

import logging
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Self, TypeVar

import numpy as np
import PIL.Image
import torch

from stages.base import InputError, Report, WeightsError, derive_seed, ignore_progress
from stages.model.hub import limits
from stages.model.hub.classes import ANIMATES, REDRAWS, SEES_REFERENCE, UPSCALES, takes, why_not
from stages.model.hub.layout import choose_class, load_pipeline, look_up
from stages.model.hub.noise import Share
from stages.model.hub.rehearsal import Rehearsal, rehearse, sketch_pipeline
from stages.model.hub.runner import Runner, expect
from stages.model.hub.upscaling import attend_to_all, count_passes, held_beside, small_size, upscaling
from stages.model.network.pictures import resize_frames
from stages.model.sampling.stops import NO_STOPS, Stops
from stages.model.sampling.windows import Span, cut_piece, plan_windows
from stages.model.weights.facts import facts_of
from stages.presets import I2VParams, Preset, V2VParams
from stages.settings import Denoising
from stages.speed import EXACT, Speed
from stages.types import Clip, Image, Keyframes, Piece

ResultT = TypeVar("ResultT")

_I2V, _V2V = "i2v_pipeline", "v2v_pipeline"  # the parts of a preset
_UNKNOWN: Mapping[str, str] = MappingProxyType({})

_FRAMES_FIRST = ("AnimateDiff", "CogVideoX")  # they draw noise as (B, F, C, h, w)
# LTX-2 guides sound, and by skipped layers, beside what `guidance_scale` says; a distilled model wants none of it.
_NO_GUIDANCE = {
    "stg_scale": 0.0,
    "modality_scale": 1.0,
    "audio_guidance_scale": 1.0,
    "audio_stg_scale": 0.0,
    "audio_modality_scale": 1.0,
}

log = logging.getLogger(__name__)


class HubAnimator:
    """Image to video by a pipeline that takes `image`."""

    def __init__(self, pipeline: Any, facts: Mapping[str, str] = _UNKNOWN, speed: Speed = EXACT) -> None:
        """`facts` say what computes here (`stages.model.weights.facts`), for states that others go on from."""
        self.runner = Runner(pipeline, speed)
        self.facts = facts if self.runner.resumable else _UNKNOWN
        self.who = f"I2V's {self.runner.name}"
        self.frame_rule = limits.frame_rule(pipeline, redraws=False)
        self.size_rule = limits.size_rule(pipeline)

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        """From the part `i2v_pipeline` (and `i2v_vae`).

        Raises:
            WeightsError: a part is missing, broken, or cannot make what the preset promises.
        """

        def judge(pipeline: Any) -> None:
            made = cls(pipeline)
            _as_weights_error(preset, name, _check_guidance, made.who, pipeline, preset.i2v)
            if "audio_guidance_scale" in made.runner.takes:
                _tell_of_sound(made.who)
            for sizes in preset.sizes.values():
                _as_weights_error(preset, name, limits.check_size, made.who, made.size_rule, sizes.i2v)
            for frames in preset.keyframes.values():
                _as_weights_error(preset, name, limits.check_frames, made.who, made.frame_rule, frames)

        name = _I2V
        _tell_what_has_no_effect(preset, preset.prior.weight > 0 or bool(preset.i2v_guide.controls), name)
        facts = facts_of(preset, device)
        pipeline = load_pipeline(preset, name, device, partial(_animator_class, preset), judge)
        return cls(pipeline, facts, preset.speed("i2v"))

    @staticmethod
    def check(preset: Preset, device: str) -> str:
        """Everything that `load` refuses before it reads weights; gives the pipeline's class. Raises as `load` does."""
        return look_up(preset, _I2V, device, partial(_animator_class, preset))[2].__name__

    @classmethod
    def rehearse(cls, preset: Preset, params: I2VParams, device: str = "meta") -> Rehearsal:
        """What one call would compute; from configurations alone, in the dtype of `device` ("meta": a GPU)."""
        made = cls(sketch_pipeline(preset, _I2V, partial(_animator_class, preset), device))
        image = Image(np.zeros((params.size[1], params.size[0], 3), np.uint8))
        return rehearse(made, lambda: made(image, params=params, seed=0, report=ignore_progress))

    def __call__(
        self, image: Image, *, params: I2VParams, seed: int, report: Report, stops: Stops = NO_STOPS
    ) -> Keyframes:
        """`params.frames` keyframes of `params.size`. Calls `report` at every denoising step.

        Raises:
            InputError: a size or a number of frames that the pipeline cannot make.
            Cancelled: `report` asked to stop.
        """
        if params.frames > params.windows.length:
            raise InputError(
                f"{self.who} was asked for {params.frames} frames, the preset allows {params.windows.length} at once; "
                f"a pipeline of the hub has no windows: ask for fewer seconds or raise `i2v_windows`."
            )
        limits.check_frames(self.who, self.frame_rule, params.frames)
        limits.check_size(self.who, self.size_rule, params.size)
        _check_motion(self.who, params.motion)
        _check_guidance(self.who, self.runner.pipeline, params.denoising)
        given = {
            **_common(params, params.fps),
            "frames": params.frames,
            "image": PIL.Image.fromarray(resize_frames(image.pixels[None], params.size)[0]),
            "num_frames": params.frames,
        }
        steps = params.denoising.steps
        frames = self.runner.frames(given, params.denoising, steps, [derive_seed(seed, "i2v")], report, stops)
        return Keyframes(None, Clip(expect(frames, params.frames, params.size, self.who), params.fps))


class HubRedrawer:
    """Video to video by a pipeline that takes `video`: how strongly to change it, or to make it larger."""

    def __init__(self, pipeline: Any, facts: Mapping[str, str] = _UNKNOWN, speed: Speed = EXACT) -> None:
        attend_to_all(pipeline)
        self.runner = Runner(pipeline, speed)
        self.facts = facts if self.runner.resumable else _UNKNOWN
        self.who = f"V2V's {self.runner.name}"
        self.upscales = self.runner.name in UPSCALES
        self.frame_rule = limits.frame_rule(pipeline, redraws=True)
        self.size_rule = limits.size_rule(pipeline)

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        """From the part `v2v_pipeline` (and `v2v_vae`).

        Raises:
            WeightsError: a part is missing, broken, or cannot make what the preset promises.
        """

        def judge(pipeline: Any) -> None:
            made = _as_weights_error(preset, name, cls, pipeline)
            if (counted := limits.spatial_factor(pipeline)) != (real := limits.vae_factor(pipeline)):
                raise WeightsError(
                    f"Part {name!r} from {preset.parts[name].source} has a VAE of {real} pixels a latent, its "
                    f"{made.runner.name} counts on {counted}; take weights that belong to it (Wan 2.1, not 2.2-5B)."
                )
            for sizes in preset.sizes.values():
                _as_weights_error(preset, name, limits.check_size, made.who, made.size_rule, sizes.v2v)
                if made.upscales:
                    _as_weights_error(preset, name, small_size, pipeline, made.who, sizes.v2v, sizes.i2v)
            for frames in preset.keyframes.values():
                for span in plan_windows(frames, preset.v2v_windows):
                    _as_weights_error(preset, name, made.widen, span, frames)

        name = _V2V
        _tell_what_has_no_effect(preset, bool(preset.v2v_guide.controls), name)
        facts = facts_of(preset, device)
        pipeline = load_pipeline(preset, name, device, partial(_redrawer_class, preset), judge)
        return cls(pipeline, facts, preset.speed("v2v"))

    @staticmethod
    def check(preset: Preset, device: str) -> str:
        """As `HubAnimator.check`."""
        return look_up(preset, _V2V, device, partial(_redrawer_class, preset))[2].__name__

    @classmethod
    def rehearse(cls, preset: Preset, params: V2VParams, frames: int, device: str = "meta") -> Rehearsal:
        """What the call of one window of a clip of `frames` would compute; as `HubAnimator.rehearse`."""
        made = cls(sketch_pipeline(preset, _V2V, partial(_redrawer_class, preset), device))
        clip = Clip(np.zeros((frames, params.size[1], params.size[0], 3), np.uint8), preset.keyframe_fps)
        image = Image(clip.frames[0])
        seen = rehearse(made, lambda: made(image, Keyframes(None, clip), params=params, seed=0, report=ignore_progress))
        seen.held = held_beside(made.runner.pipeline, frames, params.size)
        return seen

    def __call__(
        self,
        image: Image,
        keyframes: Keyframes,
        *,
        params: V2VParams,
        seed: int,
        report: Report,
        stops: Stops = NO_STOPS,
    ) -> Piece:
        """Window `params.part`, from the keyframes alone: of these pipelines VACE sees the reference image, too.

        Raises:
            InputError: a size, strength, window or part that the pipeline cannot make.
            Cancelled: `report` asked to stop.
        """
        clip = keyframes.clip
        spans = plan_windows(len(clip.frames), params.windows)
        if not 0 <= params.part < len(spans):
            raise InputError(f"V2V was asked for window {params.part}; this clip has windows 0 to {len(spans) - 1}.")
        limits.check_size(self.who, self.size_rule, params.size)
        _check_motion(self.who, params.motion)
        steps, strength = _count_steps(params.strength, params.denoising)
        span = spans[params.part]
        wide = self.widen(span, len(clip.frames))
        frames = clip.frames[wide.start : wide.stop]
        given, share = {**_common(params, clip.fps), "num_frames": len(wide), "strength": strength}, None
        if self.upscales:
            pipeline = self.runner.pipeline
            scale, small = small_size(pipeline, self.who, params.size, clip.size)
            given |= upscaling(pipeline, frames, scale, small, params.strength)
            steps = count_passes(pipeline, params.denoising.steps, scale, params.size)
        else:
            shown = [PIL.Image.fromarray(frame) for frame in resize_frames(frames, params.size)]
            given |= {"video": shown, "conditioning_frames": shown}
            share = self._share(wide, len(clip.frames), seed)
        if self.runner.name in SEES_REFERENCE:
            given["reference_images"] = [PIL.Image.fromarray(resize_frames(image.pixels[None], params.size)[0])]
            steps = params.denoising.steps
        if "denoise_strength" in self.runner.takes:
            given |= _as_condition(steps, params.denoising.steps)
        own = [derive_seed(seed, "v2v", params.part)]
        made = self.runner.frames(given, params.denoising, steps, own, report, stops, share)
        frames = expect(made, len(wide), params.size, self.who)
        first = span.start - wide.start
        return cut_piece(frames[first : first + len(span)], clip.fps, spans, params.part)

    def _share(self, span: Span, frames: int, seed: int) -> Share:
        """Of the whole clip's noise, as the built-in V2V slices its own."""
        pipeline = self.runner.pipeline
        factor = limits.temporal_factor(pipeline)
        axis = 1 if self.runner.name.startswith(_FRAMES_FIRST) else 2
        generator = torch.Generator("cpu").manual_seed(derive_seed(seed, "v2v"))
        length, total = ((count - 1) // factor + 1 for count in (len(span), frames))
        return Share(span.start // factor, length, total, generator, axis)

    def widen(self, span: Span, frames: int) -> Span:
        """The shortest span around `span` that the model can make, within a clip of `frames`.

        It begins where a latent of the clip does, where the clip has room for that.

        Raises:
            InputError: the clip is too short for it.
        """
        early = span.start - span.start % limits.temporal_factor(self.runner.pipeline)
        length = self.frame_rule.at_least(span.stop - early)
        if length is not None and early + length <= frames:
            return Span(early, early + length)
        length = self.frame_rule.at_least(len(span))
        if length is None or length > frames:
            raise InputError(
                f"{self.who} was asked to redraw {len(span)} frames of a clip of {frames}; it makes {self.frame_rule}: "
                f"take clips of {self.frame_rule.nearest(len(span))} frames, or shorter `v2v_windows`, in the preset."
            )
        start = min(span.start, frames - length)
        return Span(start, start + length)


def _animator_class(preset: Preset, own: str) -> type:
    made = choose_class(
        _I2V, preset.parts[_I2V], own, lambda kind: takes(kind, "image", "num_inference_steps"),
        ("ImageToVideo",), "takes an `image` to animate", partial(why_not, stage="i2v"),
    )  # fmt: skip
    _tell_untried(made.__name__, made.__name__ in ANIMATES)
    return made


def _redrawer_class(preset: Preset, own: str) -> type:
    made = choose_class(
        _V2V, preset.parts[_V2V], own,
        lambda kind: kind.__name__ in REDRAWS or takes(kind, "video", "strength", "num_inference_steps"),
        ("VideoToVideo", "Condition"), "takes a `video` to redraw, and the `strength` of it",
        partial(why_not, stage="v2v"),
    )  # fmt: skip
    _tell_untried(made.__name__, made.__name__ in REDRAWS)
    return made


@cache
def _tell_untried(name: str, tried: bool) -> None:
    if not tried:
        log.warning("%s was not tried in this stage: its size, frames and steps are checked as it runs.", name)


@cache
def _tell_of_sound(who: str) -> None:
    log.warning("%s makes sound with its frames; no stage takes it further, and it is left out.", who)


def _common(params: I2VParams | V2VParams, fps: float) -> dict[str, Any]:
    """Arguments under every name that pipelines have for them; the runner passes those that its pipeline takes."""
    width, height = params.size
    rate = int(fps) if fps == int(fps) else fps
    return {
        "prompt": params.prompt,
        **({"negative_prompt": params.negative_prompt} if params.negative_prompt else {}),
        "width": width,
        "height": height,
        "guidance_scale": params.denoising.guidance,
        "max_guidance_scale": params.denoising.guidance,  # Stable Video Diffusion: at the last frame, from 1
        "fps": rate,
        "frame_rate": rate,
        "target_fps": rate,
        **(_NO_GUIDANCE if params.denoising.guidance <= 1 else {}),
    }


def _as_condition(steps: int, of: int) -> dict[str, Any]:
    """LTX: the video is a condition of which `strength` stays, so that what is redrawn begins at 1 - strength.

    With the last `steps` of the schedule alone, as elsewhere: the ones before would change nothing.
    """
    from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule

    sigmas = np.asarray(linear_quadratic_schedule(of), dtype=np.float64)[of - steps :]
    return {"strength": float(1 - sigmas[0]), "timesteps": [float(1000 * sigma) for sigma in sigmas]}


def _count_steps(strength: float, denoising: Denoising) -> tuple[int, float]:
    """How many of the steps are run again, as diffusers counts them but at least one, and the strength that says so."""
    if not 0 < strength <= 1:
        raise InputError(f"V2V's strength is {strength:g}; it must be above 0 and at most 1.")
    steps = min(int(denoising.steps * strength), denoising.steps)
    return (steps, strength) if steps else (1, min(1.0, 1.5 / denoising.steps))


def _check_guidance(who: str, pipeline: Any, denoising: Denoising) -> None:
    if type(pipeline.scheduler).__name__ == "PiflowScheduler" and denoising.guidance != 1:
        raise InputError(
            f"{who} is distilled and has no guidance, it was asked for {denoising.guidance:g}: take 1 in the preset."
        )


def _check_motion(who: str, motion: bool) -> None:
    if not motion:
        raise InputError(f"{who} cannot leave out its motion (motion=False); only the built-in networks can.")


def _as_weights_error(preset: Preset, name: str, check: Callable[..., ResultT], *arguments: Any) -> ResultT:
    """A preset that promises what its model cannot make is refused when it is loaded, not at the first request."""
    try:
        return check(*arguments)
    except InputError as error:
        raise WeightsError(
            f"Preset {preset.name!r} does not fit its part {name!r} ({preset.parts[name].source}): {error}"
        ) from error


def _tell_what_has_no_effect(preset: Preset, guided: bool, name: str) -> None:
    if guided or any(not lora.into for lora in preset.loras):
        log.warning(
            "Preset %r has a prior, ControlNets or LoRAs, which the pipeline of part %r does not know; "
            "they have no effect there.",
            preset.name,
            name,
        )
