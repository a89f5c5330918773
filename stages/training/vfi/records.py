"""Records on the disk: moments with what the frozen flow model says of them, so that a training step is cheap.

A folder of parts; each part is four arrays of `PART` records that are read through memory maps:

    pictures  (N, 3, 3, S, S) uint8     left, right, truth
    flow      (N, 5, S, S)    float16   pixels to the left frame (x, y), to the right one (x, y), mask logits
    frame     (N, 3, S, S)    float16   the flow model's frame at t, 0..1
    time      (N,)            float32

`Records.draw` gives a batch of crops, mirrored, turned and reversed in time at random. Knows nothing of networks but
the flow model.
"""

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.training.loop.journal import console
from stages.training.scenes.fetch import DataError
from stages.training.vfi.clips import Moment
from stages.vfi.gan import Candidates
from stages.vfi.rife import Rife

__all__ = ["PART", "Batch", "Records", "write_records"]

PART = 100
_ARRAYS = ("pictures", "flow", "frame", "time")


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step needs: candidates (N, ...) float32 and the true frames (N, 3, S, S) float32 in [0, 1]."""

    given: Candidates
    truth: Tensor


def write_records(moments: Iterable[Moment], net: Rife, folder: Path, *, label: str) -> None:
    """All of `moments` in parts below `folder`; a last, short part is kept. Does nothing where the folder is complete.

    Raises:
        DataError: no moment came.
    """
    done = folder / "complete"
    if done.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    source, written = iter(moments), 0
    while chunk := list(itertools.islice(source, PART)):
        _write_part(chunk, net, folder, written // PART)
        written += len(chunk)
        console.print(f"records {label}: {written}")
    if not written:
        raise DataError(f"No moving moments were found for {label}; give longer videos, or ones in which things move.")
    done.touch()


@torch.inference_mode()
def _write_part(moments: list[Moment], net: Rife, folder: Path, index: int) -> None:
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in _ARRAYS}
    for moment in moments:
        left, right, truth = (
            torch.from_numpy(frame).permute(2, 0, 1)[None] for frame in (moment.left, moment.right, moment.truth)
        )
        estimate = net.estimate(net.encode(left.float() / 255), net.encode(right.float() / 255), moment.t)
        height, width = left.shape[-2:]
        motion = torch.cat((estimate.flow, estimate.mask), 1)[0, :, :height, :width]
        columns["pictures"].append(torch.cat((left, right, truth)).numpy())
        columns["flow"].append(motion.half().numpy())
        columns["frame"].append(estimate.frame[0, :, :height, :width].half().numpy())
        columns["time"].append(np.array(moment.t, np.float32))
    for name, values in columns.items():
        np.save(folder / f"{index:04d}-{name}.npy", np.stack(values))


class Records:
    """Parts of one or more folders, drawn from by weight."""

    def __init__(self, folders: dict[Path, float]) -> None:
        self._weights = list(folders.values())
        self._parts: list[list[dict[str, NDArray[Any]]]] = []
        for folder in folders:
            numbers = sorted({path.name[:4] for path in folder.glob("*-time.npy")})
            if not numbers:
                raise DataError(f"{folder} holds no records; write them first.")
            self._parts.append(
                [{name: np.load(folder / f"{n}-{name}.npy", mmap_mode="r") for name in _ARRAYS} for n in numbers]
            )

    def __len__(self) -> int:
        return sum(len(part["time"]) for parts in self._parts for part in parts)

    @property
    def side_px(self) -> int:
        """Side of a whole record."""
        return int(self._parts[0][0]["frame"].shape[-1])

    def draw(self, count: int, crop_px: int, rng: random.Random) -> Batch:
        """`count` random crops of `crop_px` squared."""
        rows = [self._one(crop_px, rng) for _ in range(count)]
        left, right, truth, frame, flow, mask = (
            torch.stack(column) for column in zip(*(r[:6] for r in rows), strict=True)
        )
        time = torch.tensor([row[6] for row in rows])
        return Batch(Candidates(left, right, frame, flow, mask, time), truth)

    def _one(self, crop_px: int, rng: random.Random) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, float]:
        parts = rng.choices(self._parts, self._weights)[0]
        part = rng.choices(parts, [len(p["time"]) for p in parts])[0]
        index = rng.randrange(len(part["time"]))
        side = part["frame"].shape[-1]
        y, x = (rng.randint(0, side - crop_px) for _ in range(2))

        def cut(name: str) -> Tensor:
            piece = part[name][index, ..., y : y + crop_px, x : x + crop_px]
            return torch.from_numpy(piece.astype(np.float32))

        pictures, motion, frame = cut("pictures") / 255, cut("flow"), cut("frame")
        flow, mask, t = motion[:4], motion[4:], float(part["time"][index])
        left, right, truth = pictures
        if rng.random() < 0.5:  # mirror
            left, right, truth, frame, flow, mask = (v.flip(-1) for v in (left, right, truth, frame, flow, mask))
            flow = flow * torch.tensor([-1.0, 1, -1, 1])[:, None, None]
        if rng.random() < 0.5:  # swap rows and columns
            left, right, truth, frame, flow, mask = (v.mT for v in (left, right, truth, frame, flow, mask))
            flow = flow[[1, 0, 3, 2]]
        if rng.random() < 0.5:  # backwards in time
            left, right, flow, mask, t = right, left, flow[[2, 3, 0, 1]], -mask, 1 - t
        return left, right, truth, frame, flow, mask, t
