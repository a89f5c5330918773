"""Files that users send: what they are is read from their headers, and what is too large is never decoded."""

import io
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from deployments.errors import InvalidRequestError
from deployments.files.decoding import last_frame, read_picture, read_video
from deployments.intake.uploads import Limits, inspect
from stages.local.mp4 import write_mp4
from stages.types import Clip

LIMITS = Limits(max_side_px=128, max_frames=24)


def png(size: tuple[int, int], colour: tuple[int, ...] = (10, 200, 30), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB" if len(colour) == 3 else "RGBA", size, colour).save(buffer, kind)
    return buffer.getvalue()


def mp4(folder: Path, frames: int = 12, size: tuple[int, int] = (64, 48), fps: float = 24.0) -> bytes:
    ramp = np.arange(frames, dtype=np.uint8)[:, None, None, None] * 10
    write_mp4(folder / "own.mp4", [Clip(np.broadcast_to(ramp, (frames, size[1], size[0], 3)), fps)])
    return (folder / "own.mp4").read_bytes()


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_a_picture_is_what_its_bytes_say(kind: str, suffix: str) -> None:
    facts = inspect(png((40, 20), kind=kind), "picture", "input_reference", LIMITS)
    assert (facts.suffix, facts.size, facts.frames) == (suffix, (40, 20), 1)


def test_a_video_is_what_its_headers_say(tmp_path: Path) -> None:
    facts = inspect(mp4(tmp_path), "video", "input_video", LIMITS)
    assert (facts.suffix, facts.size, facts.frames, facts.fps) == ("mp4", (64, 48), 12, 24.0)


def bomb() -> bytes:
    """The header of a PNG of 30000 x 30000 pixels, and nothing behind it."""
    head = b"IHDR" + (30000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + head + zlib.crc32(head).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no PNG, JPEG or WebP"),
        (b"GIF89a" + bytes(20), "no PNG, JPEG or WebP"),
        (png((40, 20))[:-20], "no PNG, JPEG or WebP"),
        (png((8, 40)), "has 8x40 pixels; each side must be between 16 and 128"),
        (png((200, 40)), "has 200x40 pixels"),
        (bomb(), "30000x30000 pixels|no PNG, JPEG or WebP"),
    ],
)
def test_a_picture_that_cannot_be_used_is_refused_in_one_sentence(data: bytes, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as caught:
        inspect(data, "picture", "input_reference", LIMITS)
    assert (caught.value.param, caught.value.code) == ("input_reference", "invalid_file")


def test_a_video_that_cannot_be_used_is_refused_in_one_sentence(tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(mp4(tmp_path))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n".encode()
    listed = f"ffconcat version 1.0\nfile '{secret}'\n".encode()
    for data in (b"", b"\x1a\x45\xdf\xa3", playlist, listed, png((40, 20)), mp4(tmp_path)[:200]):
        with pytest.raises(InvalidRequestError, match="no MP4 or WebM video"):
            inspect(data, "video", "input_video", LIMITS)
    for frames, size, says in ((25, (64, 48), "has 25 frames; the limit is 24"), (2, (256, 48), "has 256x48 pixels")):
        with pytest.raises(InvalidRequestError, match=says):
            inspect(mp4(tmp_path, frames, size), "video", "input_video", LIMITS)


def test_a_picture_is_cut_to_the_middle_and_scaled(tmp_path: Path) -> None:
    whole = PIL.Image.new("RGB", (90, 30), (0, 0, 0))
    whole.paste((255, 255, 255), (30, 0, 60, 30))
    buffer = io.BytesIO()
    whole.save(buffer, "PNG")
    middle = read_picture(buffer.getvalue(), (16, 16))
    assert middle.shape == (16, 16, 3)
    assert middle.min() >= 240
    clear = read_picture(png((20, 20), (0, 0, 0, 0)), (16, 16))
    assert clear.min() == 255  # transparency becomes white


def test_frames_are_taken_at_the_asked_rate_and_the_last_one_stays(tmp_path: Path) -> None:
    data = mp4(tmp_path, frames=12, fps=24.0)
    half = read_video(data, 6, 12.0, (64, 48))
    assert np.abs(half[:, 0, 0, 0].astype(int) - [0, 20, 40, 60, 80, 100]).max() <= 3
    every = read_video(data, 14, None, (32, 24))
    assert every.shape == (14, 24, 32, 3)
    assert np.abs(every[:, 0, 0, 0].astype(int) - [*range(0, 120, 10), 110, 110]).max() <= 3
    assert np.abs(last_frame(data, (16, 16)).astype(int) - 110).max() <= 3
