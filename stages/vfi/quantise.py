"""The vector-quantised bottleneck: every latent is replaced by the nearest entry of a codebook.

Takes (N, D, h, w), gives the same shape made of codebook entries, with gradients passed straight through to the input,
and the two losses that training adds. Source: van den Oord et al., "Neural Discrete Representation Learning", NeurIPS
2017. Knows nothing of pictures.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Quantiser"]

_ROWS = 16384  # latents compared with the whole codebook at once: bounds the memory


class Quantiser(nn.Module):
    """`codes` entries of `width` numbers each."""

    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.codebook = nn.Parameter(torch.randn(codes, width) * 0.5)

    def nearest(self, latents: Tensor) -> Tensor:
        """The index of the entry nearest to every latent: (N, D, h, w) -> (N, h, w)."""
        rows = latents.detach().float().permute(0, 2, 3, 1)
        book = self.codebook.detach().float()
        found = [
            (book.square().sum(1) - 2 * part @ book.T).argmin(1) for part in torch.split(rows.flatten(0, 2), _ROWS)
        ]
        return torch.cat(found).view(rows.shape[:3])

    def look_up(self, indices: Tensor) -> Tensor:
        """(N, h, w) -> (N, D, h, w)."""
        return F.embedding(indices, self.codebook).permute(0, 3, 1, 2)

    def forward(self, latents: Tensor) -> Tensor:
        """Quantise; the gradient passes as if nothing had happened."""
        entries = self.look_up(self.nearest(latents)).to(latents.dtype)
        return latents + (entries - latents).detach()

    def losses(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """(codebook loss: entries move to latents, commitment loss: latents move to entries), float32 scalars."""
        entries = self.look_up(self.nearest(latents)).float()
        latents = latents.float()
        return F.mse_loss(entries, latents.detach()), F.mse_loss(latents, entries.detach())

    @torch.no_grad()
    def revive(self, latents: Tensor, used: Tensor) -> int:
        """Put entries that `used` (codes,) counts zero for at random `latents`; how many were moved."""
        dead = (used == 0).nonzero().flatten()
        rows = latents.detach().float().permute(0, 2, 3, 1).flatten(0, 2)
        chosen = rows[torch.randint(len(rows), (len(dead),))]
        self.codebook[dead] = chosen + 0.01 * torch.randn_like(chosen)
        return len(dead)
