"""The GAN's network with fresh weights: it starts as the flow model's frame, and every part of it takes part."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stages.vfi.attention import WINDOW, NeighbourAttention
from stages.vfi.gan import Candidates, Design, Gan
from stages.vfi.quantise import Quantiser

SMALL = Design(widths=(24, 24, 24), codes=32, code_width=3, head=8)


def candidates(count: int = 1, size: tuple[int, int] = (64, 128), seed: int = 0) -> Candidates:
    random = torch.Generator().manual_seed(seed)

    def draw(channels: int) -> Tensor:
        return torch.rand(count, channels, *size, generator=random)

    time = torch.linspace(0.2, 0.7, count)
    return Candidates(draw(3), draw(3), draw(3), draw(4) * 6 - 3, draw(1) * 4 - 2, time)


def fresh() -> Gan:
    torch.manual_seed(3)
    return Gan(SMALL).requires_grad_(False)


@pytest.fixture
def trained() -> Gan:
    """As if trained: no layer is zero any more."""
    net = fresh()
    for parameter in net.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return net


def made(net: Gan, given: Candidates) -> Tensor:
    frame: Tensor = net(given).frame
    return frame


def test_an_untrained_network_gives_the_flow_models_frame_exactly() -> None:
    given = candidates(2)
    assert torch.equal(made(fresh(), given), given.frame)


def test_where_all_candidates_agree_nothing_changes(trained: Gan) -> None:
    still = torch.full((1, 3, 64, 64), 0.4)
    kernels = trained.head
    for layer in (kernels.left, kernels.right):  # kernels that only look at the centre: E is what all agree on
        layer.weight.zero_()
        layer.bias.zero_()  # type: ignore[union-attr]
    given = Candidates(still, still, still, torch.zeros(1, 4, 64, 64), torch.zeros(1, 1, 64, 64), torch.tensor([0.5]))
    assert (made(trained, given) - still).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["left", "right", "frame", "flow", "mask", "t"])
def test_every_candidate_speaks(trained: Gan, name: str) -> None:
    given = candidates()
    other = replace(given, **{name: getattr(candidates(seed=1), name) if name != "t" else torch.tensor([0.9])})
    assert (made(trained, other) - made(trained, given)).abs().mean() > 1e-4


@pytest.mark.parametrize("part", ["attention", "codebook", "kernels", "gate", "bias"])
def test_every_mechanism_does_something(trained: Gan, part: str) -> None:
    given, head = candidates(), trained.head
    before = made(trained, given)
    if part == "attention":
        for layer in trained.decoder.attend:
            layer.out.weight.zero_()  # type: ignore[union-attr, operator]
    elif part == "codebook":
        trained.quantiser.codebook[:] = trained.quantiser.codebook[:1]
    elif part == "kernels":
        head.left.weight.zero_()
    else:
        rows = slice(0, 4) if part == "gate" else slice(4, 16)
        head.blend.weight[rows] = 0
    assert (made(trained, given) - before).abs().mean() > 1e-5


def test_both_neighbours_change_places_when_time_runs_backwards(trained: Gan) -> None:
    """Attention treats both alike but for how far away they are."""
    layer = trained.decoder.attend[0]
    x, a, b = (torch.randn(1, 24, 16, 16) for _ in range(3))
    t = torch.tensor([0.3])
    assert torch.allclose(layer(x, a, b, t), layer(x, b, a, 1 - t), atol=1e-5)
    assert not torch.allclose(layer(x, a, b, t), layer(x, b, a, t), atol=1e-3)


def test_attention_stays_in_its_window() -> None:
    torch.manual_seed(0)
    layer = NeighbourAttention(24)
    x, a, b = (torch.randn(1, 24, 2 * WINDOW, 2 * WINDOW) for _ in range(3))
    t = torch.tensor([0.5])
    changed = a.clone()
    changed[..., :WINDOW, :WINDOW] *= -1
    difference = (layer(x, changed, b, t) - layer(x, a, b, t)).abs().amax(1)[0]
    assert difference[:WINDOW, :WINDOW].min() > 0
    assert difference[WINDOW:].max() == 0
    assert difference[:, WINDOW:].max() == 0


def test_frames_encoded_once_give_the_same_as_all_at_once(trained: Gan) -> None:
    given = candidates()
    between = trained.between(given, trained.encode(given.left), trained.encode(given.right))
    assert torch.allclose(between, made(trained, given).clamp(0, 1), atol=1e-5)


@pytest.mark.parametrize("band_rows", [8, 48, None])
def test_bands_change_no_bit(trained: Gan, band_rows: int | None) -> None:
    given = candidates(2)
    before = made(trained, given)
    trained.band_rows = band_rows
    assert torch.equal(made(trained, given), before)


def test_latents_become_their_nearest_entries() -> None:
    torch.manual_seed(0)
    quantiser = Quantiser(16, 3)
    latents = torch.randn(2, 3, 4, 5, requires_grad=True)
    quantised = quantiser(latents)
    distance = (latents.permute(0, 2, 3, 1)[..., None, :] - quantiser.codebook).norm(dim=-1)
    assert torch.equal(quantiser.nearest(latents), distance.argmin(-1))
    assert torch.allclose(quantised, quantiser.look_up(distance.argmin(-1)), atol=1e-6)
    (slope,) = torch.autograd.grad(quantised.sum(), latents)
    assert torch.equal(slope, torch.ones_like(slope))  # straight through


def test_codebook_and_latents_are_pulled_together_each_by_its_own_loss() -> None:
    torch.manual_seed(0)
    quantiser = Quantiser(16, 3)
    latents = torch.randn(1, 3, 4, 4, requires_grad=True)
    codebook, commitment = quantiser.losses(latents)
    assert torch.autograd.grad(codebook, latents, allow_unused=True, retain_graph=True)[0] is None
    assert torch.autograd.grad(commitment, quantiser.codebook, allow_unused=True, retain_graph=True)[0] is None
    (of_book,) = torch.autograd.grad(codebook, quantiser.codebook)
    (of_latents,) = torch.autograd.grad(commitment, latents)
    assert of_book.abs().sum() > 0
    assert of_latents.abs().sum() > 0


def test_codes_that_nothing_uses_move_to_where_latents_are() -> None:
    torch.manual_seed(0)
    quantiser = Quantiser(8, 3)
    quantiser.codebook.requires_grad_(False)[4:] = 1e3
    latents = torch.randn(1, 3, 8, 8)
    used = torch.bincount(quantiser.nearest(latents).flatten(), minlength=8)
    assert quantiser.revive(latents, used) >= 4
    assert quantiser.codebook.abs().max() < 10
    assert not used[4:].any()
