"""The GAN of VFI: a VQ-GAN-type autoencoder whose decoder ends in an EDSC head, beside the flow model.

    flow model's frame at t ─► encoder ─► vector-quantised bottleneck ─► decoder ─► EDSC head ─► frame at t
    left, right ─► the same encoder ─► features, moved along the flow ─┘ cross-attention at 1/8, 1/4 and 1/2

The paper combines such a GAN with a flow model and does not say how. The rule here is ours:

- The frame that is to be made does not exist, so the encoder gets the flow model's guess of it.
- The head predicts, for every pixel and either neighbour, the kernels, masks and offsets of `deform_sep_conv`; offsets
  count from where the flow points, so that far motion needs no large ones. Heads of the left frame are told t, those
  of the right one 1 - t. The sum over both neighbours is E. What a kernel adds to the identity adds up to zero, so that
  brightness is kept; published heads leave that to be learned, which takes longer than we can train.
- The flow model's frame F is the third candidate: out = F + g (E - F) + d b, with a weight g and a bias b in (-1, 1)
  that the head predicts at every pixel, and d, how far F and both neighbours moved to t differ around it. So the
  bias can do nothing where all agree. The layer behind g and b starts at zero: an untrained network gives F exactly,
  and training moves away from F only where that lowers the loss.

Everything is convolutions without normalisation over the picture, and attention in windows: what is learned on small
crops holds for large frames. Fields are predicted at half size and enlarged band by band.

Source: Danier et al., "LDMVFI", AAAI 2024 (VQ-FIGAN), Cheng and Chen, TPAMI 2021 (EDSC). Knows nothing of files or
clips.
"""

import itertools
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.vfi.attention import NeighbourAttention
from stages.vfi.dsc import BAND_ROWS, deform_sep_conv
from stages.vfi.quantise import Quantiser
from stages.vfi.rife import warp

__all__ = ["Candidates", "Design", "Gan", "Made"]

TAPS = 5
_SHARP = (1 + 3) * 4  # gate and bias of 2 x 2 pixels
_GATE = 8.0  # of the head's output: the gate has far to go, from zero to about a half, and should go there early


@dataclass(frozen=True, slots=True)
class Design:
    """The sizes of a network; they stand in the metadata of its weights file."""

    widths: tuple[int, int, int] = (24, 48, 96)  # channels at 1/2, 1/4, 1/8
    codes: int = 1024
    code_width: int = 4
    head: int = 32


@dataclass(frozen=True, slots=True)
class Candidates:
    """Both neighbours and what the flow model says of time `t`; sides are multiples of 64. Float32."""

    left: Tensor  # (N, 3, H, W) in [0, 1]
    right: Tensor
    frame: Tensor  # the flow model's frame at t
    flow: Tensor  # (N, 4, H, W)
    mask: Tensor  # (N, 1, H, W) logits
    t: Tensor  # (N,)

    def to(self, device: torch.device) -> Self:
        return type(self)(*(getattr(self, name).to(device) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Made:
    """What training needs beside the frame."""

    frame: Tensor  # (N, 3, H, W), not clamped
    kernels: Tensor  # E of the module's text, likewise
    latents: Tensor  # (N, D, h, w) before the codebook


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.leaky_relu(self.first(F.leaky_relu(x, 0.1)), 0.1))
        return x + change


def _double(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))


class Encoder(nn.Module):
    """A frame (N, 3, H, W) -> features at 1/2, 1/4 and 1/8 of its size."""

    def __init__(self, widths: tuple[int, int, int]) -> None:
        super().__init__()
        self.enter = nn.Conv2d(12, widths[0], 3, 1, 1)
        self.levels = nn.ModuleList(_Residual(width) for width in widths)
        self.halve = nn.ModuleList(nn.Conv2d(above, below, 4, 2, 1) for above, below in itertools.pairwise(widths))

    def forward(self, frame: Tensor) -> list[Tensor]:
        x = self.enter(F.pixel_unshuffle(frame.to(self.enter.weight.dtype), 2) * 2 - 1)
        features = [self.levels[0](x)]
        for halve, level in zip(self.halve, list(self.levels)[1:], strict=True):
            features.append(level(halve(features[-1])))
        return features


