"""RIFE 4.0: an in-between frame at any time t from its two neighbours, by intermediate optical flow.

Takes two frames (1, 3, H, W) float32 in [0, 1] and a time 0 < t < 1; gives the frame at t, same shape and range.

    frames ─► FlowBlock ×4, coarse to fine: each corrects the flow and the blend mask of the one before
           ─► warp both frames to t, blend by the mask
           ─► context: four levels of features of each frame, warped along the flow
           ─► refine: a U-Net over all of it predicts what the blend lacks

What a frame always needs, padding and context, is computed once: `a, b = net.encode(left), net.encode(right)`, then
`net.estimate(a, b, t)` for each t; the right frame of a gap is the left one of the next. Every t is a computation of
its own: the frame at t = 1/2 has the same bytes whether one or seven frames are asked for, and memory does not grow
with the factor.

Convolutions run in the dtype of the weights. Flow, mask and warping stay float32, because a half-precision coordinate
is off by up to half a pixel beyond column 1024.

Source: Huang et al., "Real-Time Intermediate Flow Estimation for Video Frame Interpolation", ECCV 2022, and the shapes
of the public 4.0 weights. Knows nothing of files, clips, scene cuts or frame rates.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PAD_MULTIPLE", "Encoded", "Estimate", "Rife", "warp"]

_WIDTHS = (192, 128, 96, 64)  # channels of the four flow blocks
_SCALES = (8, 4, 2, 1)  # each block sees the frames this many times smaller
_LARGE_MOTION_PX = 32.0  # if the second block still moves both flows this far, start again at twice the scales
_CONTEXT = (16, 32, 64, 128)  # channels of the feature pyramid at 1/2, 1/4, 1/8, 1/16

# The coarsest look is 16 times smaller (large motion) and a flow block halves twice: sides are multiples of 64.
PAD_MULTIPLE = 64


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.PReLU(outputs))


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs, stride=2), _conv(outputs, outputs))


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.PReLU(outputs))


def _resize(x: Tensor, factor: float) -> Tensor:
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False, recompute_scale_factor=False)


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """`x` (1, C, H, W) sampled at each pixel + `flow` (1, 2, H, W) pixels (x, y); the border is clamped. Float32."""
    height, width = x.shape[-2:]
    columns = torch.arange(width, device=x.device, dtype=torch.float32) + flow[:, 0]  # (1, H, W)
    rows = torch.arange(height, device=x.device, dtype=torch.float32)[:, None] + flow[:, 1]
    grid = torch.stack((columns * (2 / (width - 1)) - 1, rows * (2 / (height - 1)) - 1), dim=-1)  # (1, H, W, 2)
    return F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="border", align_corners=True)


def _warped_context(left: list[Tensor], right: list[Tensor], flow: Tensor) -> list[Tensor]:
    levels: list[Tensor] = []
    for left_level, right_level in zip(left, right, strict=True):
        flow = _resize(flow, 0.5) * 0.5
        levels.append(torch.cat((warp(left_level, flow[:, :2]), warp(right_level, flow[:, 2:])), 1))
    return levels


class FlowBlock(nn.Module):
    """One look at the frames at one scale: a correction of both flows and of the mask."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.down = nn.Sequential(_conv(inputs, width // 2, stride=2), _conv(width // 2, width, stride=2))
        self.body = nn.Sequential(*(_conv(width, width) for _ in range(8)))
        self.head = nn.ConvTranspose2d(width, 5, 4, 2, 1)

    def forward(self, x: Tensor, flow: Tensor | None, scale: int) -> tuple[Tensor, Tensor]:
        """(flow (1, 4, H, W) in pixels, mask (1, 1, H, W) logits), both float32."""
        x = _resize(x, 1 / scale)
        if flow is not None:
            x = torch.cat((x, _resize(flow, 1 / scale) / scale), 1)
        x = self.down(x.to(self.head.weight.dtype))
        x = self.head(self.body(x) + x).float()
        x = _resize(x, 2 * scale)
        return x[:, :4] * (2 * scale), x[:, 4:]


class Refiner(nn.Module):
    """The U-Net that sees frames, warped frames, mask, flow and warped context, and gives a residual in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        # Three inputs of a level meet: what comes from above and the context of either frame.
        self.down = nn.ModuleList([_halve(17, 32), _halve(64, 64), _halve(128, 128), _halve(256, 256)])
        self.up = nn.ModuleList([_double(512, 128), _double(256, 64), _double(128, 32), _double(64, 16)])
        self.head = nn.Conv2d(16, 3, 3, 1, 1)

    def forward(self, x: Tensor, context: list[Tensor]) -> Tensor:
        """`x` (1, 17, H, W) and, per level, both frames' context (1, 2C, h, w) -> (1, 3, H, W) float32."""
        dtype = self.head.weight.dtype
        x = x.to(dtype)
        skips: list[Tensor] = []
        for halve, level in zip(self.down, context, strict=True):
            x = halve(x)
            skips.append(x)
            x = torch.cat((x, level.to(dtype)), 1)
        skips.pop()
        for double in self.up:
            x = double(x)
            if skips:
                x = torch.cat((x, skips.pop()), 1)
        return torch.sigmoid(self.head(x)).float() * 2 - 1


