"""`deform_sep_conv`: the enhanced deformable separable convolution (EDSC), as an operation of torch.

Every output pixel is a weighted sum of n x n samples of the frame, each taken a little off its place in a regular grid:

    out(y, x) = sum_ij  vertical[i] horizontal[j] mask[i, j]  frame(y + i - c + dy[i, j],  x + j - c + dx[i, j])

with c = (n - 1) / 2, bilinear samples, and coordinates clamped to the frame. All of `vertical` ... `dx` are fields:
they have a value of their own at every output pixel. The sum over two frames and the bias of the paper are the
caller's.

Source: Cheng and Chen, "Multiple Video Frame Interpolation via Enhanced Deformable Separable Convolution", TPAMI 2021,
eq. 4. Public CUDA kernels put the centre at (n + 1) / 2 and count the samples outside twice; this one does neither.

Runs on any device of torch, forward and backward (autograd), in the dtype of the frame. It works on bands of rows: n x
n samples of a whole frame need n² times its memory (at 1048x1048 and n = 5, 330 MB), those of a band do not, and a band
that stays in the cache is the faster one too. Knows nothing of networks or time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["BAND_ROWS", "deform_sep_conv"]

BAND_ROWS = 32  # measured on a CPU: fastest from 16 to 64


def deform_sep_conv(
    frame: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    mask: Tensor,
    dy: Tensor,
    dx: Tensor,
    *,
    top: int = 0,
    band_rows: int | None = BAND_ROWS,
    recompute: bool = False,
) -> Tensor:
    """Convolve `frame` (N, C, H, W) with fields of h rows; gives (N, C, h, W).

    Args:
        vertical, horizontal: (N, n, h, W); n is odd.
        mask, dy, dx: (N, n * n, h, W), tap (i, j) at i * n + j; offsets in pixels.
        top: the row of the frame that the fields' first row belongs to; with h = H it is 0.
        band_rows: rows at once; None for all, which costs n² times the memory and changes no value.
        recompute: compute a band again for its gradients instead of keeping its samples.

    Raises:
        ValueError: shapes that do not belong together, or an even n.
    """
    _check(frame, vertical, horizontal, mask, dy, dx, top)
    rows = dy.shape[2]
    step = rows if band_rows is None else band_rows
    bands = []
    for start in range(0, rows, step):
        fields = [field[:, :, start : start + step] for field in (vertical, horizontal, mask, dy, dx)]
        if recompute and torch.is_grad_enabled():
            bands.append(checkpoint(_band, frame, fields, top + start, use_reentrant=False))
        else:
            bands.append(_band(frame, fields, top + start))
    return bands[0] if len(bands) == 1 else torch.cat(bands, dim=2)


def _band(frame: Tensor, fields: list[Tensor], top: int) -> Tensor:
    """Some rows of the output, all taps stacked above each other in one `grid_sample`."""
    vertical, horizontal, mask, dy, dx = fields
    count, channels, height, width = frame.shape
    taps, rows = vertical.shape[1], vertical.shape[2]
    step = torch.arange(taps, device=frame.device, dtype=frame.dtype) - (taps - 1) / 2
    row = torch.arange(top, top + rows, device=frame.device, dtype=frame.dtype)[:, None]
    column = torch.arange(width, device=frame.device, dtype=frame.dtype)
    y = row + step.repeat_interleave(taps)[:, None, None] + dy
    x = column + step.repeat(taps)[:, None, None] + dx
    # grid_sample counts from the pixels' outer edges with align_corners=False, which also holds for sides of one pixel.
    grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)  # (N, n², h, W, 2)
    samples = F.grid_sample(
        frame, grid.flatten(1, 2), mode="bilinear", padding_mode="border", align_corners=False
    ).view(count, channels, taps * taps, rows, width)
    weight = (vertical[:, :, None] * horizontal[:, None]).flatten(1, 2) * mask
    out = samples[:, :, 0] * weight[:, None, 0]
    for tap in range(1, taps * taps):  # tap by tap, because the products of all of them would not stay in the cache
        out = torch.addcmul(out, samples[:, :, tap], weight[:, None, tap])
    return out


def _check(frame: Tensor, vertical: Tensor, horizontal: Tensor, mask: Tensor, dy: Tensor, dx: Tensor, top: int) -> None:
    count, _, height, width = frame.shape
    taps, rows = vertical.shape[1:3]
    if taps % 2 == 0:
        raise ValueError(f"deform_sep_conv needs an odd number of taps, got {taps} in {tuple(vertical.shape)}.")
    for name, field, channels in (
        ("vertical", vertical, taps),
        ("horizontal", horizontal, taps),
        ("mask", mask, taps * taps),
        ("dy", dy, taps * taps),
        ("dx", dx, taps * taps),
    ):
        if field.shape != (count, channels, rows, width):
            raise ValueError(
                f"deform_sep_conv needs {name} {(count, channels, rows, width)} for a frame {tuple(frame.shape)} and "
                f"{taps} taps, got {tuple(field.shape)}."
            )
    if not 0 <= top <= height - rows:
        raise ValueError(f"Fields of {rows} rows from row {top} on reach beyond the frame's {height} rows.")
