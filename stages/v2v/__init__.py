"""Video to video: the keyframes again, at the final resolution, a window of frames at a time.

    stage.py     the stage: upscale, renoise, denoise, blend windows

It shares I2V's spatial layers and has its own motion module. Knows nothing of interpolation or of Ray.
"""

from stages.v2v.stage import V2V

__all__ = ["V2V"]
