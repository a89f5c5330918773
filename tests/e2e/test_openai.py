"""The unmodified `openai` package makes, follows, lists, downloads, remixes and deletes videos on this server."""

import io
from collections.abc import Iterator

import PIL.Image
import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from tests.e2e.rig import Rig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def openai(rig: Rig) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{rig.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_video_from_prompt_to_file_and_away(openai: OpenAI) -> None:
    video = openai.videos.create_and_poll(prompt="a fox", extra_body={"model": "tiny", "seed": 3})
    assert (video.status, video.progress, video.size, video.prompt) == ("completed", 100, "256x256", "a fox")
    assert openai.videos.retrieve(video.id).completed_at is not None
    assert video.id in [found.id for found in openai.videos.list(limit=5)]
    data = openai.videos.download_content(video.id).read()
    assert data[4:8] == b"ftyp"
    thumbnail = openai.videos.download_content(video.id, variant="thumbnail").read()
    sheet = openai.videos.download_content(video.id, variant="spritesheet").read()
    formats = [PIL.Image.open(io.BytesIO(picture)).format for picture in (thumbnail, sheet)]
    assert formats == ["WEBP", "PNG"]
    child = openai.videos.remix(video.id, prompt="a red fox")
    assert child.remixed_from_video_id == video.id
    child = openai.videos.poll(child.id)
    assert child.status == "completed"
    for name in (video.id, child.id):
        assert openai.videos.delete(name).deleted
    with pytest.raises(NotFoundError, match="No video has the id"):
        openai.videos.retrieve(video.id)


def test_words_of_other_servers_go_through_the_package(openai: OpenAI) -> None:
    assert [model.id for model in openai.models.list()] == ["tiny", "sora-2", "sora-2-pro"]
    assert openai.models.retrieve("sora-2").owned_by == "magicvideo"
    more = {"num_inference_steps": 4, "width": 256, "height": 256, "extra_params": {"flow_shift": 5.0}}
    video = openai.videos.create(prompt="a fox", model="sora-2", seconds="4", extra_body=more)
    assert (video.model, video.seconds, video.size) == ("tiny", "4", "256x256")
    assert "flow_shift" in (video.model_extra or {})["note"]
    assert openai.videos.delete(video.id).deleted


def test_a_picture_is_sent_as_the_package_sends_it(openai: OpenAI) -> None:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    video = openai.videos.create_and_poll(
        prompt="a fox", input_reference=("red.png", buffer.getvalue(), "image/png"), extra_body={"model": "tiny"}
    )
    assert video.status == "completed"


def test_what_is_refused_reaches_the_package_as_its_own_error(openai: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="Unknown model 'sora-3'") as caught:
        openai.videos.create(prompt="a fox", model="sora-3")
    assert caught.value.param == "model"
