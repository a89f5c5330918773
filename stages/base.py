"""The contract of a stage, and the little that every stage shares.

A stage is a plain class that runs without Ray, so that it can be read, tested and profiled alone:

    stage = StageClass.load(preset, device="cpu")
    value = stage(*inputs, params=params, seed=7, report=report)

    stage   inputs                 gives
    t2i     -                      Image
    i2v     Image                  Keyframes
    v2v     Image, Keyframes       Piece: the window `params.part`, alone
    vfi     Piece, the one before  Clip: the frames which that piece adds to the video

It is a pure function of its arguments: same inputs, seed, device type and library versions give the same bytes, however
many replicas there are and whichever one runs it. `report(step, total)` is called at every denoising step and every
interpolated chunk; it raises `Cancelled` to stop the work there. One with a `glimpse` may show steps as they are taken
(`stages.model.sampling.glimpses`). A stage that denoises can also stop between two steps
and go on in another process: `stages.state`.

A stage may also be a `BatchStage`, which computes several calls at once. What a batch gives is what each of its calls
gives alone up to rounding, because a matrix product of more rows may add in another order: see the README for how far.
So nobody batches unless a configuration says so.

This module knows nothing of torch, Ray or any one stage.
"""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from stages.presets import Preset
from stages.types import STAGE_NAMES, StageName, Value

__all__ = [
    "STAGE_NAMES",
    "BatchStage",
    "Cancelled",
    "InputError",
    "Report",
    "Stage",
    "StageError",
    "StageName",
    "WeightsError",
    "derive_seed",
    "ignore_progress",
]

Report = Callable[[int, int], None]


class Cancelled(Exception):  # noqa: N818 - it is an order that was followed, not an error
    """Raised by `report` to stop a stage; never caught inside one."""


class StageError(Exception):
    """Everything a stage raises on purpose.

    StageError
    ├── InputError      an input or parameter that this stage cannot take
    └── WeightsError    a weights file that is missing, broken or of another shape
    """


class InputError(StageError, ValueError):
    """An input or a parameter that this stage cannot take; the message holds both values."""


class WeightsError(StageError):
    """A weights file that is missing, broken, or does not fit the model."""


def ignore_progress(step: int, total: int) -> None:
    """A `report` that neither shows nor stops anything."""


def derive_seed(seed: int, *names: str | int) -> int:
    """A seed for one named use of the job's seed: independent of the others, the same on every machine."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Stage(Protocol):
    """What `deployments.replicas.replica` needs of a stage."""

    name: StageName

    @classmethod
    def load(cls, preset: Preset, device: str) -> Self:
        """Build the stage with its weights on `device` ("cpu", "cuda", "cuda:1").

        Raises:
            WeightsError: a file is missing, broken or of another shape.
        """

    def __call__(self, *inputs: Any, params: Any, seed: int, report: Report) -> Value:
        """Compute; see the table at the top of this module.

        Raises:
            InputError: an input or a parameter that the stage cannot take.
            Cancelled: `report` asked to stop.
        """


@runtime_checkable
class BatchStage(Protocol):
    """A stage without inputs that can compute several calls at once."""

    def shape(self, params: Any) -> Hashable:
        """What calls must have in common to be computed together; None for one that goes alone."""

    def batch(self, requests: Sequence[tuple[Any, int]], report: Report) -> Sequence[Value]:
        """One value for each (params, seed), all of one shape, in their order.

        Each equals what its call gives alone up to rounding, whatever it is batched with.

        Raises:
            InputError: a parameter that the stage cannot take.
            Cancelled: `report` asked to stop all of them.
        """
