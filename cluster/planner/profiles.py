"""What one call of each stage takes on one accelerator: seconds, memory, bytes; measured, or estimated and labelled so.

    seconds(steps, frames, pixels) = fixed_s + (step_s · steps + encode_s) · frames · pixels / those of the reference

A profile is a small JSON file: a preset, and for each accelerator each stage's line above, fitted by least squares to
calls that `python -m stages profile` timed, with the spread of those calls about it. Reads and writes files; knows
nothing of torch: the measuring is another process. Of a stage that computes several calls at once it names the best
size of such a batch and its seconds: the size whose share for one job is least, if that saves `WORTH` of them.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from client._shell.outputs import written
from client._shell.texts import read_text
from stages.types import STAGE_NAMES, StageName

FOLDER = Path(__file__).parents[1] / "profiles"
WORTH = 0.05  # of a call's seconds: less is noise, and every job of a batch waits for the whole of it


class ProfileError(ValueError):
    """A profile that cannot be used; one sentence."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StageProfile(_Frozen):
    """One stage on one accelerator. Reference values are those of the preset's default request."""

    fixed_s: float = Field(ge=0, description="Of a call, whatever it computes.")
    step_s: float = Field(ge=0, description="Of one step over the reference frames and pixels.")
    steps: int = Field(ge=1, description="Reference.")
    encode_s: float = Field(default=0.0, ge=0, description="Of a call, on one CPU: H.264, which VFI's replicas make.")
    frames: int = Field(ge=1, description="Reference: that one call makes.")
    pixels: int = Field(ge=1, description="Reference: of one frame.")
    calls: int = Field(default=1, ge=1, description="Of one job: V2V and VFI are called once a window.")
    cv: float = Field(default=0.0, ge=0, description="Standard deviation of a call over its mean.")
    gib: float = Field(ge=0, description="Memory of a replica.")
    bytes_out: int = Field(ge=0, description="Of one call.")
    load_s: float = Field(ge=0, description="Until a replica that has a place can take a call.")
    batch: int = Field(default=1, ge=1, description="Jobs that one call may serve at once; the best size.")
    batch_s: float | None = Field(default=None, gt=0, description="Seconds of a call of that batch.")

    def call_s(self, steps: int | None = None, frames: int | None = None, pixels: int | None = None) -> float:
        """Seconds of one call; what is left out is the reference."""
        work = (frames or self.frames) * (pixels or self.pixels) / (self.frames * self.pixels)
        return self.fixed_s + (self.step_s * (steps or self.steps) + self.encode_s) * work

    def on_share(self, share: float) -> "StageProfile":
        """The same on so much of a GPU: what is computed there takes longer, encoding does not."""
        if share == 1:
            return self
        batch_s = None if self.batch_s is None else self.batch_s / share
        return self.model_copy(
            update={"fixed_s": self.fixed_s / share, "step_s": self.step_s / share, "batch_s": batch_s}
        )

    @model_validator(mode="after")
    def _timed(self) -> "StageProfile":
        if (self.batch > 1) != (self.batch_s is not None):
            raise ValueError(f"batch is {self.batch} and batch_s {self.batch_s}: give both, or a batch of 1 and null")
        return self

    @property
    def stay_s(self) -> float:
        """Seconds that a job's calls, one after the other, are computed: with others, where they are batched."""
        return self.calls * self.call_s() if self.batch_s is None else self.calls * self.batch_s

    @property
    def job_s(self) -> float:
        """Seconds that one job keeps a replica busy; where calls serve several jobs, its share of the best batch."""
        if self.batch_s is not None:
            return self.calls * min(self.call_s(), self.batch_s / self.batch)
        return self.calls * self.call_s()


class AcceleratorProfile(_Frozen):
    """All stages on one kind of device."""

    gib: float = Field(gt=0, description="Memory of one device.")
    stages: dict[StageName, StageProfile]

    @model_validator(mode="after")
    def _complete(self) -> "AcceleratorProfile":
        if missing := [name for name in STAGE_NAMES if name not in self.stages]:
            raise ValueError(f"it lacks the stages {', '.join(missing)}")
        return self


class Profile(_Frozen):
    """A file of `profiles/`."""

    version: Literal[1] = 1
    preset: str
    kind: Literal["measured", "estimate"]
    date: str
    accelerators: dict[str, AcceleratorProfile]
    libraries: dict[str, str] = {}
    machine: str = ""
    note: str = ""

    def on(self, accelerator: str) -> AcceleratorProfile:
        """The stages on that accelerator.

        Raises:
            ProfileError: it has none, with those that it has.
        """
        found = self.accelerators.get(accelerator)
        if found is None:
            raise ProfileError(
                f"The profile of preset {self.preset} has no accelerator {accelerator!r}; it has "
                f"{', '.join(sorted(self.accelerators))}. Measure it there with `python -m cluster profile`, or give "
                f"its data sheet: `plan --gpu {accelerator}=TFLOPS,GB_S,GIB`."
            )
        return found


