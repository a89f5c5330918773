"""The same files by every way in: over HTTP into V2V and VFI, by the command without a server, and into training."""

import io
import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from client.schema import Video
from deployments.files.keeper import Keeper
from deployments.files.mp4 import encode_chunk
from deployments.files.packing import Record
from deployments.jobs.plans import plan_of
from deployments.jobs.values import Job
from deployments.settings.application import AppArgs, IngressArgs
from stages.__main__ import main
from stages.local.beginning import begin
from stages.media.pictures import cover
from stages.media.times import shown_at
from stages.media.videos import examine_video, video_frames
from stages.presets import TINY, plan
from stages.training.own_data.footage import probe, read_clip
from stages.training.own_data.manifest import Entry
from stages.types import STAGE_NAMES, UInt8
from tests.corpus import made
from tests.corpus.made import SIZE, film, greys, marked, picture, still
from tests.corpus.test_right_values import BROKEN, NEAR, PICTURES, VIDEOS, apart
from tests.deployments.rig import Rig, error_of

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
KEYFRAMES = TINY.sizes["256x256"].i2v
SQUARE = TINY.sizes["256x256"].t2i


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path, AppArgs(ingress=IngressArgs(max_upload_side_px=600, max_upload_frames=600)))
    yield made
    await made.close()


async def posted(rig: Rig, data: bytes, **fields: str) -> tuple[Video, Job]:
    name = "input_video" if "enter" in fields else "input_reference"
    answer = await rig.http.post("/v1/videos", data={"prompt": "a fox", **fields}, files={name: data})
    assert answer.status_code == 200, answer.text
    video = Video.model_validate_json(answer.content)
    return video, rig.journal.get(video.id)


async def taken_in(rig: Rig, job: Job) -> dict[str, list[Any]]:
    """What the pipeline's first stages are given, by the keeper that serves it."""
    keeper = Keeper(rig.store.url)
    assert job.request.source is not None
    records: dict[Any, list[Record]] = await keeper.ingest(
        job.request.source, plan_of(job.request), f"checkpoints/{job.id}/1-source"
    )
    return {
        stage: [await anext(keeper.load(own["key"], own["sha256"])) for own in records[stage]]
        for stage in STAGE_NAMES
        if stage in records
    }


def even(frame: UInt8) -> UInt8:
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]


async def test_every_picture_looks_the_same_by_every_way(rig: Rig, tmp_path: Path) -> None:
    for name, (make, wanted) in PICTURES.items():
        data = make()
        _, job = await posted(rig, data)
        [image] = (await taken_in(rig, job))["t2i"]
        file = tmp_path / "a.png"
        file.write_bytes(data)
        begun = begin(plan(TINY, "a fox"), TINY, file, None, None)
        assert begun is not None
        local: Any = dict(begun.outputs())["t2i"]
        trained = read_clip(Entry(file, ""), 0.0, 1, 1.0, SQUARE)[0]
        for way, shown in {"http": image.pixels, "stages": local.pixels, "training": trained}.items():
            assert apart(shown, cover(wanted, SQUARE)) < NEAR, (name, way)


async def test_every_video_looks_the_same_by_every_way(rig: Rig, tmp_path: Path) -> None:
    for name, (make, wanted) in VIDEOS.items():
        data = make()
        file = tmp_path / "a.mp4"
        file.write_bytes(data)
        _, redrawn = await posted(rig, data, enter="v2v")
        video, between = await posted(rig, data, enter="vfi")
        assert (video.size, video.frames, video.fps) == ("96x64", 16, 72.0)
        given, pieces = await taken_in(rig, redrawn), (await taken_in(rig, between))["v2v"]
        ways = {"training": read_clip(Entry(file, ""), 0.0, 2, 8.0, KEYFRAMES)}
        assert probe(Entry(file, "")).size == SIZE
        ways["v2v"] = given["i2v"][0].clip.frames
        ways["stages v2v"] = begun(file, "v2v")["i2v"].clip.frames
        for way, frames in ways.items():
            assert apart(frames[0], cover(wanted, KEYFRAMES)) < NEAR, (name, way)
        assert apart(given["t2i"][0].pixels, cover(wanted, SQUARE)) < NEAR, name
        for frames in (np.concatenate([piece.clip.frames for piece in pieces]), begun(file, "vfi")["v2v"].clip.frames):
            assert frames.shape == (6, 64, 96, 3)
            assert max(apart(frame, wanted) for frame in frames) < NEAR, name


def begun(file: Path, enter: str) -> dict[str, Any]:
    found = begin(plan(TINY, "a fox"), TINY, None, file, enter)
    assert found is not None
    return dict(found.outputs())


