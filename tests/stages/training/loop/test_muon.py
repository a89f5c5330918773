"""Muon: turned matrices, which parameter takes which step, and a state that goes on."""

import torch
from torch import nn

from stages.training.loop.muon import Muon, orthogonalised


def test_singular_values_become_about_one() -> None:
    torch.manual_seed(0)
    for shape in ((8, 40), (40, 8), (16, 16)):
        matrix = torch.randn(shape) @ torch.diag(torch.logspace(-1, 1, shape[1]))
        found = torch.linalg.svdvals(orthogonalised(matrix).float())
        assert float(found.median()) > 0.6
        assert float(found.max()) < 1.35


def test_every_direction_of_a_convolution_moves_alike_and_plain_parameters_as_adamw() -> None:
    torch.manual_seed(0)
    conv, judge, other = (nn.Conv2d(4, 6, 3) for _ in range(3))
    other.load_state_dict(judge.state_dict())
    before = conv.weight.detach().clone()
    optimizer = Muon([*conv.parameters(), *judge.parameters()], 0.1, plain=judge.parameters(), weight_decay=0.0)
    adamw = torch.optim.AdamW(other.parameters(), lr=0.1, betas=(0.9, 0.99), weight_decay=0.0)
    x = torch.randn(2, 4, 8, 8)
    for _ in range(3):
        for module in (conv, judge, other):
            module.zero_grad()
            (module(x).square() * torch.linspace(1, 9, 6).view(1, 6, 1, 1)).mean().backward()
        optimizer.step()
        adamw.step()
    for ours, theirs in zip(judge.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    moved = torch.linalg.svdvals((conv.weight - before).reshape(6, -1).detach())
    assert float(moved.max() / moved.min()) < 3


def test_a_stopped_run_goes_on_the_same() -> None:
    def pace(steps: int, stop: int | None = None) -> nn.Module:
        torch.manual_seed(0)
        conv = nn.Conv2d(3, 5, 3)
        optimizer = Muon(conv.parameters(), 0.05)
        for step in range(steps):
            if step == stop:
                state = optimizer.state_dict()
                optimizer = Muon(conv.parameters(), 0.05)
                optimizer.load_state_dict(state)
            optimizer.zero_grad()
            torch.manual_seed(step)
            conv(torch.randn(1, 3, 6, 6)).square().mean().backward()
            optimizer.step()
        return conv

    for whole, halves in zip(pace(6).parameters(), pace(6, stop=3).parameters(), strict=True):
        assert torch.equal(whole, halves)
    assert torch.isfinite(pace(2).weight).all()  # type: ignore[arg-type]