@dataclass(frozen=True, slots=True)
class Encoded:
    """A frame, padded, with what every t beside it shares."""

    frame: Tensor  # (1, 3, H, W) float32, sides multiples of PAD_MULTIPLE
    context: list[Tensor]  # (1, C, h, w) at 1/2, 1/4, 1/8 and 1/16
    size: tuple[int, int]  # (height, width) before padding


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the flow model says of one moment, padded: (1, C, H, W) float32."""

    frame: Tensor  # (1, 3, H, W) in [0, 1]
    flow: Tensor  # (1, 4, H, W): pixels (x, y) to the left frame, then to the right one
    mask: Tensor  # (1, 1, H, W): logits of the left frame's share of the blend


class Rife(nn.Module):
    """The whole network; see the top of this module.

    Args:
        timed: whether the flow blocks are told t. Without it the network was trained for t = 1/2, and gives no other.
    """

    def __init__(self, *, timed: bool = True) -> None:
        super().__init__()
        self.timed = timed
        self.blocks = nn.ModuleList(
            FlowBlock((6 if level == 0 else 11) + timed, width) for level, width in enumerate(_WIDTHS)
        )
        self.context = nn.ModuleList(
            _halve(inputs, outputs) for inputs, outputs in zip((3, *_CONTEXT), _CONTEXT, strict=False)
        )
        self.refine = Refiner()

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def encode(self, frame: Tensor) -> Encoded:
        """Pad a frame (1, 3, H, W) float32 in [0, 1] and compute its context."""
        height, width = frame.shape[-2:]
        padded = F.pad(frame, (0, -width % PAD_MULTIPLE, 0, -height % PAD_MULTIPLE), mode="replicate")
        context: list[Tensor] = []
        x = padded.to(self.dtype)
        for halve in self.context:
            x = halve(x)
            context.append(x)
        return Encoded(padded, context, (height, width))

    def estimate(self, left: Encoded, right: Encoded, t: float) -> Estimate:
        """The frame at time `t` (0 is the left one, 1 the right one), and its motion; all still padded."""
        flow, mask = self._flow(left.frame, right.frame, t)
        from_left, from_right = warp(left.frame, flow[:, :2]), warp(right.frame, flow[:, 2:])
        weight = torch.sigmoid(mask)
        blend = from_left * weight + from_right * (1 - weight)
        seen = torch.cat((left.frame, right.frame, from_left, from_right, mask, flow), 1)  # (1, 17, H, W)
        residual: Tensor = self.refine(seen, _warped_context(left.context, right.context, flow))
        return Estimate((blend + residual).clamp(0, 1), flow, mask)

    def _flow(self, left: Tensor, right: Tensor, t: float) -> tuple[Tensor, Tensor]:
        """Flow (1, 4, H, W) from t to the left (x, y) and to the right frame (x, y), and mask logits (1, 1, H, W)."""
        time = torch.full_like(left[:, : int(self.timed)], t)  # no channel where the network is not told

        def first(enlarge: int) -> tuple[Tensor, Tensor]:
            return self._look(0, torch.cat((left, right, time), 1), None, enlarge)

        def correction(level: int, flow: Tensor, mask: Tensor, enlarge: int) -> tuple[Tensor, Tensor]:
            warped = (warp(left, flow[:, :2]), warp(right, flow[:, 2:]))
            return self._look(level, torch.cat((*warped, time, mask), 1), flow, enlarge)

        enlarge = 1
        flow, mask = first(enlarge)
        flow_change, mask_change = correction(1, flow, mask, enlarge)
        if min(flow_change[:, :2].abs().max().item(), flow_change[:, 2:].abs().max().item()) > _LARGE_MOTION_PX:
            enlarge = 2
            flow, mask = first(enlarge)
            flow_change, mask_change = correction(1, flow, mask, enlarge)
        flow, mask = flow + flow_change, mask + mask_change
        for level in (2, 3):
            flow_change, mask_change = correction(level, flow, mask, enlarge)
            flow, mask = flow + flow_change, mask + mask_change
        return flow, mask

    def _look(self, level: int, x: Tensor, flow: Tensor | None, enlarge: int) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = self.blocks[level](x, flow, _SCALES[level] * enlarge)
        return result
