"""Stages that live in one process: I2V and V2V hold their spatial layers once, where these are the same.

Takes loaded stages; changes V2V's network in place and says how many bytes that saves. What the stages give does not
change, bit for bit: only layers with equal weights are shared. Knows nothing of serving.
"""

from typing import Any

from stages.i2v import I2V
from stages.model.network.network import VideoNetwork, largest_difference, share_spatial
from stages.presets import Preset
from stages.v2v import V2V

__all__ = ["share_backbone"]


def share_backbone(preset: Preset, i2v: Any, v2v: Any) -> int:
    """Let V2V use I2V's spatial layers; bytes saved, 0 where they differ or one of them is no network of ours."""
    if not (isinstance(i2v, I2V) and isinstance(v2v, V2V) and preset.share_spatial):
        return 0
    if not (isinstance(i2v.maker, VideoNetwork) and isinstance(v2v.maker, VideoNetwork)):
        return 0
    if i2v.maker.places.offload == "layers":  # the weights are under accelerate's hooks
        return 0
    if largest_difference(i2v.maker.unet, v2v.maker.unet) != 0:
        return 0
    return share_spatial(v2v.maker.unet, i2v.maker.unet)
