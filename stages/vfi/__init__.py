"""Video frame interpolation: windows of final frames in, the frames which they add to the video out.

    stage.py         the stage: which frame goes where
    interpolator.py  flow model and GAN together, on a device
    rife.py          the flow model RIFE 4.0
    gan.py           the VQ-GAN-type autoencoder with the EDSC head, and how its frame is combined with the flow model's
    attention.py     cross-attention to both neighbours, in windows
    quantise.py      the vector-quantised bottleneck
    dsc.py           `deform_sep_conv`, the enhanced deformable separable convolution
    cuts.py          tells a scene cut from motion
    weights.py       finds, checks, loads and writes `stages/weights/rife` and `stages/weights/gan`
    convert.py       how the flow model's file was made from the public weights (a command; never imported by the stage)

The GAN's file is made by `python -m stages.training vfi`. Knows nothing of the models before it, of encoding,
or of Ray.
"""

from stages.vfi.stage import VFI

__all__ = ["VFI"]
