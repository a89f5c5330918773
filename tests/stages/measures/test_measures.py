"""Warp error, Frechet distance and VMAF on clips whose answer is known; the command over folders; the plug."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from deployments.files.mp4 import encode_chunk
from stages.__main__ import main
from stages.measures import encodes
from stages.measures.flow import WarpError
from stages.measures.judged import frechet_distance, of_judges
from stages.measures.plugs import MeasureError, measure, plugged
from stages.training.tiny.judges import Judges, MotionJudge, PictureJudge, save_half
from stages.types import Clip, UInt8
from tests.stages.vfi.pictures import scene


def loudness(frames: UInt8, fps: float, prompt: str) -> dict[str, float]:
    """A measure of a user's own."""
    return {"red": float(frames[..., 0].mean()), "letters": len(prompt), "broken": float("nan")}


def needs_more(frames: UInt8, fps: float, prompt: str) -> dict[str, float]:
    """One that fails."""
    raise KeyError("weights")


def moving(frames: int = 6) -> UInt8:
    """Motion alone: a square that travels."""
    return np.stack([scene(10 + 2.0 * number, size=(64, 96), side=24) for number in range(frames)])


def noisy(clip: UInt8, seed: int = 0) -> UInt8:
    noise = np.random.default_rng(seed).normal(0, 12, clip.shape)
    return (clip + noise).clip(0, 255).astype(np.uint8)


def write(path: Path, clip: UInt8, kbit_s: int = 4000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_chunk(Clip(clip, 24.0), kbit_s=kbit_s).data)
    return path


def untrained_judges(folder: Path) -> Path:
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    save_half(PictureJudge(), folder / "picture.safetensors")
    save_half(MotionJudge(), folder / "motion.safetensors")
    return folder


@pytest.mark.slow
def test_warp_error_is_small_of_motion_and_large_of_what_is_none() -> None:
    measured = WarpError()
    even, still = measured.of(moving()), measured.of(np.repeat(moving(1), 4, axis=0))
    assert still < 1
    assert even < 4 < 8 < measured.of(noisy(moving()))
    cut = np.stack([np.zeros((64, 96, 3), np.uint8), np.full((64, 96, 3), 255, np.uint8)])
    assert np.isnan(measured.of(cut))  # no motion leads over a cut
    with pytest.raises(MeasureError, match="1 frame has no motion"):
        measured.of(moving(1))


def test_frechet_distance_is_that_of_normal_distributions() -> None:
    drawn = np.random.default_rng(1).normal(size=(4000, 3))
    drawn = (drawn - drawn.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(drawn, rowvar=False))).T
    assert frechet_distance(drawn, drawn) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(drawn, drawn + np.array([3.0, 4, 0])) == pytest.approx(25)
    assert frechet_distance(drawn, 3 * drawn) == pytest.approx(3 * (3 - 1) ** 2)


def test_distance_on_judges_features_grows_with_what_was_done_to_the_clips(tmp_path: Path) -> None:
    judges = Judges.load(untrained_judges(tmp_path / "judges"))
    clips = [np.roll(moving(16), 9 * shift, axis=2) for shift in range(4)]
    worse = [noisy(clip, seed) for seed, clip in enumerate(clips)]
    known, other = ([judges.features(clip) for clip in some] for some in (clips, worse))
    none, some = of_judges(known, known), of_judges(known, other)
    for name in ("frame_frechet_judges", "video_frechet_judges"):
        assert none[name] == pytest.approx(0, abs=1e-3)
        assert some[name] > none[name]


def test_vmaf_is_of_two_encodes(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    clip = noisy(moving(12))
    good = write(tmp_path / "good.mp4", clip)
    bad = write(tmp_path / "bad.mp4", clip, kbit_s=64)
    assert encodes.vmaf(good, good) > 95 > encodes.vmaf(bad, good)
    other = write(tmp_path / "other.mp4", clip[:, :32])
    with pytest.raises(MeasureError, match="cannot be compared"):
        encodes.vmaf(other, good)


def test_an_ffmpeg_without_libvmaf_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("imageio_ffmpeg")
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho ' .. psnr VV->V'\n")
    program.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    with pytest.raises(MeasureError, match=r"VMAF is not measured: .*ffmpeg was built without libvmaf; update"):
        encodes.ffmpeg.__wrapped__()


def test_a_plugged_measure_stands_beside_ours() -> None:
    found = measure(moving(3), 24.0, "a fox", [plugged(f"{__name__}:loudness")])
    assert set(found) == {"motion_energy", "flicker", "sharpness", "contrast", "loop_jump", "red", "letters"}
    with pytest.raises(MeasureError, match=r"The measure .*:needs_more failed \(KeyError: 'weights'\)"):
        measure(moving(3), 24.0, "a fox", [needs_more])
    with pytest.raises(MeasureError, match="names no measure"):
        plugged("nowhere.at.all:clip")


@pytest.mark.slow
def test_the_command_measures_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAGICVIDEO_CACHE", str(tmp_path / "cache"))
    for number in range(2):
        write(Path(f"ours/{number}.mp4"), moving(6))
        write(Path(f"theirs/{number}.mp4"), noisy(moving(6), number), kbit_s=600)
    PIL.Image.fromarray(moving(1)[0]).save("ours/0.png")
    Path("prompts.json").write_text('{"0": "a fox"}')
    own = ("--prompts", "prompts.json", "--measure", f"{__name__}:loudness")
    assert main(["measure", "ours", "theirs", "--json", *own]) == 0
    found = json.loads(capsys.readouterr().out)
    ours, theirs = (found["videos"][name]["0"] for name in ("ours", "theirs"))
    assert ours["first_frame_psnr_db"] > 25
    assert "first_frame_psnr_db" not in theirs
    assert ours["warp_error"] < theirs["warp_error"]
    assert ours["letters"] == 5
    assert (found["sets"], "our judges are not trained on this machine" in found["notes"][-1]) == ([], True)
    compared = [(one["a"], one["b"], one["name"]) for one in found["pairs"]]
    if "VMAF is not measured" not in found["notes"][0]:  # this machine has an ffmpeg for it
        assert sorted(compared) == [("ours", "theirs", "0"), ("ours", "theirs", "1")]
    assert main(["measure", "ours"]) == 0
    assert "ours: 2 videos, motion_energy" in capsys.readouterr().out
    assert main(["measure", "nothing"]) == 2
    assert "nothing is no folder" in capsys.readouterr().err
    Path("broken").mkdir()
    Path("broken/0.mp4").write_bytes(b"no video")
    assert main(["measure", "broken"]) == 2
    assert "broken/0.mp4" in capsys.readouterr().err
