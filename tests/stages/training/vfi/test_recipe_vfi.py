"""The recipe of the VFI GAN on videos made here: shots, moments, records, losses, and a loss that falls."""

import random
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from stages.base import InputError
from stages.presets import Part
from stages.training.__main__ import main
from stages.training.loop.loop import Schedule
from stages.training.scenes.fetch import DataError
from stages.training.vfi.clips import Film, Moment, find_videos
from stages.training.vfi.losses import (
    PatchGan,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
    laplacian_loss,
    pixel_loss,
)
from stages.training.vfi.recipe import Pair, Recipe, loss_function, run, save
from stages.training.vfi.records import Records, write_records
from stages.types import UInt8
from stages.vfi.gan import Design
from stages.vfi.rife import Rife, warp
from stages.vfi.weights import GAN_FILE_NAME, load_gan
from tests.stages.vfi.pictures import scene, texture

SMALL = Design(widths=(24, 24, 24), codes=16, code_width=3, head=16)
SHOT = 12  # frames
STEP = 4  # levels of brightness a frame, by which a frame is known again


def ramp(shot: int) -> list[UInt8]:
    """A shot whose frames grow brighter: its colours and its texture are its own."""
    base = texture(96, 96, seed=shot) // 3
    base[..., shot % 3] += np.uint8(90)
    return [(base + np.uint8(STEP * index)).astype(np.uint8) for index in range(SHOT)]


