"""The stand-in stage gives real values of the promised sizes, counts its steps and stops when told."""

from collections.abc import Iterator

import pytest

from cluster.replay import PAPER_PAYLOADS, ReplayProfile, ReplayStage
from stages.base import Cancelled, InputError, ignore_progress
from stages.presets import TINY, plan
from stages.types import STAGE_NAMES, Clip, Image, Keyframes, Window

PLAN = plan(TINY, "a fox")


def replay(stage: str, **profile: object) -> ReplayStage:
    return ReplayStage.load(TINY, "cpu", stage=stage, **{"run_s": 0.0, "steps": 2, **profile})  # type: ignore[arg-type]


def windows_of(keyframes: Keyframes, **profile: object) -> list[Window]:
    given = replay("v2v", **profile)(keyframes, params=PLAN.v2v, seed=1, report=ignore_progress)
    assert isinstance(given, Iterator)
    windows = list(given)
    assert all(isinstance(window, Window) for window in windows)
    return [window for window in windows if isinstance(window, Window)]


def keyframes() -> Keyframes:
    value = replay("i2v", bytes_out=400_000)(params=PLAN.i2v, seed=1, report=ignore_progress)
    assert isinstance(value, Keyframes)
    return value


@pytest.mark.parametrize("windows", [1, 2, 3, 5])
def test_the_windows_cover_every_frame_once_and_vfi_gives_the_planned_count(windows: int) -> None:
    made = windows_of(keyframes(), windows=windows)
    assert [window.last for window in made] == [False] * (windows - 1) + [True]
    assert sum(len(window.clip.frames) - window.lead for window in made) == PLAN.i2v.frames
    clips = [replay("vfi")(window, params=PLAN.vfi, seed=1, report=ignore_progress) for window in made]
    frames = [clip.frames for clip in clips if isinstance(clip, Clip)]
    assert sum(map(len, frames)) == PLAN.frames
    assert len({part.shape[1:] for part in frames}) == 1


def test_payloads_have_the_bytes_that_were_asked_for() -> None:
    image = replay("t2i", bytes_out=PAPER_PAYLOADS["t2i"].bytes_out)(params=PLAN.t2i, seed=1, report=ignore_progress)
    assert isinstance(image, Image)
    assert image.nbytes == pytest.approx(3_000_000, rel=0.01)
    assert keyframes().clip.nbytes == pytest.approx(400_000, rel=0.05)


def test_each_step_is_reported_and_a_report_can_stop_it() -> None:
    seen: list[tuple[int, int]] = []
    replay("t2i", steps=4)(params=PLAN.t2i, seed=1, report=lambda step, total: seen.append((step, total)))
    assert seen[-1] == (4, 4)
    assert {step for step, _ in seen} == {0, 1, 2, 3, 4}

    def stop(step: int, total: int) -> None:
        if step == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        replay("t2i", steps=4)(params=PLAN.t2i, seed=1, report=stop)


def test_wrong_inputs_and_profiles_are_refused_in_words() -> None:
    image = Image(replay("t2i")(params=PLAN.t2i, seed=1, report=ignore_progress).pixels)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="needs a Window, got Image"):
        replay("vfi")(image, params=PLAN.vfi, seed=1, report=ignore_progress)
    with pytest.raises(InputError, match="steps >= 1, got 0"):
        ReplayProfile(steps=0)
    assert set(PAPER_PAYLOADS) == set(STAGE_NAMES)
