"""The stand-in stage gives real values of the promised sizes, counts its steps and stops when told."""

from dataclasses import replace

import pytest

from stages.base import Cancelled, InputError, ignore_progress
from stages.model.sampling.windows import plan_windows
from stages.presets import TINY, plan
from stages.replay import PAPER_PAYLOADS, ReplayProfile, ReplayStage
from stages.settings import Windows
from stages.types import STAGE_NAMES, Clip, Image, Keyframes, Piece

PLAN = plan(TINY, "a fox")


def replay(stage: str, **profile: object) -> ReplayStage:
    return ReplayStage.load(TINY, "cpu", stage=stage, **{"run_s": 0.0, "steps": 2, **profile})  # type: ignore[arg-type]


def pieces_of(keyframes: Keyframes, windows: Windows) -> list[Piece]:
    stage, made = replay("v2v"), []
    for part in range(len(plan_windows(len(keyframes.clip.frames), windows))):
        params = replace(PLAN.v2v, windows=windows, part=part)
        piece = stage(keyframes, params=params, seed=1, report=ignore_progress)
        assert isinstance(piece, Piece)
        made.append(piece)
    return made


def keyframes() -> Keyframes:
    value = replay("i2v", bytes_out=400_000)(params=PLAN.i2v, seed=1, report=ignore_progress)
    assert isinstance(value, Keyframes)
    return value


@pytest.mark.parametrize("windows", [Windows(16, 0), Windows(10, 3), Windows(7, 2), Windows(4, 0)])
def test_the_windows_cover_every_frame_once_and_vfi_gives_the_planned_count(windows: Windows) -> None:
    made = pieces_of(keyframes(), windows)
    assert [piece.last for piece in made] == [False] * (len(made) - 1) + [True]
    assert sum(piece.new for piece in made) == PLAN.i2v.frames
    vfi = replay("vfi")
    clips = [
        vfi(piece, *made[max(0, index - 1) : index], params=PLAN.vfi, seed=1, report=ignore_progress)
        for index, piece in enumerate(made)
    ]
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


def test_a_batch_gives_what_each_call_gives_and_takes_its_own_time() -> None:
    stage = replay("t2i", steps=3, bytes_out=3000)
    seen: list[tuple[int, int]] = []
    made = stage.batch([(PLAN.t2i, seed) for seed in (1, 2)], lambda step, total: seen.append((step, total)))
    alone = [stage(params=PLAN.t2i, seed=seed, report=ignore_progress) for seed in (1, 2)]
    assert all(
        isinstance(one, Image) and (one.pixels == own.pixels).all() for one, own in zip(alone, made, strict=True)
    )
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert stage.shape(PLAN.t2i) == stage.shape(plan(TINY, "a whale").t2i) != stage.shape(plan(TINY, "x", steps=1).t2i)
    assert replay("v2v").shape(PLAN.v2v) is None
    with pytest.raises(InputError, match="batch_fixed between 0 and 1, got 2"):
        ReplayProfile(batch_fixed=2)


def test_wrong_inputs_and_profiles_are_refused_in_words() -> None:
    image = Image(replay("t2i")(params=PLAN.t2i, seed=1, report=ignore_progress).pixels)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="needs a Piece or a Window, got Image"):
        replay("vfi")(image, params=PLAN.vfi, seed=1, report=ignore_progress)
    with pytest.raises(InputError, match="steps >= 1, got 0"):
        ReplayProfile(steps=0)
    assert set(PAPER_PAYLOADS) == set(STAGE_NAMES)