async def test_what_is_broken_is_refused_at_once_by_every_way(rig: Rig, tmp_path: Path) -> None:
    for name in ("JPEG cut at 60 %", "PNG with bit rot", "MP4 with bit rot", "MP4 cut in its index", "WebM cut"):
        make, kind, _ = BROKEN[name]
        data = make()
        field, fields = ("input_reference", {}) if kind == "picture" else ("input_video", {"enter": "v2v"})
        answer = await rig.http.post("/v1/videos", data={"prompt": "a fox", **fields}, files={field: data})
        error = error_of(answer, 400)
        assert (error.code, error.param) == ("invalid_file", field)
        assert error.message.startswith(f"The file in {field} ")
        file = tmp_path / ("a.jpg" if kind == "picture" else "a.mp4")
        file.write_bytes(data)
        option = ["--image", str(file)] if kind == "picture" else ["--video", str(file), "--enter", "vfi"]
        assert main(["a fox", "-o", str(tmp_path / "out.mp4"), *option]) == 2
    assert rig.journal.counts() == {}
    assert not list(rig.folder.glob("artifacts/uploads/*/*"))


LENGTHS: list[tuple[Callable[[], bytes], str, int, str, str]] = [
    (lambda: film(greys(46, step=5)), "v2v", 46, "1.92", ""),
    (lambda: film(greys(45, step=5)), "v2v", 45, "1.88", ""),
    (lambda: film(greys(24)), "v2v", 24, "1", ""),
    (lambda: film(greys(15), fps=15), "v2v", 24, "1", ""),
    (lambda: film(greys(12), fps=4), "v2v", 72, "3", ""),
    (lambda: film(greys(4), kind="webm", codec="libvpx", fps=30, times_ms=range(0, 2000, 500)), "v2v", 48, "2", ""),
    (lambda: film(greys(24)), "vfi", 70, "0.97", ""),
    (lambda: film(greys(42, step=5), fps=2), "v2v", 190, "7.92", "lasts 21.00 s; its first 7.92 s are taken"),
    (lambda: film(greys(3, (96, 65)), pix_fmt="yuv444p"), "vfi", 7, "0.1", "last row of pixels is left out"),
    (lambda: film(still(marked()), interlaced=True), "vfi", 16, "0.22", "both fields become one frame"),
    (lambda: film(greys(12), fps=30, times_ms=[*range(0, 270, 30), 470, 670, 870]), "vfi", 88, "0.88", "rate varies"),
]


@pytest.mark.parametrize(("make", "enter", "frames", "seconds", "note"), LENGTHS)
async def test_lengths_are_told_and_what_is_left_out_is_noted(
    rig: Rig, make: Callable[[], bytes], enter: str, frames: int, seconds: str, note: str
) -> None:
    video, job = await posted(rig, make(), enter=enter)
    assert (video.frames, video.seconds) == (frames, seconds)
    assert note in (video.note or "")
    given = await taken_in(rig, job)
    assert sum(len(piece.clip.frames) for piece in given.get("v2v", [])) in (0, plan_of(job.request).i2v.frames)


@pytest.mark.parametrize("enter", ["v2v", "vfi"])
async def test_frames_of_a_varying_rate_stay_at_their_times(rig: Rig, enter: str) -> None:
    """A second at 25/s, then a second and a half at 4/s."""
    times = [*range(0, 1000, 40), *range(1000, 2500, 250)]
    data = film(greys(len(times), step=7), fps=4, times_ms=times)
    _, job = await posted(rig, data, enter=enter)
    given = await taken_in(rig, job)
    clips = [piece.clip for piece in given["v2v"]] if enter == "vfi" else [given["i2v"][0].clip]
    frames = [float(frame.mean()) for clip in clips for frame in clip.frames]
    for moment in (0.0, 0.5, 1.125, 1.625, 2.125):
        at = round(moment * clips[0].fps)
        shown = max(index for index, time in enumerate(times) if time <= moment * 1000 + 1)
        assert abs(frames[at] - (16 + 7 * shown)) <= (3 if enter == "v2v" else 10), moment


def heard(data: bytes) -> tuple[str, float]:
    """Codec and seconds of the sound."""
    with av.open(io.BytesIO(data)) as container:
        track = container.streams.audio[0]
        samples = sum(frame.samples for frame in container.decode(track))
        return track.codec_context.name, samples / track.rate


