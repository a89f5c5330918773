"""Every command, as a user gives it: on files, with a preset of one's own, to parts that the stages load and run."""

import importlib
import random
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import PIL.Image
import pytest
import torch

from stages.base import ignore_progress
from stages.i2v import I2V
from stages.model.network.network import VideoNetwork
from stages.presets import TINY, Part, Preset, plan
from stages.settings import Control, Guide, Lora
from stages.t2i.stage import OwnLoop
from stages.training.__main__ import main
from stages.training.feedback.dpo import margin
from stages.training.feedback.spatial import SpatialTrainee, base_noise
from stages.training.own_data.manifest import load_manifest, load_pairs
from stages.training.own_data.sources import Cut, FolderSource, PairFolder, clips_and_pictures, open_files
from stages.training.video.noising import Noising
from stages.training.video.trainee import Trainee
from stages.types import Clip, Image, Keyframes
from stages.v2v import V2V
from tests.stages.training.footage_files import folder_of_clips, folder_of_pairs, moving_square

QUICK = ["--steps", "20", "--rate", "2e-3", "--warmup", "1", "--ema", "0.5", "--batch", "2"]
PRESET = "a_users_preset:MINE"
_SOURCE = """
from pathlib import Path
from tests.stages.random_parts import paper_like

FOLDER = Path({folder!r})
FOLDER.mkdir()
MINE = paper_like(FOLDER)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder on the import path with a preset module, clips and pairs."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "a_users_preset.py").write_text(_SOURCE.format(folder=str(folder / "parts")))
    folder_of_clips(folder)
    folder_of_pairs(folder)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    sys.modules.pop("a_users_preset", None)


@pytest.fixture(scope="module")
def preset(home: Path) -> Preset:
    found: Preset = importlib.import_module("a_users_preset").MINE
    return found


@pytest.fixture(scope="module")
def before(home: Path, preset: Preset) -> Callable[[str], tuple[float, Clip]]:
    """Loss and frames of a stage's untrained parts."""
    return cache(lambda stage: (judge(preset, stage, home / "clips.jsonl"), run_stage(preset, stage)))


def with_parts(preset: Preset, folder: Path, *names: str) -> Preset:
    parts = {name: Part(str(folder / name), "mine") for name in names}
    assert all((folder / name).is_dir() for name in names)
    return replace(preset, parts=MappingProxyType({**preset.parts, **parts}))


def load(preset: Preset, stage: str) -> Trainee:
    motion, guide = ("motion_v2v", preset.v2v_guide) if stage == "v2v" else ("motion", preset.i2v_guide)
    return Trainee(VideoNetwork.load(preset, "cpu", motion=motion, guide=guide), guide.controls)


def judge(preset: Preset, stage: str, data: Path) -> float:
    """The loss over the user's clips, at fixed times with fixed noise."""
    trainee = load(preset, stage)
    size = preset.sizes["72x72"].i2v if stage == "i2v" else preset.sizes["72x72"].v2v
    cut = Cut(4, 8.0, size, (40, 40))
    clips, _ = clips_and_pictures(open_files(load_manifest(data)), cut)
    batch = FolderSource(clips, trainee.network.vae, cut).pick([0, 1, 2])
    noising, total = Noising(preset.i2v), 0.0
    with torch.no_grad():
        for seed in range(4):
            torch.manual_seed(seed)
            times = torch.tensor([50, 200, 350]) + 20 * seed
            total += float(trainee.loss(batch, times, noising, random.Random(3)))
    return total / 4


