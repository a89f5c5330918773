"""What the VFI GAN is trained against: pixels, a Laplacian pyramid, and an adversarial loss whose weight adapts, by a
discriminator (PatchGAN).

Takes made and true frames (N, 3, H, W) in [0, 1]; gives float32 scalars. The published recipe (VQ-FIGAN) adds LPIPS,
whose backbone is not among the weights that this project may ship; the Laplacian pyramid is in its place.
Knows nothing of the network that made the frames.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["PatchGan", "adaptive_weight", "discriminator_loss", "generator_loss", "laplacian_loss", "pixel_loss"]

_LEVELS = 4
_MOST = 1e3  # of the adaptive weight, where the adversarial gradient vanishes


def pixel_loss(made: Tensor, true: Tensor) -> Tensor:
    """Of every frame (N,): absolute difference, and squared difference, which is what PSNR counts."""
    difference = (made - true).flatten(1)
    loss: Tensor = difference.abs().mean(1) + 10 * difference.square().mean(1)
    return loss


def laplacian_loss(made: Tensor, true: Tensor) -> Tensor:
    """Of every frame (N,): absolute difference of the bands of a Laplacian pyramid, coarse ones weighted by size."""
    difference, total = made - true, made.new_zeros(len(made))
    for level in range(_LEVELS):
        below = F.avg_pool2d(difference, 2)
        band = difference - F.interpolate(below, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + 2**level * band.abs().flatten(1).mean(1)
        difference = below
    loss: Tensor = total / 2**_LEVELS
    return loss


class PatchGan(nn.Module):
    """Says of every patch whether it is real: (N, 3, H, W) -> (N, 1, h, w), positive for real."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, frame: Tensor) -> Tensor:
        said: Tensor = self.layers(frame * 2 - 1)
        return said


def discriminator_loss(judge: PatchGan, made: Tensor, true: Tensor) -> Tensor:
    """The judge's hinge loss; its gradient does not reach `made`."""
    said_true, said_made = judge(true), judge(made.detach())
    return 0.5 * (F.relu(1 - said_true).mean() + F.relu(1 + said_made).mean())


def generator_loss(judge: PatchGan, made: Tensor) -> Tensor:
    """The generator's loss; its gradient does not reach the judge's weights."""
    frozen = {name: tensor.detach() for name, tensor in judge.named_parameters()}
    said: Tensor = functional_call(judge, frozen, (made,))
    return -said.mean()


def adaptive_weight(kept: Tensor, adversarial: Tensor, last: Tensor) -> Tensor:
    """How strong `adversarial` may be: the ratio of both losses' gradients at the generator's `last` layer.

    Source: Esser et al., "Taming Transformers", CVPR 2021, eq. 7.
    """
    (of_kept,) = torch.autograd.grad(kept, last, retain_graph=True)
    (of_adversarial,) = torch.autograd.grad(adversarial, last, retain_graph=True)
    ratio: Tensor = of_kept.norm() / (of_adversarial.norm() + 1e-6)
    return ratio.clamp(0, _MOST).detach()