@pytest.mark.parametrize(
    ("kind", "codec", "sound", "kept"),
    [("mp4", "libx264", "aac", "aac"), ("webm", "libvpx", "libopus", "opus"), ("mov", "libx264", "pcm_s16le", "aac")],
)
async def test_sound_stays_beside_the_frames(rig: Rig, kind: str, codec: str, sound: str, kept: str) -> None:
    data = film(greys(24), kind=kind, codec=codec, sound=sound)
    _, job = await posted(rig, data, enter="vfi")
    source = job.request.source
    assert source is not None
    assert source.sound
    chunks = [encode_chunk(piece.clip) for piece in (await taken_in(rig, job))["v2v"]]
    told = await Keeper(rig.store.url).finish(*chunks, key=f"videos/{job.id}/1.mp4", provenance={}, sound=source.key)
    result = b"".join(rig.store.read(told["key"], 0, told["size_bytes"]))
    name, length_s = heard(result)
    assert name == kept
    assert length_s == pytest.approx(1.0, abs=0.1)
    with av.open(io.BytesIO(result)) as container:
        kinds = [packet.stream.type for packet in container.demux() if packet.size]
        assert len(list(itertools.groupby(kinds))) > 4  # interleaved, as a player reads them
    assert examine_video(result).frames == 24


async def test_a_growing_video_is_judged_by_every_frame(rig: Rig) -> None:
    served = rig.served(AppArgs(ingress=IngressArgs(max_upload_side_px=256)))
    rig.app = served
    answer = await rig.client().post(
        "/v1/videos", data={"prompt": "a fox", "enter": "v2v"}, files={"input_video": made.growing()}
    )
    assert "has 512x512 pixels; each side must be between 16 and 256" in error_of(answer, 400).message


def test_a_large_film_in_a_small_file_is_decoded_in_little_memory(tmp_path: Path) -> None:
    """40 frames of 2048x2048, 480 MiB raw: examined, and cut into pieces that follow each other."""
    black = av.VideoFrame.from_ndarray(np.zeros((3072, 2048), np.uint8), format="yuv420p")
    (tmp_path / "a.mp4").write_bytes(film([black] * 40, crf="40", preset="ultrafast"))
    code = """
        import resource, sys
        from pathlib import Path
        from stages.local.beginning import begin
        from stages.presets import TINY, plan
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = begin(plan(TINY, "a fox"), TINY, None, Path(sys.argv[1]), "vfi")
        sizes = [value.nbytes for _, value in begun.outputs()]
        assert sum(sizes) == 40 * 2048 * 2048 * 3 and max(sizes) <= 64 * 2**20, sizes
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "a.mp4")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300  # MiB: two pieces, and the frames of the decoder


def test_the_command_interpolates_a_video_by_the_real_stages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "turned.mp4", tmp_path / "out.mp4"
    file.write_bytes(film(still(np.rot90(marked())), matrix=made.MATRICES["90"], sound="aac"))
    assert main(["a fox", "--video", str(file), "--enter", "vfi", "-o", str(out), "--seed", "1"]) == 0
    assert "16 frames at 72 frames/s" in " ".join(capsys.readouterr().err.split())
    frames = list(shown_at(video_frames(out), [index / 72 for index in range(16)]))
    assert max(apart(frame, marked()) for frame in frames) < 2 * NEAR
    assert heard(out.read_bytes())[0] == "aac"


def test_the_command_redraws_a_video_by_the_real_stages(tmp_path: Path) -> None:
    file, out = tmp_path / "turned.mp4", tmp_path / "out.mp4"
    file.write_bytes(film(still(np.rot90(marked()), 5), matrix=made.MATRICES["90"]))
    options = ["--enter", "v2v", "--steps", "4", "--seed", "1", "--without", "gan"]
    assert main(["a fox", "--video", str(file), *options, "-o", str(out)]) == 0
    facts = examine_video(out)
    assert (facts.size, facts.fps, facts.frames) == (SQUARE, 24.0, 5)
    [shown] = shown_at(video_frames(out), [0.1])
    quarters = [shown[top : top + 96, left : left + 96].mean((0, 1)) for top in (16, 144) for left in (16, 144)]
    assert [int(quarter.argmax()) for quarter in quarters[:3]] == [0, 1, 2]  # red, green, blue: upright


def test_arguments_that_do_not_belong_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(picture(marked()))
    os.mkfifo(tmp_path / "pipe")
    image, video = ["--image", str(tmp_path / "a.png")], ["--video", str(tmp_path / "a.png")]
    for given, says in (
        (video, "--video needs --enter"),
        ([*image, *video], "exclude each other"),
        (["--enter", "vfi"], "there is no --video"),
        ([*video, "--enter", "vfi"], "is no MP4 or WebM video"),
        (["--image", str(tmp_path / "none.png")], "cannot be read"),
        (["--image", str(tmp_path / "pipe")], "is a pipe or a device, and it is read more than once"),
        (["--video", "/dev/zero", "--enter", "v2v"], "is a pipe or a device"),
    ):
        assert main(["a fox", *given]) == 2
        assert says in " ".join(capsys.readouterr().err.split())


def test_the_corpus_is_small() -> None:
    files = [make() for make, _ in (*PICTURES.values(), *VIDEOS.values())]
    assert len(files) >= 30
    assert sum(map(len, files)) < 2_000_000
