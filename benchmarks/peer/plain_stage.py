"""One replayed stage as somebody else's system would host it: a value in, a value out, a whole job a call.

The peers of `benchmarks.peers` and the baseline of `benchmarks.pipelining` all call this: the same seconds, the same
bytes, the same encoder behind VFI. Imports neither Ray nor Serve, so that it also runs where another version of Ray is
installed.
"""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from deployments.files.mp4 import Mp4Finisher
from stages.base import ignore_progress
from stages.model.sampling.windows import plan_windows
from stages.presets import get_preset
from stages.replay import ReplayStage
from stages.types import Piece


class PlainStage:
    """One replayed stage. The lock keeps a device to one call, whichever threads Serve runs methods on."""

    def __init__(self, preset: str, options: Mapping[str, Any], artifacts_url: str) -> None:
        self._stage = ReplayStage.load(get_preset(preset), "cpu", **options)
        self._finisher = Mp4Finisher(artifacts_url)
        self._device = threading.Lock()

    def __call__(self, *inputs: Any, params: Any, seed: int) -> Any:
        """The stage's value; for V2V the list of its pieces, for VFI the description of the finished video."""
        with self._device:
            if self._stage.name == "vfi":
                return self._video(inputs[0], params, seed)
            if self._stage.name == "v2v":
                parts = range(len(plan_windows(len(inputs[1].clip.frames), params.windows)))
                return [self._compute(inputs, replace(params, part=part), seed) for part in parts]
            return self._compute(inputs, params, seed)

    def _compute(self, inputs: tuple[Any, ...], params: Any, seed: int) -> Any:
        return self._stage(*inputs, params=params, seed=seed, report=ignore_progress)

    def _video(self, pieces: list[Piece], params: Any, seed: int) -> dict[str, Any]:
        clips = [
            self._compute((piece, *pieces[max(0, index - 1) : index]), params, seed)
            for index, piece in enumerate(pieces)
        ]
        made = self._finisher.assemble([self._finisher.encode(clip) for clip in clips], f"videos/{seed}/0.mp4", {})
        return {"key": made.key, "size_bytes": made.size_bytes}
