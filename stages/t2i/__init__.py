"""Text to image: the reference picture that the whole video follows.

    stage.py     the stage; own loop over UNet2DConditionModel, or any text-to-image pipeline of diffusers

Knows nothing of motion, of the stages after it, or of Ray.
"""

from stages.t2i.stage import T2I

__all__ = ["T2I"]
