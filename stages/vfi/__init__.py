"""Video frame interpolation: windows of final frames in, the frames which they add to the video out.

    stage.py     the stage: which frame goes where
    rife.py      the flow model RIFE 4.0
    weights.py   finds, checks and loads `stages/weights/rife/flow.safetensors`
    convert.py   how that file was made from the public weights (a command; never imported by the stage)

Knows nothing of the models before it, of encoding, or of Ray.
"""

from stages.vfi.stage import VFI

__all__ = ["VFI"]
