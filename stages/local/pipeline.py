"""All four stages in one process, without Ray: load once, make any number of videos.

Takes a preset and a `Plan`; gives the final clips in order, each as soon as it is there. I2V and V2V hold their spatial
layers once, where they are the built-in ones. Knows nothing of files or of serving.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from stages.base import Report
from stages.i2v import I2V
from stages.model.sampling.windows import join, plan_windows
from stages.presets import Plan, Preset
from stages.t2i import T2I
from stages.types import Clip, Piece, StageName
from stages.v2v import V2V
from stages.v2v.together import share_backbone
from stages.vfi import VFI

ReportFor = Callable[[StageName], Report]
Given = tuple[StageName, Any]
"""A stage's name and its output."""


@dataclass
class LocalPipeline:
    """Four loaded stages."""

    t2i: T2I
    i2v: I2V
    v2v: V2V
    vfi: VFI

    @classmethod
    def load(cls, preset: Preset, device: str = "cpu") -> Self:
        """Load every stage on one device.

        Raises:
            WeightsError: a part is missing, broken or does not fit.
        """
        i2v, v2v = I2V.load(preset, device), V2V.load(preset, device)
        share_backbone(preset, i2v, v2v)
        return cls(T2I.load(preset, device), i2v, v2v, VFI.load(preset, device))

    def run(self, plan: Plan, seed: int, report_for: ReportFor, given: Iterable[Given] = ()) -> Iterator[Clip]:
        """The video of `plan`, clip after clip.

        Args:
            given: what the first stages would have made, in their order, with their names; those do not run.

        Raises:
            InputError: as a stage says.
            Cancelled: a report asked to stop.
        """
        before: Piece | None = None
        for piece in self._pieces(plan, seed, report_for, iter(given)):
            yield self.vfi(join(piece, before), params=plan.vfi, seed=seed, report=report_for("vfi"))
            before = piece

    def _pieces(self, plan: Plan, seed: int, report_for: ReportFor, given: Iterator[Given]) -> Iterator[Piece]:
        """Of V2V; one after the other, also where they are given."""
        made: dict[StageName, Any] = {}
        for stage, value in given:
            if stage == "v2v":
                yield value
            made[stage] = value
        if "v2v" in made:
            return
        image = made.get("t2i") or self.t2i(params=plan.t2i, seed=seed, report=report_for("t2i"))
        keyframes = made.get("i2v") or self.i2v(image, params=plan.i2v, seed=seed, report=report_for("i2v"))
        for part in range(len(plan_windows(plan.i2v.frames, plan.v2v.windows))):
            params = replace(plan.v2v, part=part)
            yield self.v2v(image, keyframes, params=params, seed=seed, report=report_for("v2v"))
