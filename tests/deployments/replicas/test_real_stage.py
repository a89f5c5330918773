"""A real stage with its real weights inside a replica: what leaves is what the stage alone would give, encoded."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from deployments.replicas.replica import Replica
from stages.base import ignore_progress
from stages.presets import TINY, plan
from stages.types import Clip, Window
from stages.vfi import VFI

pytestmark = pytest.mark.slow


async def test_vfi_in_a_replica_gives_the_frames_of_vfi_alone(tmp_path: Path) -> None:
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    for index in range(3):
        frames[index, :, 10 + 12 * index : 26 + 12 * index] = (250, 180, 20)
    frames.flags.writeable = False  # as it comes out of the object store
    window, params = Window(Clip(frames, 8.0), 0, 0, 0, last=True), plan(TINY, "a fox").vfi
    alone = VFI.load(TINY, "cpu")(window, params=params, seed=1, report=ignore_progress)
    replica = Replica(
        "stages.vfi:VFI",
        "tiny",
        threads=1,
        finisher="deployments.files.mp4:Mp4Finisher",
        finisher_options={"artifacts_url": f"file://{tmp_path}"},
    )
    items = [item async for item in replica.run(window, params=params, seed=1)]
    chunk, info = items[-2:]
    assert info["last"]
    with av.open(io.BytesIO(chunk.data)) as container:
        shown = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert shown.shape == alone.frames.shape == (7, 64, 64, 3)
    assert np.abs(shown.astype(np.int16) - alone.frames).mean() < 4
    in_thread = replica._device.submit(torch.get_num_threads).result()
    assert in_thread == 1