def run_stage(preset: Preset, stage: str) -> Clip:
    image, made = Image(moving_square((220, 40, 40), 1, 40)[0]), plan(preset, "a red square")
    if stage == "i2v":
        return I2V.load(preset, "cpu")(image, params=made.i2v, seed=1, report=ignore_progress).clip
    keyframes = Keyframes(None, Clip(moving_square((220, 40, 40), 4, 40), 8.0))
    return V2V.load(preset, "cpu")(image, keyframes, params=made.v2v, seed=1, report=ignore_progress).clip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "stage", "options", "written"),
    [
        ("i2v", "i2v", ["--train", "motion,spatial", "--picture-batch", "2"], ("motion", "unet")),
        ("v2v", "v2v", ["--least-size", "80x80", "--precision", "bf16"], ("motion_v2v",)),
        ("control", "i2v", ["--accumulate", "2"], ("control",)),
        ("control", "v2v", ["--stage", "v2v", "--checkpointing"], ("control_v2v",)),
        ("appearance", "v2v", ["--stage", "v2v", "--image-ratio", "0.5"], ("appearance",)),
    ],
)
def test_a_video_part_is_trained_saved_loaded_and_run(
    home: Path,
    preset: Preset,
    before: Callable[[str], tuple[float, Clip]],
    tmp_path: Path,
    command: str,
    stage: str,
    options: list[str],
    written: tuple[str, ...],
) -> None:
    data, out = home / "clips.jsonl", tmp_path / "out"
    common = ["--preset", PRESET, "--data", str(data), "--out", str(out), "--frames", "4", "--latents", str(home / "l")]
    samples = ["--sample-every", "20", "--samples", "2", "--tensorboard"]
    assert main([command, *common, *QUICK, *samples, *options]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted([*written, "run", "samples"])
    trained = with_parts(preset, out, *written)
    (loss, clip), after = before(stage), run_stage(trained, stage)
    assert judge(trained, stage, data) < 0.97 * loss
    assert clip.frames.shape == after.frames.shape
    assert not np.array_equal(clip.frames, after.frames)
    grids = sorted((out / "samples").iterdir())
    assert [path.suffix for path in grids] == [".webp"]
    with PIL.Image.open(grids[0]) as grid:
        side = 40 if stage == "i2v" else 72
        assert (grid.size, grid.n_frames) == ((2 * side + 4, side), 4)  # type: ignore[attr-defined]
    assert list((out / "run" / "tensorboard").rglob("events.out.tfevents.*"))


@pytest.mark.slow
def test_new_weights_of_the_papers_form_are_trained_and_run(home: Path, preset: Preset, tmp_path: Path) -> None:
    """A plain RGB ControlNet from nothing, for a preset whose own is a SparseCtrl."""
    out = tmp_path / "out"
    common = ["--preset", PRESET, "--data", str(home / "clips.jsonl"), "--out", str(out), "--frames", "4"]
    assert main(["control", *common, *QUICK, "--fresh"]) == 0
    plain = Guide(image_scale=0.8, controls=(Control("control"),))
    trained = replace(with_parts(preset, out, "control"), i2v_guide=plain)
    without = replace(preset, i2v_guide=replace(plain, controls=()))
    assert judge(trained, "i2v", home / "clips.jsonl") < judge(without, "i2v", home / "clips.jsonl")
    assert not np.array_equal(run_stage(trained, "i2v").frames, run_stage(without, "i2v").frames)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
def test_dpo_is_trained_saved_loaded_and_run(home: Path, preset: Preset, tmp_path: Path, rank: int) -> None:
    out = tmp_path / "out"
    common = ["--preset", PRESET, "--data", str(home / "pairs.jsonl"), "--out", str(out), "--size", "48x48"]
    rate = ["--rate", "2e-2", "--steps", "30"] if rank else []
    assert main(["dpo", *common, *QUICK, *rate, "--beta", "200", "--lora", str(rank)]) == 0
    assert (out / "lora" / "pytorch_lora_weights.safetensors").is_file() == bool(rank)
    trained = with_parts(preset, out, "unet")
    old, new = SpatialTrainee.load(preset, "cpu"), SpatialTrainee.load(trained, "cpu")
    better, worse = PairFolder(load_pairs(home / "pairs.jsonl"), old.vae, (48, 48)).draw(8, random.Random(0))
    torch.manual_seed(0)
    noise, times = torch.randn_like(better.latents[:, 0]), torch.arange(100, 900, 100)
    noising = Noising(base_noise(preset))
    with torch.no_grad():
        margins = margin(
            new, old.unet, better.latents[:, 0], worse.latents[:, 0], better.captions, times, noise, noising
        )
    assert float(margins.mean()) > 0
    assert run_stage(trained, "i2v").frames.shape == (6, 40, 40, 3)
    if rank:  # the low-rank file alone, merged when the stage loads, is the same network
        lora = Part(str(out / "lora"), "mine", weight_name="pytorch_lora_weights.safetensors")
        merged = replace(preset, parts=MappingProxyType({**preset.parts, "lora": lora}), loras=(Lora("lora"),))
        ours, theirs = (load(one, "i2v").network.unet.state_dict() for one in (trained, merged))
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)


@pytest.mark.slow
def test_refl_is_trained_saved_loaded_and_run(home: Path, preset: Preset, tmp_path: Path) -> None:
    (home / "a_users_reward.py").write_text("def redness(pictures, prompts):\n    return pictures[:, 0].mean((1, 2))\n")
    (tmp_path / "prompts.txt").write_text("a fox\nan owl\n")
    out = tmp_path / "out"
    common = ["--preset", PRESET, "--data", str(tmp_path / "prompts.txt"), "--out", str(out), "--size", "32x32"]
    own = ["--reward", "a_users_reward:redness", "--draw-steps", "4", "--sample-every", "20"]
    assert main(["refl", *common, *QUICK, *own]) == 0
    means = []
    params = replace(
        plan(preset, "a fox").t2i, size=(32, 32), denoising=replace(base_noise(preset), steps=4, guidance=1)
    )
    for one in (preset, with_parts(preset, out, "unet")):
        painter = OwnLoop.load(one, "cpu")
        means.append(np.mean([painter.paint([(params, seed)], ignore_progress)[..., 0] for seed in range(4)]))
    assert means[1] > means[0] + 1
    with PIL.Image.open(out / "samples" / "refl-000020.png") as grid:
        assert grid.size == (2 * 32 + 4, 32)


