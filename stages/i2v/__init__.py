"""Image to video: the reference picture becomes low-resolution keyframes.

    stage.py     the stage: noise prior, denoising, decoding

The network, the loop and the prior are in `stages.model`, since V2V uses them too. Knows nothing of T2I or of Ray.
"""

from stages.i2v.stage import I2V

__all__ = ["I2V"]
