"""A copy of a video that is plainly worse by each of the paper's questions, so that an answer to it is known.

Coarse blocks for frame quality, three pictures a second for consistency over time, a middle that is put together wrong
for structure. Nothing of it flashes.
"""

import numpy as np
import PIL.Image

from stages.model.network.pictures import resize_frames
from stages.types import UInt8

_BLOCK_PX, _HELD_S = 12, 1 / 3


def spoiled(frames: UInt8, fps: float) -> UInt8:
    """(T, H, W, 3) likewise."""
    each = max(1, round(fps * _HELD_S))
    height, width = frames.shape[1:3]
    made = frames[::each].copy()
    top, left, rows, columns = height // 4, width // 4, height // 4, width // 2
    upper = made[:, top : top + rows, left : left + columns].copy()
    made[:, top : top + rows, left : left + columns] = made[:, top + rows : top + 2 * rows, left : left + columns]
    made[:, top + rows : top + 2 * rows, left : left + columns] = upper[:, :, ::-1]
    small = (max(1, width // _BLOCK_PX), max(1, height // _BLOCK_PX))
    coarse = resize_frames(made, small, PIL.Image.Resampling.BOX)
    held = resize_frames(coarse, (width, height), PIL.Image.Resampling.NEAREST)
    return held[np.arange(len(frames)) // each]