def default_profile(preset: str) -> str:
    """The name of one of `profiles/` that was made for a preset: the estimate where there is one.

    Raises:
        ProfileError: none was.
    """
    for name in (f"{preset}-estimate", f"cpu-{preset}"):
        if (FOLDER / f"{name}.json").exists():
            return name
    raise ProfileError(
        f"There is no profile of preset {preset!r}; make one with "
        f"`python -m cluster profile --preset {preset} --estimate`."
    )


def load_profile(name: str, preset: str | None = None) -> Profile:
    """One of `profiles/` by its name, or a file; with `preset`, it must have been made for that one.

    Raises:
        ProfileError: there is none, it is broken, or another preset's.
    """
    known = sorted(path.stem for path in FOLDER.glob("*.json"))
    path = FOLDER / f"{name}.json" if name in known else Path(name)
    if not path.exists():
        raise ProfileError(f"There is no profile {name!r}: give a file or one of {', '.join(known)}.")
    try:
        profile = Profile.model_validate(json.loads(read_text(path, ProfileError)))
    except (json.JSONDecodeError, ValidationError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise ProfileError(f"{path} is no profile: {why}; make one with `python -m cluster profile`.") from error
    if preset is not None and profile.preset != preset:
        raise ProfileError(
            f"{path.name} was made for preset {profile.preset!r}, not {preset!r}; measure one with "
            f"`python -m cluster profile --preset {preset}`, or name that preset."
        )
    return profile


def save_profile(profile: Profile, path: Path) -> None:
    """As JSON that a person can read."""
    with written(path) as draft:
        draft.write_text(json.dumps(profile.model_dump(), indent=1) + "\n")


def fitted(document: Mapping[str, Any], *, accelerator: str, gib: float, calls: Mapping[StageName, int]) -> Profile:
    """A profile of what `python -m stages profile` printed.

    Args:
        gib: memory of the device.
        calls: of each stage, for one job.

    Raises:
        ProfileError: the document lacks a stage.
    """
    missing = [name for name in STAGE_NAMES if name not in document["stages"]]
    if missing:
        raise ProfileError(f"The measurement lacks the stages {', '.join(missing)}; measure all four.")
    stages = {name: _fit(document["stages"][name], calls.get(name, 1)) for name in STAGE_NAMES}
    return Profile(
        preset=document["preset"],
        kind="measured",
        date=document["date"],
        accelerators={accelerator: AcceleratorProfile(gib=gib, stages=stages)},
        libraries=document["libraries"],
        machine=document["machine"],
        note=f"{document['threads']} threads" if document["device"] == "cpu" else "",
    )


def _fit(stage: Mapping[str, Any], calls: int) -> StageProfile:
    measured: Sequence[Mapping[str, Any]] = stage["calls"]
    reference = max(measured, key=lambda call: (-call["frames"], call["steps"]))  # shortest video, whole schedule
    base = reference["frames"] * reference["pixels"]
    work = [call["steps"] * call["frames"] * call["pixels"] / base for call in measured]
    middle = [statistics.median(call["seconds"]) for call in measured]
    fixed_s, step_s = _line(work, middle)
    residuals = [
        second / max(1e-9, fixed_s + step_s * own) - 1
        for own, call in zip(work, measured, strict=True)
        for second in call["seconds"]
    ]
    batch, batch_s = _best_batch(stage.get("batches", ()), fixed_s + step_s * reference["steps"])
    return StageProfile(
        fixed_s=round(fixed_s, 6),
        step_s=round(step_s, 6),
        encode_s=round(stage.get("encode_s", 0.0), 6),
        steps=reference["steps"],
        frames=reference["frames"],
        pixels=reference["pixels"],
        calls=calls,
        cv=round(1.4826 * statistics.median(abs(value) for value in residuals), 4),  # an outlier is no spread
        gib=round(stage["gib"], 3),
        bytes_out=reference["bytes_out"],
        load_s=round(stage["load_s"], 3),
        batch=batch,
        batch_s=batch_s,
    )


def _best_batch(timed: Sequence[Mapping[str, Any]], call_s: float) -> tuple[int, float | None]:
    """The size whose share for one job is least, and its seconds beside a call's; 1 and None where none is worth it.

    Sizes are compared within each round of the measurement, in which they took turns.
    """
    alone = next((own["seconds"] for own in timed if own["batch"] == 1), ())
    best, least = 1, 1.0 - WORTH
    for own in timed:
        rounds = [of_all / one / own["batch"] for of_all, one in zip(own["seconds"], alone, strict=True)]
        if rounds and statistics.median(rounds) <= least:
            best, least = own["batch"], statistics.median(rounds)
    return best, round(least * best * call_s, 6) if best > 1 else None


def _line(work: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """Intercept and slope, neither below zero."""
    if len(set(work)) < 2:
        return 0.0, seconds[0] / work[0]
    slope, intercept = np.polyfit(work, seconds, 1)
    if intercept < 0:  # through the origin instead
        return 0.0, float(np.dot(work, seconds) / np.dot(work, work))
    if slope < 0:
        return float(statistics.fmean(seconds)), 0.0
    return float(intercept), float(slope)
