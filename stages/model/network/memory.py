"""What one denoising remembers between its steps, and the pass of one window that uses it.

Takes the network, what guides each window, and how often deep layers are computed; gives what the UNet says for all
copies of the latents. Keys and values of text and reference live here for one call of `denoise`, deep features for one
window of it: nothing is shared between requests. Windows whose SparseCtrl sees the same condition share its residuals
at every step. Knows nothing of schedulers, guidance or how windows are blended.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from stages.base import InputError
from stages.model.network.control import FrameResiduals, Hint
from stages.model.network.fast import can_run, embed_time
from stages.model.network.layers import Call, Tokens
from stages.model.network.reference import put_beside
from stages.model.network.reuse import Kept, Residuals, is_full, run_unet


class Memory:
    """Of one denoising of `copies`·B clips in one or more windows."""

    def __init__(
        self,
        unet: Any,
        speaking: tuple[Tensor, list[Tensor], Mapping[str, Tensor]],
        hints: Sequence[Sequence[Hint]],
        planes: Sequence[Tensor | None],
        *,
        copies: int,
        motion: bool,
        steps: int,
        reuse_every: int,
    ) -> None:
        """`speaking` is the text (k·B, L, C), the `image_embeds` and what is heard beside the time, of all copies;
        `hints` and `planes` are those of each window."""
        text, image, self._added = speaking
        self._unet, self._copies, self._motion = unet, copies, motion
        self._steps, self._every = steps, reuse_every
        self._tokens = Tokens(text, unet.encoder_hid_proj(image) if unet.encoder_hid_proj is not None else None)
        self._texts = [Tokens(text, None) for _ in hints[0]]
        self._hints, self._planes = hints, planes
        self._twins = [[_first_equal(row, index) for index in range(len(hints))] for row in zip(*hints, strict=True)]
        self._lent: dict[tuple[int, int], FrameResiduals] = {}  # of this step, by hint and window
        self._kept = [Kept() for _ in hints]

    @property
    def tokens(self) -> tuple[Tokens, ...]:
        """What the UNet reads, then each ControlNet."""
        return self._tokens, *self._texts

    def run(self, step: int, window: int, latents: Tensor, t: Tensor) -> Tensor:
        """(B, C, F, h, w) at step 0, 1, ... -> (k·B, C, F, h, w)."""
        if window == 0:
            self._lent.clear()
        batch, frames = latents.shape[0], latents.shape[2]
        time = embed_time(self._unet, t, self._copies * batch, self._unet.dtype, self._added)
        call = Call(self._copies, frames, time, self._tokens, self._motion)
        control = partial(self._control, window, latents, t)
        kept = self._kept[window] if self._every > 1 else None
        seen = put_beside(self._unet, latents, self._planes[window])
        return run_unet(self._unet, seen, call, control, kept, full=is_full(step, self._steps, self._every))

    def _control(self, window: int, latents: Tensor, t: Tensor) -> Residuals:
        total: Residuals = None
        for index, hint in enumerate(self._hints[window]):
            twin = (index, self._twins[index][window])
            made = self._lent.get(twin)
            if made is None:
                made = hint.residuals(latents, t, self._texts[index], self._copies)
                if self._twins[index].count(twin[1]) > 1:
                    self._lent[twin] = made
            if total is None:
                total = made
            else:
                total = tuple(a + b for a, b in zip(total[0], made[0], strict=True)), total[1] + made[1]
        return total


def can_remember(unet: Any, hints: Sequence[Hint], reuse_every: int) -> bool:
    """Whether no network has layers or hooks (offloading) that `stages.model.network.fast` does not know.

    Raises:
        InputError: deep layers are to be reused in such a network, or `reuse_every` is no count.
    """
    if reuse_every < 1:
        raise InputError(f"reuse_every is {reuse_every}; use 1 (exact) or the number of steps that share deep layers.")
    known = all(can_run(network) for network in (unet, *(hint.model for hint in hints)))
    if reuse_every > 1 and not known:
        raise InputError(
            f"reuse_every is {reuse_every}, but this network has layers or offloading hooks that cannot be run in "
            f"part; set reuse_every to 1, or offload to 'none' or 'model'."
        )
    return known


def _first_equal(row: Sequence[Hint], index: int) -> int:
    """The first window whose hint makes the same residuals as that of window `index`."""
    return next(earlier for earlier in range(index + 1) if earlier == index or row[index].equals(row[earlier]))
