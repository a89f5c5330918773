"""`deform_sep_conv` against the formula written out, its gradients, its borders, its bands."""

import itertools

import pytest
import torch
from torch import Tensor

from stages.vfi.dsc import deform_sep_conv

Fields = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def random_fields(
    taps: int, size: tuple[int, int], *, far: float = 2.0, count: int = 1, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Fields]:
    """A frame of noise, kernels that add up to one, and offsets of `far` pixels."""
    random = torch.Generator().manual_seed(taps)

    def draw(channels: int) -> Tensor:
        return torch.randn(count, channels, *size, generator=random, dtype=dtype)

    square = taps * taps
    vertical, horizontal = (torch.softmax(draw(taps), 1) for _ in range(2))
    return draw(3).sigmoid(), (vertical, horizontal, draw(square).sigmoid(), far * draw(square), far * draw(square))


def written_out(frame: Tensor, fields: Fields) -> Tensor:
    """The formula, pixel by pixel, tap by tap, in double precision."""
    vertical, horizontal, mask, dy, dx = (field.double() for field in fields)
    frame = frame.double()
    count, _, height, width = frame.shape
    taps = vertical.shape[1]
    centre = (taps - 1) // 2
    out = torch.zeros_like(frame)
    for n, y, x in itertools.product(range(count), range(height), range(width)):
        for i, j in itertools.product(range(taps), repeat=2):
            tap = i * taps + j
            at_y = min(max(y + i - centre + float(dy[n, tap, y, x]), 0.0), height - 1.0)
            at_x = min(max(x + j - centre + float(dx[n, tap, y, x]), 0.0), width - 1.0)
            top, left = int(at_y), int(at_x)
            below, right = min(top + 1, height - 1), min(left + 1, width - 1)
            down, over = at_y - top, at_x - left
            sample = (1 - down) * ((1 - over) * frame[n, :, top, left] + over * frame[n, :, top, right])
            sample += down * ((1 - over) * frame[n, :, below, left] + over * frame[n, :, below, right])
            out[n, :, y, x] += vertical[n, i, y, x] * horizontal[n, j, y, x] * mask[n, tap, y, x] * sample
    return out


def one_tap(taps: int, size: tuple[int, int], y: int, x: int) -> Fields:
    """Fields that take the sample (y, x) of the n x n, counted from zero, and nothing else."""
    vertical, horizontal = torch.zeros(1, taps, *size), torch.zeros(1, taps, *size)
    vertical[:, y], horizontal[:, x] = 1, 1
    still = torch.zeros(1, taps * taps, *size)
    return vertical, horizontal, torch.ones(1, taps * taps, *size), still, still


@pytest.mark.parametrize("taps", [1, 3, 5])
@pytest.mark.parametrize("far", [0.7, 6.0])
def test_it_is_the_formula(taps: int, far: float) -> None:
    frame, fields = random_fields(taps, (7, 8), far=far, count=2)
    assert (deform_sep_conv(frame, *fields) - written_out(frame, fields)).abs().max() <= 2e-6


def test_in_double_precision_it_is_the_formula_to_rounding() -> None:
    frame, fields = random_fields(5, (6, 5), dtype=torch.float64)
    assert (deform_sep_conv(frame, *fields) - written_out(frame, fields)).abs().max() <= 1e-13


@pytest.mark.parametrize("taps", [3, 5])
def test_the_centre_tap_is_the_identity(taps: int) -> None:
    frame, _ = random_fields(taps, (10, 12))
    centre = (taps - 1) // 2
    assert (deform_sep_conv(frame, *one_tap(taps, (10, 12), centre, centre)) - frame).abs().max() <= 2e-6


def test_taps_count_from_the_upper_left() -> None:
    frame, _ = random_fields(5, (10, 12))
    moved = deform_sep_conv(frame, *one_tap(5, (10, 12), 0, 3))
    assert (moved[:, :, 2:, :-1] - frame[:, :, :-2, 1:]).abs().max() <= 2e-6