class Decoder(nn.Module):
    """Quantised latents at 1/8 and both neighbours' features -> features at 1/2."""

    def __init__(self, widths: tuple[int, int, int], code_width: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(code_width, widths[2], 3, 1, 1)
        self.before = nn.ModuleList(_Residual(width) for width in widths)
        self.attend = nn.ModuleList(NeighbourAttention(width) for width in widths)
        self.after = nn.ModuleList(_Residual(width) for width in widths)
        self.enlarge = nn.ModuleList(_double(widths[level + 1], widths[level]) for level in (0, 1))

    def forward(self, codes: Tensor, left: list[Tensor], right: list[Tensor], t: Tensor) -> Tensor:
        x: Tensor = self.enter(codes)
        for level in (2, 1, 0):
            x = self.attend[level](self.before[level](x), left[level], right[level], t)
            x = self.after[level](x)
            if level:
                x = self.enlarge[level - 1](x)
        return x


class Head(nn.Module):
    """Decoder features and the candidates themselves -> the fields of the blend, at 1/2 of the frame's size."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        seen = 4 * (3 * 3 + 1)  # F, both neighbours moved along the flow, the flow model's mask; 2 x 2 pixels each
        per_frame = 2 * TAPS + 2 * TAPS * TAPS
        self.enter = nn.Conv2d(width + seen, head, 3, 1, 1)
        self.body = _Residual(head)
        self.left, self.right = (nn.Conv2d(head + 1, per_frame, 3, 1, 1) for _ in range(2))
        self.shares = nn.Conv2d(head + 1, TAPS * TAPS, 3, 1, 1)
        self.blend = nn.Conv2d(head + 1, _SHARP, 3, 1, 1)
        for layer in (self.left, self.right, self.shares):
            nn.init.normal_(layer.weight, std=1e-3)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.blend.weight)
        nn.init.zeros_(self.blend.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, seen: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(fields (N, 145 - 4, H/2, W/2), gate and bias (N, 4, H, W)), float32."""
        x = self.body(self.enter(torch.cat((x, seen.to(x.dtype)), 1)))
        time = t.to(x.dtype).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[-2:])
        of_left, of_right = torch.cat((x, time), 1), torch.cat((x, 1 - time), 1)
        fields = torch.cat((self.left(of_left), self.right(of_right), self.shares(of_left)), 1)
        return fields.float(), F.pixel_shuffle(self.blend(of_left).float(), 2)


