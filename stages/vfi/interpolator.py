"""Flow model and GAN together, on a device: frames as a clip has them in, the frame between them out.

Takes and gives (H, W, 3) uint8. What a frame has in common with all times and with both of its gaps (padding, the flow
model's context, the GAN's features) is computed once, by `see`. Without a GAN the flow model's frame is the result.
Knows nothing of clips, factors or cuts.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.types import UInt8
from stages.vfi.gan import Candidates, Gan
from stages.vfi.rife import Encoded, Rife

__all__ = ["Interpolator", "Neighbour"]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A frame as both networks know it."""

    encoded: Encoded
    features: list[Tensor]  # of the GAN, at 1/2, 1/4, 1/8; empty without one


class Interpolator:
    """The two networks, of which the second may be missing."""

    def __init__(self, flow: Rife, gan: Gan | None) -> None:
        self._flow, self._gan = flow, gan
        self._device = next(flow.parameters()).device

    @torch.inference_mode()
    def see(self, frame: UInt8) -> Neighbour:
        """Encode a frame (H, W, 3), perhaps read-only."""
        pixels = torch.from_numpy(frame.copy()).to(self._device)
        encoded = self._flow.encode(pixels.permute(2, 0, 1)[None].float().contiguous() / 255)
        return Neighbour(encoded, [] if self._gan is None else self._gan.encode(encoded.frame))

    def frame(self, left: Neighbour, right: Neighbour, t: float) -> UInt8:
        """The frame (H, W, 3) at time `t`, 0 < t < 1."""
        return self.both(left, right, t)[-1]

    @torch.inference_mode()
    def both(self, left: Neighbour, right: Neighbour, t: float) -> tuple[UInt8, ...]:
        """The frame (H, W, 3) at time `t` as the flow model makes it and, with a GAN, as both make it."""
        made = self._flow.estimate(left.encoded, right.encoded, t)
        frames = [made.frame]
        if self._gan is not None:
            time = torch.full((1,), t, device=self._device)
            given = Candidates(left.encoded.frame, right.encoded.frame, made.frame, made.flow, made.mask, time)
            frames.append(self._gan.between(given, left.features, right.features))
        height, width = left.encoded.size
        return tuple(_as_pixels(frame[0, :, :height, :width]) for frame in frames)


def _as_pixels(frame: Tensor) -> UInt8:
    """(3, H, W) in [0, 1] -> (H, W, 3) uint8."""
    pixels: UInt8 = (frame * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return pixels
