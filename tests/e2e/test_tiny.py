"""The real thing: preset tiny, its committed weights, the command that `make serve` runs, a video at the end."""

import io
from collections.abc import Iterator

import av
import httpx
import numpy as np
import pytest

from client.schema import Video
from cluster.server_process import ServerProcess
from stages.types import UInt8
from tests.e2e.rig import wait_for

pytestmark = pytest.mark.slow

START_S, VIDEO_S = 180.0, 400.0


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("tiny")
    errors = folder / "stderr"
    server = ServerProcess("--laptop", "--data-dir", folder / "data", "--threads", 1, log=errors)
    with server, httpx.Client(base_url=server.url, timeout=30.0) as client:
        yield client
    said = errors.read_text()  # until SIGTERM, and of it
    assert server.returncode == 0, said
    assert "Traceback" not in said


def make(http: httpx.Client, **body: object) -> Video:
    answer = http.post("/v1/videos", json=body)
    assert answer.status_code == 200, answer.text
    path = f"/v1/videos/{answer.json()['id']}"

    def ended() -> Video | None:
        video = Video.model_validate(http.get(path).json())
        return video if video.status in ("completed", "failed") else None

    video = wait_for("the video", ended, VIDEO_S)
    assert video.error is None, video.error
    return video


def frames_of(http: httpx.Client, video: Video) -> UInt8:
    content = http.get(f"/v1/videos/{video.id}/content")
    assert content.status_code == 200
    with av.open(io.BytesIO(content.content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


BODY = {"prompt": "a fox in a snowy forest at dusk", "seed": 7, "seconds": "1", "steps": 6}


@pytest.fixture(scope="module")
def fox(http: httpx.Client) -> tuple[Video, UInt8]:
    video = make(http, **BODY)
    return video, frames_of(http, video)


def test_a_prompt_becomes_a_moving_picture_of_the_promised_size(fox: tuple[Video, UInt8]) -> None:
    video, frames = fox
    assert [stage.status for stage in video.stages] == ["completed"] * 4
    assert all(stage.run_s and stage.bytes_out for stage in video.stages)
    assert frames.shape == (video.frames, 256, 256, 3)
    assert frames.std(axis=(1, 2)).mean() > 10, "the frames are nearly of one colour"
    changes = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    assert changes.max() > 0.1, "nothing moves"
    assert np.median(changes) < 40, "the frames have nothing to do with each other"


def test_another_prompt_gives_another_video_and_the_same_one_the_same(
    http: httpx.Client, fox: tuple[Video, UInt8]
) -> None:
    again, whale = make(http, **BODY), make(http, **{**BODY, "prompt": "a whale on a beach"})
    assert np.array_equal(fox[1], frames_of(http, again))
    assert np.abs(fox[1].astype(np.int16) - frames_of(http, whale)).mean() > 5