class Gan(nn.Module):
    """The generator; see the top of this module."""

    def __init__(self, design: Design | None = None) -> None:
        super().__init__()
        self.design = design or Design()
        self.band_rows: int | None = BAND_ROWS  # of the head at once; None for all, which needs far more memory
        widths = self.design.widths
        self.encoder = Encoder(widths)
        self.squeeze = nn.Conv2d(widths[2], self.design.code_width, 1)
        self.quantiser = Quantiser(self.design.codes, self.design.code_width)
        self.decoder = Decoder(widths, self.design.code_width)
        self.head = Head(widths[0], self.design.head)

    def encode(self, frame: Tensor) -> list[Tensor]:
        """Features of a frame (N, 3, H, W), at 1/2, 1/4 and 1/8."""
        features: list[Tensor] = self.encoder(frame)
        return features

    def forward(self, given: Candidates) -> Made:
        """One step of training: everything at once."""
        count = len(given.t)
        levels = self.encode(torch.cat((given.left, given.right, given.frame)))
        left, right, own = zip(*(torch.split(level, count) for level in levels), strict=True)
        latents = self.squeeze(own[-1])
        return Made(*self._decode(given, latents, list(left), list(right)), latents)

    def between(self, given: Candidates, left: list[Tensor], right: list[Tensor]) -> Tensor:
        """The frame (N, 3, H, W) in [0, 1], from neighbours already encoded."""
        latents = self.squeeze(self.encode(given.frame)[-1])
        return self._decode(given, latents, left, right)[0].clamp(0, 1)

    def _decode(
        self, given: Candidates, latents: Tensor, left: list[Tensor], right: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """(the frame, E of the module's text)."""
        to_left, to_right = given.flow[:, :2], given.flow[:, 2:]
        moved = zip(_along(left, to_left), _along(right, to_right), strict=True)
        moved_left, moved_right = (list(levels) for levels in zip(*moved, strict=True))
        x = self.decoder(self.quantiser(latents), moved_left, moved_right, given.t)
        from_left, from_right = warp(given.left, to_left), warp(given.right, to_right)
        seen = torch.cat((given.frame, from_left, from_right, given.mask.clamp(-8, 8)), 1)
        fields, sharp = self.head(x, F.pixel_unshuffle(seen, 2), given.t)
        gate, bias = torch.tanh(_GATE * sharp[:, :1]), torch.tanh(sharp[:, 1:])
        kernels = _convolve(given, fields, self.band_rows)
        made: Tensor = (
            given.frame + gate * (kernels - given.frame) + bias * _disagreement(given.frame, from_left, from_right)
        )
        return made, kernels


def _disagreement(*candidates: Tensor) -> Tensor:
    """How far candidates (N, 3, H, W) differ, as the mean over colours, at a pixel and the eight around it."""
    pairs = zip(candidates, (*candidates[1:], candidates[0]), strict=True)
    difference = sum((a - b).abs().mean(1, keepdim=True) for a, b in pairs)
    return F.max_pool2d(difference, 3, 1, 1)  # type: ignore[arg-type]


def _along(levels: list[Tensor], flow: Tensor) -> list[Tensor]:
    """Features at 1/2, 1/4, 1/8 moved along a flow (N, 2, H, W)."""
    moved = []
    for level in levels:
        flow = F.avg_pool2d(flow, 2) * 0.5
        moved.append(warp(level, flow).to(level.dtype))
    return moved


def _convolve(given: Candidates, fields: Tensor, band_rows: int | None) -> Tensor:
    """E of the module's text: both neighbours through `deform_sep_conv`, in bands of rows."""
    square = TAPS * TAPS
    sizes = [TAPS, TAPS, square, square]
    centre = torch.zeros(1, TAPS, 1, 1, device=fields.device)
    centre[:, TAPS // 2] = 1
    padded = F.pad(fields.contiguous(), (0, 0, 1, 1), mode="replicate")  # a row of either side, as enlarging needs
    step = fields.shape[2] if band_rows is None else band_rows // 2
    bands = []
    for top in range(0, fields.shape[2], step):
        part = padded[:, :, top : top + step + 2]
        large = F.interpolate(part, scale_factor=2, mode="bilinear", align_corners=False)[:, :, 2:-2]
        rows = slice(2 * top, 2 * top + large.shape[2])
        of_left, of_right, shares = torch.split(large, [sum(sizes), sum(sizes), square], dim=1)
        share = torch.sigmoid(given.mask[:, :, rows] + shares)
        band = torch.zeros_like(given.frame[:, :, rows])
        for frame, flow, field, weight in (
            (given.left, given.flow[:, :2, rows], of_left, share),
            (given.right, given.flow[:, 2:, rows], of_right, 1 - share),
        ):
            vertical, horizontal, dy, dx = torch.split(field, sizes, dim=1)
            band = band + deform_sep_conv(
                frame,
                centre + vertical - vertical.mean(1, keepdim=True),
                centre + horizontal - horizontal.mean(1, keepdim=True),
                weight,
                dy + flow[:, 1:],
                dx + flow[:, :1],
                top=2 * top,
                band_rows=band_rows,
            )
        bands.append(band)
    return torch.cat(bands, dim=2)
