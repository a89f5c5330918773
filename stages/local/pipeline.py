"""All four stages in one process, without Ray: load once, make any number of videos.

Takes a preset and a `Plan`; gives the final clips in order, each as soon as it is there. What a file is given in the
place of is not loaded. I2V and V2V hold their spatial layers once, where they are the built-in ones. Knows nothing of
files or of serving.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from stages.base import Report
from stages.model.sampling.windows import join, plan_windows
from stages.presets import Plan, Preset
from stages.types import STAGE_NAMES, Clip, Piece, StageName
from stages.vfi import VFI

if TYPE_CHECKING:
    from stages.i2v import I2V
    from stages.t2i import T2I
    from stages.v2v import V2V

ReportFor = Callable[[StageName], Report]
Given = tuple[StageName, Any]
"""A stage's name and its output."""


@dataclass(frozen=True)
class LocalPipeline:
    """Loaded stages: all four, or those from one on."""

    stages: dict[StageName, Any]

    @classmethod
    def load(cls, preset: Preset, device: str = "cpu", first: StageName = "t2i") -> Self:
        """Load every stage from `first` on, on one device.

        Raises:
            WeightsError: a part is missing, broken or does not fit.
        """
        loaded: dict[StageName, Any] = {"vfi": VFI.load(preset, device)}
        if first != "vfi":  # the others need diffusers, which takes seconds to import
            from stages.i2v import I2V
            from stages.t2i import T2I
            from stages.v2v import V2V
            from stages.v2v.together import share_backbone

            kinds: dict[StageName, Any] = {"t2i": T2I, "i2v": I2V, "v2v": V2V}
            names = STAGE_NAMES[STAGE_NAMES.index(first) : -1]
            loaded |= {name: kinds[name].load(preset, device) for name in names}
            if "i2v" in names:
                share_backbone(preset, loaded["i2v"], loaded["v2v"])
        return cls(loaded)

    @property
    def t2i(self) -> "T2I":
        made: T2I = self.stages["t2i"]
        return made

    @property
    def i2v(self) -> "I2V":
        made: I2V = self.stages["i2v"]
        return made

    @property
    def v2v(self) -> "V2V":
        made: V2V = self.stages["v2v"]
        return made

    @property
    def vfi(self) -> VFI:
        made: VFI = self.stages["vfi"]
        return made

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
