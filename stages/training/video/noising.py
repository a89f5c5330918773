"""The training side of diffusion: noise a clean latent to a random time, and what the network should say about it.

Takes a preset's `Denoising`, so that training and sampling share one noise schedule and one kind of prediction; with
its `Prior` as well, training noise leans as the noise does that sampling starts from. Knows nothing of networks.
"""

import torch
from torch import Tensor

from stages.model.sampling.prior import fade
from stages.model.sampling.sampler import TRAIN_STEPS, build_scheduler, tail_timesteps
from stages.presets import Denoising, Prior


class Noising:
    """One noise schedule. x_t = signal · x_0 + spread · noise; the target is the noise, or the velocity
    signal · noise - spread · x_0 (arXiv 2202.00512).

    A clip at the highest time still holds a little of itself, and a network learns to read there how it will move; the
    noise prior of sampling holds the first frame instead. Noise that leans by (x_0 of the first frame - x_0) times the
    signal over the spread of that time makes both the same. In the same way V2V, which begins at a lower time with
    keyframes of the low size, learns to end with clips of the high size.
    """

    def __init__(self, denoising: Denoising, prior: Prior | None = None, *, strength: float = 1.0) -> None:
        products: Tensor = build_scheduler(denoising).alphas_cumprod
        self._velocity = denoising.prediction_type == "v_prediction"
        self._signal = products.sqrt()
        self._spread = (1 - products).sqrt()
        self._prior = prior
        sampled = build_scheduler(denoising)
        sampled.set_timesteps(denoising.steps)
        self.start = int(tail_timesteps(sampled, strength)[0])  # the time at which sampling begins

    def draw_times(self, count: int, low: int = 0, high: int = TRAIN_STEPS) -> Tensor:
        """(count,) times in low..high on the CPU, spread evenly over the batch."""
        places = (torch.rand(()) + torch.arange(count) / count) % 1
        return (low + places * (high - low)).long()[torch.randperm(count)]

    def __call__(self, clean: Tensor, times: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """(noised latents, target), both shaped as `clean` (N, ...); `times` is (N,)."""
        signal, spread = self._at(times, clean)
        return signal * clean + spread * noise, signal * noise - spread * clean if self._velocity else noise

    def draw_noise(self, clean: Tensor, softened: Tensor | None = None, anchors: Tensor | None = None) -> Tensor:
        """Noise for the clips `clean` (B, F, ...), with the prior's lean, or towards what V2V renoises.

        The prior leans to the references' latents `anchors` (B, ...), or without them to the first frames.
        """
        noise = torch.randn_like(clean)
        held = (self._signal[self.start] / self._spread[self.start]).to(clean)  # of what sampling begins with
        if softened is not None:
            return noise + held * (softened - clean)
        if self._prior is None or not self._prior.weight:
            return noise
        lean = self._prior.weight * fade(clean.shape[1], self._prior.decay).view(1, -1, 1, 1, 1).to(clean)
        reference = clean[:, :1] if anchors is None else anchors[:, None]
        return noise + lean * held * (reference - clean)

    def clean_from(self, noised: Tensor, said: Tensor, times: Tensor) -> Tensor:
        """The clean latents that a network's answer `said` about `noised` means."""
        signal, spread = self._at(times, noised)
        return signal * noised - spread * said if self._velocity else (noised - spread * said) / signal

    def _at(self, times: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *([1] * (like.ndim - 1)))
        index = times.cpu()
        return self._signal[index].view(shape).to(like.device), self._spread[index].view(shape).to(like.device)
