"""Sample grids while a run goes on: what the stages make with the averaged weights, as files to look at.

Takes a trainee and a few samples of the data; calls the real stages with the preset's own parameters. Gives an animated
WebP with one column a sample, or a PNG. Knows nothing of losses.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image

from client._shell.outputs import written
from stages.base import ignore_progress
from stages.i2v import I2V
from stages.model.network import vae as codec
from stages.presets import MAX_PROMPT_CHARS, Plan, Preset, plan
from stages.settings import Denoising, T2IParams
from stages.t2i.stage import OwnLoop
from stages.training.feedback.spatial import SpatialTrainee
from stages.training.video.batches import Batch
from stages.training.video.trainee import Trainee
from stages.types import Clip, Image, Keyframes, UInt8
from stages.v2v import V2V

_GAP_PX = 4


def draw_i2v(trainee: Trainee, preset: Preset, batch: Batch, seed: int, path: Path) -> None:
    """What I2V makes of each sample's reference and caption."""
    stage, frames = I2V(trainee.network), batch.latents.shape[1]
    clips = []
    for reference, caption in zip(codec.to_pixels(batch.references), batch.captions, strict=True):
        params = replace(_plan(preset, caption).i2v, size=(reference.shape[1], reference.shape[0]), frames=frames)
        made = stage(Image(reference), params=params, seed=seed, report=ignore_progress)
        clips.append(made.clip.frames)
    write_grid(clips, preset.keyframe_fps, path)


def draw_v2v(trainee: Trainee, preset: Preset, batch: Batch, seed: int, path: Path) -> None:
    """What V2V makes of each sample's keyframes; the batch has them at I2V's size."""
    assert batch.keyframes is not None
    stage, clips = V2V(trainee.network), []
    for reference, low, caption in zip(codec.to_pixels(batch.references), batch.keyframes, batch.captions, strict=True):
        params = replace(_plan(preset, caption).v2v, size=(reference.shape[1], reference.shape[0]))
        keyframes = Keyframes(None, Clip(codec.to_pixels(low), preset.keyframe_fps))
        made = stage(Image(reference), keyframes, params=params, seed=seed, report=ignore_progress)
        clips.append(made.clip.frames)
    write_grid(clips, preset.keyframe_fps, path)


def draw_pictures(
    trainee: SpatialTrainee, noise: Denoising, prompts: Sequence[str], size: tuple[int, int], seed: int, path: Path
) -> None:
    """What T2I's own loop draws for each prompt."""
    painter = OwnLoop(trainee.unet, trainee.vae, trainee.text)
    pictures = [painter.paint([(T2IParams(prompt, "", size, noise), seed)], ignore_progress) for prompt in prompts]
    write_grid(pictures, 1.0, path)


def write_grid(clips: Sequence[UInt8], fps: float, path: Path) -> None:
    """Clips (F, H, W, 3) beside each other: a WebP, or a PNG where they have one frame; the suffix is put to `path`."""
    gap = np.full((*clips[0].shape[:2], _GAP_PX, 3), 255, np.uint8)
    row = np.concatenate([piece for clip in clips for piece in (gap, clip)][1:], axis=2)
    frames = [PIL.Image.fromarray(frame) for frame in row]
    path.parent.mkdir(parents=True, exist_ok=True)
    if len(frames) == 1:
        with written(path.with_suffix(".png")) as draft:
            frames[0].save(draft)
        return
    lasting = round(1000 / fps)
    with written(path.with_suffix(".webp")) as draft:
        frames[0].save(draft, save_all=True, append_images=frames[1:], duration=lasting, loop=0, quality=90)


def _plan(preset: Preset, caption: str) -> Plan:
    return plan(preset, caption[:MAX_PROMPT_CHARS])