def test_beyond_the_border_lies_the_border() -> None:
    """Samples outside are the nearest pixel of the frame, once: neither zero nor doubled."""
    frame, fields = random_fields(5, (6, 8))
    vertical, horizontal, mask, dy, dx = fields
    up, left = deform_sep_conv(frame, vertical, horizontal, mask, dy - 99, dx - 99), frame[:, :, :1, :1]
    total = ((vertical[:, :, None] * horizontal[:, None]).flatten(1, 2) * mask).sum(1, keepdim=True)
    assert (up - left * total).abs().max() <= 2e-6


def test_gradients_reach_every_input() -> None:
    frame, fields = random_fields(3, (3, 3), far=0.3, dtype=torch.float64)
    inputs = tuple(tensor.requires_grad_() for tensor in (frame, *fields))
    assert torch.autograd.gradcheck(lambda *given: deform_sep_conv(*given, band_rows=2), inputs)


def test_recomputing_changes_no_gradient() -> None:
    def gradients(recompute: bool) -> list[Tensor]:
        frame, fields = random_fields(5, (12, 9))
        inputs = [tensor.requires_grad_() for tensor in (frame, *fields)]
        made = deform_sep_conv(frame, *fields, band_rows=4, recompute=recompute)
        return list(torch.autograd.grad(made.square().sum(), inputs))

    for kept, recomputed in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(kept, recomputed)


@pytest.mark.parametrize("band_rows", [1, 7, 32, 1000])
def test_bands_change_no_bit(band_rows: int) -> None:
    frame, fields = random_fields(5, (40, 24), count=2)
    assert torch.equal(
        deform_sep_conv(frame, *fields, band_rows=band_rows), deform_sep_conv(frame, *fields, band_rows=None)
    )


def test_a_band_of_fields_is_that_part_of_the_whole() -> None:
    frame, fields = random_fields(5, (40, 24))
    part = deform_sep_conv(frame, *(field[:, :, 10:30] for field in fields), top=10)
    assert torch.equal(part, deform_sep_conv(frame, *fields)[:, :, 10:30])


def test_memory_is_that_of_a_band() -> None:
    """The largest tensor of a run holds the samples: those of some rows, not of the frame."""
    frame, fields = random_fields(5, (64, 32))

    def largest(band_rows: int | None) -> int:
        with torch.profiler.profile(profile_memory=True) as profile:
            deform_sep_conv(frame, *fields, band_rows=band_rows)
        return max(int(event.cpu_memory_usage) for event in profile.events() or [])

    assert largest(8) * 6 < largest(None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertical": (1, 4, 6, 8)}, "odd number of taps, got 4"),
        ({"mask": (1, 24, 6, 8)}, r"needs mask \(1, 25, 6, 8\) .* got \(1, 24, 6, 8\)"),
        ({"dx": (1, 25, 6, 9)}, r"needs dx \(1, 25, 6, 8\) .* got \(1, 25, 6, 9\)"),
    ],
)
def test_fields_that_do_not_fit_are_refused(change: dict[str, tuple[int, ...]], message: str) -> None:
    shapes = {"vertical": (1, 5, 6, 8), "horizontal": (1, 5, 6, 8)} | dict.fromkeys(("mask", "dy", "dx"), (1, 25, 6, 8))
    fields = {name: torch.zeros(shape) for name, shape in (shapes | change).items()}
    with pytest.raises(ValueError, match=message):
        deform_sep_conv(
            torch.zeros(1, 3, 6, 8),
            *(fields[name] for name in ("vertical", "horizontal", "mask", "dy", "dx")),
        )


def test_fields_that_reach_beyond_the_frame_are_refused() -> None:
    frame, fields = random_fields(3, (6, 8))
    with pytest.raises(ValueError, match="6 rows from row 1 on reach beyond the frame's 6 rows"):
        deform_sep_conv(frame, *fields, top=1)
