"""The VFI stage with its real weights: which frames come out, and that windows leave no trace."""

import numpy as np
import pytest

from stages.base import Cancelled, InputError, ignore_progress
from stages.presets import PRESETS, VFIParams, plan
from stages.types import Clip, UInt8, Window
from stages.vfi import VFI
from tests.stages.vfi.pictures import average, cut, first_window, psnr_db, scene, texture

pytestmark = pytest.mark.slow

SMALL = (40, 56)


def interpolate(stage: VFI, window: Window, factor: int = 3) -> Clip:
    return stage(window, params=VFIParams(factor=factor), seed=0, report=ignore_progress)


@pytest.fixture(scope="module")
def six() -> UInt8:
    return np.stack([scene(4.0 + 3 * step, SMALL, side=16) for step in range(6)])


@pytest.fixture(scope="module")
def whole(stage: VFI, six: UInt8) -> Clip:
    return interpolate(stage, first_window(*six))


def test_three_times_the_rate_and_the_given_frames_unchanged(six: UInt8, whole: Clip) -> None:
    assert whole.frames.shape == (3 * (6 - 1) + 1, *SMALL, 3)
    assert whole.fps == 24.0
    assert np.array_equal(whole.frames[::3], six)


@pytest.mark.parametrize("lengths", [(3, 3), (1, 5), (5, 1), (2, 2, 2), (1, 1, 1, 1, 1, 1)])
def test_windows_give_the_same_bytes_as_the_whole(
    stage: VFI, six: UInt8, whole: Clip, lengths: tuple[int, ...]
) -> None:
    parts = [interpolate(stage, window).frames for window in cut(six, *lengths)]
    assert [len(part) for part in parts] == [3 * lengths[0] - 2, *(3 * length for length in lengths[1:])]
    assert np.array_equal(np.concatenate(parts), whole.frames)


def test_neither_seed_nor_company_changes_a_frame(stage: VFI, six: UInt8, whole: Clip) -> None:
    pair = first_window(six[0], six[1])
    again = stage(pair, params=VFIParams(factor=3), seed=2**62, report=ignore_progress)
    assert np.array_equal(again.frames, whole.frames[:4])
    halves, sixths = interpolate(stage, pair, factor=2), interpolate(stage, pair, factor=6)
    assert np.array_equal(sixths.frames[3], halves.frames[1])
    assert np.array_equal(sixths.frames[2], whole.frames[1])


def test_real_weights_beat_averaging_on_a_moving_picture(stage: VFI) -> None:
    made = interpolate(stage, first_window(scene(20), scene(32))).frames
    for step, t in ((1, 1 / 3), (2, 2 / 3)):
        real = scene(20 + 12 * t)
        model, plain = psnr_db(made[step], real), psnr_db(average(scene(20), scene(32), t), real)
        assert model > plain + 6, f"t = {t:.2f}: {model:.1f} dB, averaging {plain:.1f} dB"


def test_what_stands_still_stays(stage: VFI) -> None:
    still = texture(*SMALL, seed=5)
    for frame in interpolate(stage, first_window(still, still)).frames[1:-1]:
        assert psnr_db(frame, still) > 40


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (64, 64), (65, 130)])
def test_every_size_is_kept(stage: VFI, size: tuple[int, int]) -> None:
    left, right = texture(*size, seed=1), texture(*size, seed=2)
    assert interpolate(stage, first_window(left, right), factor=2).frames.shape == (3, *size, 3)


def test_factor_one_and_single_frames_hand_on(stage: VFI, six: UInt8) -> None:
    same = interpolate(stage, first_window(*six), factor=1)
    assert np.array_equal(same.frames, six)
    assert same.fps == 8.0
    assert np.array_equal(interpolate(stage, first_window(six[0])).frames, six[:1])


def test_frames_from_shared_memory_are_read_only_and_stay_as_they_are(stage: VFI, six: UInt8) -> None:
    frames = six[:2].copy()
    frames.flags.writeable = False
    interpolate(stage, Window(Clip(frames, 8.0), index=0, start=0, lead=0, last=True))
    assert np.array_equal(frames, six[:2])


