"""The committed weights: they follow the prompt, move, and give the promised values. No number here is a picture's."""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from stages.base import Cancelled, ignore_progress
from stages.local.mp4 import write_mp4
from stages.local.pipeline import LocalPipeline
from stages.presets import TINY, plan
from stages.types import Clip, Image, StageName

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pipeline() -> LocalPipeline:
    return LocalPipeline.load(TINY)


@pytest.fixture(scope="module")
def fox(pipeline: LocalPipeline) -> list[Clip]:
    """A video of seed 7."""
    return film(pipeline, 7)


def draw(pipeline: LocalPipeline, prompt: str, seed: int = 7, steps: int = 6) -> Image:
    return pipeline.t2i(params=plan(TINY, prompt, steps=steps).t2i, seed=seed, report=ignore_progress)


def film(pipeline: LocalPipeline, seed: int) -> list[Clip]:
    work = plan(TINY, "a fox in a meadow", seconds="1", steps=2, seed=seed, factor=2)
    return list(pipeline.run(work, seed, lambda _: ignore_progress))


def test_night_is_darker_than_day(pipeline: LocalPipeline) -> None:
    day, night = (draw(pipeline, f"a fox in a meadow {time}").pixels.mean() for time in ("by day", "at night"))
    assert day > night + 40


def test_the_meadow_is_green_and_the_desert_is_not(pipeline: LocalPipeline) -> None:
    def greenness(place: str) -> float:
        ground = draw(pipeline, f"a fox {place} by day").pixels[230:].astype(float).mean((0, 1))
        return float(ground[1] - ground[0])

    assert greenness("in a meadow") > greenness("in a desert") + 40


def test_the_subject_has_its_colour(pipeline: LocalPipeline) -> None:
    def redness(subject: str) -> float:
        middle = draw(pipeline, f"{subject} in a snowy forest by day").pixels[96:208, 80:176].astype(float).mean((0, 1))
        return float(middle[0] - middle[2])

    assert redness("a fox") > redness("a whale") + 60


def test_unknown_words_do_no_harm(pipeline: LocalPipeline) -> None:
    known, unknown = (draw(pipeline, text).pixels.mean() for text in ("a fox by day", "a fox by day 狐 xyzzy 🦊"))
    assert abs(known - unknown) < 60


def test_values_of_every_stage(pipeline: LocalPipeline) -> None:
    work = plan(TINY, "a fox in a meadow", steps=2)
    image = pipeline.t2i(params=work.t2i, seed=1, report=ignore_progress)
    keyframes = pipeline.i2v(image, params=work.i2v, seed=1, report=ignore_progress)
    assert image.size == work.t2i.size
    assert keyframes.latents is not None
    assert keyframes.latents.values.dtype == np.float16
    assert keyframes.clip.frames.shape == (16, *reversed(work.i2v.size), 3)
    pieces = [
        pipeline.v2v(image, keyframes, params=replace(work.v2v, part=part), seed=1, report=ignore_progress)
        for part in (0, 1)
    ]
    assert [(piece.index, piece.start, piece.new, piece.last) for piece in pieces] == [
        (0, 0, 6, False),
        (1, 6, 10, True),
    ]
    assert all(piece.clip.size == work.v2v.size for piece in pieces)


def test_the_keyframes_start_as_the_reference_and_move(pipeline: LocalPipeline) -> None:
    work = plan(TINY, "a rabbit in a meadow by day", steps=6)
    image = pipeline.t2i(params=work.t2i, seed=3, report=ignore_progress)
    other = draw(pipeline, "a car in a city at night", seed=3)
    frames = pipeline.i2v(image, params=work.i2v, seed=3, report=ignore_progress).clip.frames.astype(float)
    step = image.pixels.shape[0] // frames.shape[1]

    def distance(picture: Image) -> float:
        return float(np.abs(frames[0] - picture.pixels[::step, ::step]).mean())

    assert distance(image) < distance(other) / 2
    assert np.abs(np.diff(frames, axis=0)).mean() > 0.5


def test_a_seed_is_a_video(pipeline: LocalPipeline, fox: list[Clip]) -> None:
    again = film(pipeline, 7)
    assert sum(len(clip.frames) for clip in fox) == 15
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(fox, again, strict=True))
    one, other = (draw(pipeline, "a fox in a meadow", seed, steps=2) for seed in (7, 8))
    assert not np.array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize("stage", ["t2i", "i2v", "v2v", "vfi"])
def test_every_stage_stops_at_its_next_report(pipeline: LocalPipeline, stage: StageName) -> None:
    seen: list[int] = []

    def stop(step: int, total: int) -> None:
        seen.append(step)
        if step == 1:
            raise Cancelled

    work = plan(TINY, "a fox", seconds="1", steps=3)
    with pytest.raises(Cancelled):
        list(pipeline.run(work, 1, lambda name: stop if name == stage else ignore_progress))
    assert seen[-1] == 1


def test_the_mp4_plays_everywhere(fox: list[Clip], tmp_path: Path) -> None:
    path = tmp_path / "fox.mp4"
    assert write_mp4(path, fox) == 15
    head = path.read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, float(stream.average_rate or 0)) == (256, 256, 16.0)
        assert sum(1 for _ in container.decode(stream)) == 15
