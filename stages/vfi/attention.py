"""Cross-attention from the frame being made to its two neighbours, in windows.

Takes decoder features and both neighbours' features at one level, (N, C, h, w) with sides that are multiples of
`WINDOW`; gives the decoder features plus what the neighbours answered. A pixel sees the `WINDOW` x `WINDOW` pixels
around it in both neighbours, so that time and memory grow with the picture and not with its square. The neighbours come
moved along the flow, so what belongs together lies in the same window. Knows nothing of flow or frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["WINDOW", "NeighbourAttention"]

WINDOW = 8


def _split(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N * windows, WINDOW², C)."""
    count, channels, height, width = x.shape
    tiles = x.view(count, channels, height // WINDOW, WINDOW, width // WINDOW, WINDOW)
    return tiles.permute(0, 2, 4, 3, 5, 1).reshape(-1, WINDOW * WINDOW, channels)


def _join(tiles: Tensor, size: tuple[int, int]) -> Tensor:
    """The inverse of `_split` for pictures of (h, w)."""
    height, width = size
    grid = tiles.view(-1, height // WINDOW, width // WINDOW, WINDOW, WINDOW, tiles.shape[-1])
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(-1, tiles.shape[-1], height, width)


class NeighbourAttention(nn.Module):
    """Windowed cross-attention; each neighbour's features carry how far away in time it is."""

    def __init__(self, width: int, head_width: int = 24) -> None:
        super().__init__()
        self._heads = width // head_width
        self.ask, self.answer = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width + 1, 2 * width)
        self.out = nn.Linear(width, width)
        self.position = nn.Parameter(torch.randn(WINDOW * WINDOW, width) * 0.02)

    def forward(self, x: Tensor, left: Tensor, right: Tensor, t: Tensor) -> Tensor:
        """`t` (N,): the time of `x`; 0 is `left`, 1 is `right`."""
        asked = self._by_head(self.query(self.ask(_split(x)) + self.position))
        told = torch.cat([self._tell(left, t), self._tell(right, 1 - t)], dim=1)  # (windows, 2 * WINDOW², 2C)
        key, value = (self._by_head(part) for part in told.chunk(2, dim=-1))
        heard = F.scaled_dot_product_attention(asked, key, value).transpose(1, 2).flatten(2)
        return x + _join(self.out(heard), (x.shape[-2], x.shape[-1]))

    def _tell(self, features: Tensor, distance: Tensor) -> Tensor:
        tiles = self.answer(_split(features)) + self.position
        windows = len(tiles) // len(distance)
        away = distance.to(tiles.dtype).repeat_interleave(windows)[:, None, None].expand(-1, tiles.shape[1], 1)
        told: Tensor = self.key_value(torch.cat((tiles, away), dim=-1))
        return told

    def _by_head(self, tokens: Tensor) -> Tensor:
        return tokens.view(len(tokens), tokens.shape[1], self._heads, -1).transpose(1, 2)