def test_every_gap_is_reported(stage: VFI, six: UInt8) -> None:
    told: list[tuple[int, int]] = []
    _, later = cut(six, 3, 3)
    stage(later, params=VFIParams(factor=2), seed=0, report=lambda step, total: told.append((step, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_report_stops_the_work(stage: VFI, six: UInt8) -> None:
    told: list[int] = []

    def stop(step: int, total: int) -> None:
        told.append(step)
        if step == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        stage(first_window(*six), params=VFIParams(factor=2), seed=0, report=stop)
    assert told == [1, 2]


@pytest.mark.parametrize("factor", [0, -2])
def test_a_factor_below_one_is_refused(stage: VFI, six: UInt8, factor: int) -> None:
    with pytest.raises(InputError, match=f"The interpolation factor is {factor}; it must be at least 1"):
        interpolate(stage, first_window(*six), factor=factor)


@pytest.mark.parametrize(("start", "lead"), [(5, 0), (0, 1)])
def test_a_window_without_its_left_neighbour_is_refused(stage: VFI, six: UInt8, start: int, lead: int) -> None:
    with pytest.raises(InputError, match=rf"Window 2 starts at frame {start} with lead {lead}; .*left neighbour"):
        interpolate(stage, Window(Clip(six, 8.0), index=2, start=start, lead=lead, last=False))


def test_the_presets_ask_for_the_papers_factor() -> None:
    factors = {name: preset.vfi_factor for name, preset in PRESETS.items()}
    assert {factors[name] for name in ("tiny", "paper", "paper-fast", "modern")} == {3}
    assert {factors[name] for name in ("kandinsky-6", "ltx-2")} <= {2, 3}  # whose own motion has more frames


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 6, 7, 8])
def test_every_factor_of_the_paper_and_beyond(stage: VFI, six: UInt8, factor: int) -> None:
    made = interpolate(stage, first_window(*six[:2]), factor)
    assert len(made.frames) == factor + 1
    assert made.fps == 8.0 * factor
    centres = [float(np.abs(frame.astype(int) - six[0]).mean()) for frame in made.frames]
    assert centres == sorted(centres), "every frame is farther from the first than the one before"


def test_a_scene_cut_is_copied_and_not_blended(stage: VFI, six: UInt8) -> None:
    other = 255 - texture(*SMALL, seed=7) // 2
    made = interpolate(stage, first_window(six[0], six[1], other, other), factor=4).frames
    assert [bool(np.array_equal(frame, six[1])) for frame in made[5:8]] == [True, True, False]
    assert np.array_equal(made[7], other)
    assert not np.array_equal(made[2], six[0])  # the gap beside the cut is interpolated as ever
    assert np.array_equal(made[:5], interpolate(stage, first_window(six[0], six[1]), factor=4).frames)


def test_a_cut_between_two_windows_is_one_too(stage: VFI, six: UInt8) -> None:
    frames = np.stack([six[0], 255 - texture(*SMALL, seed=7) // 2])
    parts = [interpolate(stage, window, factor=2).frames for window in cut(frames, 1, 1)]
    assert np.array_equal(np.concatenate(parts), interpolate(stage, first_window(*frames), factor=2).frames)
    assert np.array_equal(parts[1][0], frames[0])


def test_the_gan_is_a_switch(stage: VFI, six: UInt8, whole: Clip) -> None:
    def with_gan(gan: bool, made_by: VFI) -> UInt8:
        params = VFIParams(factor=3, gan=gan)
        return made_by(first_window(*six), params=params, seed=0, report=ignore_progress).frames

    flow_alone = with_gan(False, stage)
    assert np.array_equal(with_gan(True, stage), whole.frames)
    assert not np.array_equal(flow_alone, whole.frames)
    assert np.array_equal(with_gan(True, VFI.load(PRESETS["tiny"], device="cpu")), flow_alone)


def test_no_preset_switches_the_gan_on() -> None:
    assert not any(preset.gan or plan(preset, "a fox").vfi.gan for preset in PRESETS.values())


def test_windows_leave_no_trace_without_the_gan_either(stage: VFI, six: UInt8) -> None:
    params = VFIParams(factor=2, gan=False)
    whole = stage(first_window(*six), params=params, seed=0, report=ignore_progress).frames
    parts = [stage(window, params=params, seed=0, report=ignore_progress).frames for window in cut(six, 2, 4)]
    assert np.array_equal(np.concatenate(parts), whole)