@pytest.mark.slow
def test_the_tiny_preset_is_trained_by_the_same_command(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = ["--data", str(home / "clips.jsonl"), "--out", str(out), "--frames", "2", "--size", "64x64"]
    every = "motion,control,appearance,encoder"
    assert (
        main(["i2v", *common, "--steps", "2", "--train", every, "--picture-batch", "2", "--save-dtype", "float16"]) == 0
    )
    trained = with_parts(TINY, out, "motion", "control", "appearance", "image_encoder")
    params = replace(plan(TINY, "a fox", steps=2).i2v, frames=2, size=(64, 64))
    image = Image(moving_square((220, 40, 40), 1, 64)[0])
    made = I2V.load(trained, "cpu")(image, params=params, seed=1, report=ignore_progress)
    assert made.clip.frames.shape == (2, 64, 64, 3)
    for config in out.rglob("config.json"):
        assert str(tmp_path) not in config.read_text()


def test_a_folder_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder_of_clips(tmp_path)
    (tmp_path / "red.txt").write_text("a red square")
    assert main(["manifest", str(tmp_path), "--out", str(tmp_path / "all.jsonl")]) == 0
    assert len(load_manifest(tmp_path / "all.jsonl")) == 2  # red.mp4 and red.png
    told = " ".join(capsys.readouterr().err.split())
    assert "4 have no caption beside them and are left out" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["i2v", "--preset", "huge"], 2, "Unknown preset 'huge'"),
        (["i2v", "--preset", "nowhere:MINE"], 2, "There is no preset 'nowhere:MINE'"),
        (["i2v", "--preset", "stages.presets:MAX_SEED"], 2, "'stages.presets:MAX_SEED' is a int; name a Preset."),
        (["i2v", "--preset", "modern"], 2, "makes i2v with a pipeline of the hub"),
        (["i2v", "--preset", "paper-fast", "--train", "motion,spatial"], 2, "merges LoRA lcm into the spatial layers"),
        (["i2v", "--frames", "40", "--image-ratio", "1"], 2, "--frames is 40; the motion module knows at most 32."),
        (["i2v", "--frames", "4", "--size", "65x64"], 2, "multiples of 16 pixels, the size is 65x64"),
        (["i2v", "--frames", "30"], 2, "frames/s, training needs 30"),
        (["v2v", "--least-size", "500x500"], 2, "None of the 6 files is at least 500x500, the largest is 80x80"),
        (["refl", "--reward", "stages.training.feedback.rewards:beauty"], 2, "has no attribute 'beauty'"),
        (["dpo"], 2, "line 1 has no 'better', only caption, file"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    command, *rest = arguments
    assert (
        main([command, "--data", str(home / "clips.jsonl"), "--out", str(tmp_path), "--device", "cpu", *rest]) == status
    )
    assert message in " ".join(capsys.readouterr().err.split())


def test_pictures_of_pairs_are_judged_before_a_network_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "b.png").write_bytes(b"no picture")
    (tmp_path / "pairs.jsonl").write_text('{"better": "a.png", "worse": "b.png", "caption": "a fox"}')
    words = ["dpo", "--preset", "paper", "--data", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "mine")]
    assert main(words) == 2
    assert "a.png is no GIF, WebP or PNG that can be read" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["", "manifest", "i2v", "v2v", "control", "appearance", "refl", "dpo", "vfi"])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    options = re.findall(r"^  (--[a-z0-9-]+)(.*(?:\n {10,}.*)*)", told, flags=re.MULTILINE)
    assert options
    for name, text in options:
        assert re.search(r"[a-z]{3,} .*[a-z]{2,}", text.replace("\n", " ")), name  # more than its placeholder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--effort", "0"], "--effort: '0' does not fit; it must be a number above 0"),
        (["i2v", "--data", "x", "--out", "x", "--train", "motion,text"], "'motion,text' names no part; choose from"),
        (["control", "--data", "x", "--out", "x", "--image-ratio", "2"], "a number at least 0 and at most 1"),
        (["dpo", "--data", "x", "--out", "x", "--lora", "-3"], "-3 is below 1"),
        (["i2v", "--data", "x", "--out", "x", "--rate", "nan"], "'nan' does not fit"),
        (["i2v", "--out", "x"], "required: --data"),
        (["i2v", "--data", "x", "--out", "x", "--steps", "0"], "0 is below 1"),
        (["vfi", "--batch", "-1"], "-1 is below 1"),
        (["i2v", "--data", "x", "--out", "x", "--size", "64"], "'64' is not WIDTHxHEIGHT"),
        (["i2v", "--data", "x", "--out", "x", "--stpes", "3"], "unrecognized arguments: --stpes 3"),
    ],
)
def test_a_wrong_argument_ends_with_two(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