def write_video(path: Path, frames: list[UInt8]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "4", "preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def film(tmp_path: Path) -> Film:
    frames = [frame for shot in range(5) for frame in ramp(shot)]
    return Film(write_video(tmp_path / "five.mp4", frames), tmp_path)


def averaging() -> Rife:
    """The flow model with every weight zero: nothing moves, and its frame is the average of both."""
    net = Rife().requires_grad_(False).eval()
    for parameter in net.parameters():
        parameter.zero_()
    return net


def moving(count: int) -> list[Moment]:
    pairs = [(8 + 2 * index, 14 + 3 * index) for index in range(count)]
    size = (64, 64)
    return [Moment(scene(a, size, 24), scene(b, size, 24), scene((a + b) / 2, size, 24), 0.5) for a, b in pairs]


def test_shots_are_found_and_every_eighth_is_held_out(film: Film) -> None:
    assert film.shots == [range(SHOT * shot, SHOT * (shot + 1)) for shot in range(5)]
    assert film.held_out == [film.shots[3]]
    assert film.training == [*film.shots[:3], film.shots[4]]


def test_no_moment_crosses_a_cut_and_the_truth_is_at_its_time(film: Film) -> None:
    moments = list(film.moments(film.training, 200, 64, random.Random(0)))
    assert len(moments) > 30
    for moment in moments:
        left, truth, right = (float(frame.mean()) for frame in (moment.left, moment.truth, moment.right))
        steps = (right - left) / STEP
        assert 1.5 < steps < 6.5, "within one shot every frame is brighter by STEP"
        assert (truth - left) / (right - left) == pytest.approx(moment.t, abs=0.1)
    assert {round(moment.t, 3) for moment in moments} > {0.5, 0.333, 0.667}


def test_the_same_seed_draws_the_same_moments(film: Film) -> None:
    one, two = (list(film.moments(film.training, 10, 64, random.Random(5))) for _ in range(2))
    assert [m.t for m in one] == [m.t for m in two]
    assert all(np.array_equal(a.truth, b.truth) for a, b in zip(one, two, strict=True))


def test_a_folder_without_videos_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \.mp4.*give a folder of videos"):
        find_videos(tmp_path)
    (tmp_path / "notes.mp4").write_text("not a video")
    assert find_videos(tmp_path) == [tmp_path / "notes.mp4"]
    with pytest.raises(DataError, match="is no MP4 or WebM video"):
        Film(tmp_path / "notes.mp4", tmp_path)


def test_nothing_that_moves_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No moving moments were found for still; give longer videos"):
        write_records([], averaging(), tmp_path / "still", label="still")


def test_records_keep_what_the_flow_model_said_through_every_turn(tmp_path: Path) -> None:
    """Mirrored, turned, backwards: what lies along the flow in a neighbour is what the flow model blended."""
    torch.manual_seed(0)
    net = Rife().requires_grad_(False).eval()  # any flow will do, if only the record keeps it
    write_records(moving(3), net, tmp_path / "r", label="r")
    records = Records({tmp_path / "r": 1.0})
    assert len(records) == 3
    for seed in range(12):
        batch = records.draw(1, 64, random.Random(seed))
        given = batch.given
        share = torch.sigmoid(given.mask)
        blend = warp(given.left, given.flow[:, :2]) * share + warp(given.right, given.flow[:, 2:]) * (1 - share)
        residual = given.frame - blend
        assert residual.std() < 0.05  # an untrained refiner adds about the same to every pixel
        assert given.left.shape == batch.truth.shape == (1, 3, 64, 64)


def test_folders_without_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no records; write them first"):
        Records({tmp_path: 1.0})


def test_losses_are_zero_for_the_truth_and_grow_with_the_error() -> None:
    true = torch.rand(2, 3, 32, 32)
    for loss in (pixel_loss, laplacian_loss):
        assert loss(true, true).tolist() == [0, 0]
        near, far = loss(true + 0.01 * torch.rand_like(true), true), loss(true + 0.1 * torch.rand_like(true), true)
        assert near.shape == (2,)
        assert (near < far).all()


def test_each_side_of_the_game_moves_only_itself() -> None:
    torch.manual_seed(0)
    judge, made, true = PatchGan(4), torch.rand(1, 3, 32, 32, requires_grad=True), torch.rand(1, 3, 32, 32)
    weights = list(judge.parameters())

    def reached(loss: Tensor) -> tuple[bool, bool]:
        found = torch.autograd.grad(loss, [made, *weights], allow_unused=True)
        return found[0] is not None, any(slope is not None for slope in found[1:])

    assert reached(generator_loss(judge, made)) == (True, False)
    assert reached(discriminator_loss(judge, made, true)) == (False, True)


def test_the_adaptive_weight_makes_both_gradients_equal() -> None:
    last = torch.tensor([1.0, 2.0], requires_grad=True)
    kept, adversarial = (3 * last).sum(), (0.01 * last).sum()
    assert float(adaptive_weight(kept, adversarial, last)) == pytest.approx(300, rel=1e-3)


@pytest.mark.slow
def test_a_few_steps_lower_the_loss_and_the_file_loads(tmp_path: Path) -> None:
    write_records(moving(4), averaging(), tmp_path / "r", label="r")
    records = Records({tmp_path / "r": 1.0})
    recipe = Recipe(batch=2, crop_px=64, judge_from=0.5)

    def loss_of(pair: Pair) -> float:
        judge = loss_function(pair, records, recipe, 10**9, torch.device("cpu"))
        with torch.no_grad():
            found = [judge(step, random.Random(step)) for step in range(1, 9)]
        return float(np.mean([figures["kept"] for _, figures in (said for said in found if isinstance(said, tuple))]))

    torch.manual_seed(7)
    before = loss_of(Pair(SMALL))
    gan = run(
        records, {"r": records}, Schedule(40, 3e-3, warmup=5, ema=0.8), tmp_path / "work", recipe=recipe, design=SMALL
    )
    pair = Pair(SMALL)
    pair.gan = gan
    assert loss_of(pair) < 0.9 * before
    save(gan, tmp_path / "out" / GAN_FILE_NAME, "squares")
    loaded = load_gan(Part(str(tmp_path / "out"), "Apache-2.0"), torch.device("cpu"), torch.float32)
    assert loaded.design == SMALL
    given = records.draw(1, 64, random.Random(0)).given
    with torch.no_grad():
        assert (loaded(given).frame - gan(given).frame).abs().max() < 0.01  # float16 in the file


@pytest.mark.slow
def test_the_command_trains_on_a_users_videos_and_goes_on(tmp_path: Path) -> None:
    frames = [np.tile(frame, (3, 3, 1)) for shot in range(5) for frame in ramp(shot)]
    (tmp_path / "mine").mkdir()
    write_video(tmp_path / "mine" / "five.mp4", frames)
    common = ["vfi", "--videos", str(tmp_path / "mine"), "--records", "8", "--batch", "1", "--device", "cpu"]
    common += ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    assert main([*common, "--steps", "2"]) == 0
    written = (tmp_path / "out" / GAN_FILE_NAME).read_bytes()
    assert main([*common, "--steps", "3"]) == 0
    assert (tmp_path / "out" / GAN_FILE_NAME).read_bytes() != written
    load_gan(Part(str(tmp_path / "out"), "Apache-2.0"), torch.device("cpu"), torch.float32)
