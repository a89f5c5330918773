"""Small files as a user brings them: clips of moving squares with captions, pictures, and a manifest of both."""

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image

from stages.types import UInt8

FPS = 10
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (40, 60, 220)}


def moving_square(colour: tuple[int, int, int], frames: int, side: int) -> UInt8:
    """(frames, side, side, 3): a square that walks over a grey ground."""
    clip = np.full((frames, side, side, 3), 110, np.uint8)
    for index in range(frames):
        left = 2 * index % (side // 2)
        clip[index, side // 4 : 3 * side // 4, left : left + side // 3] = colour
    return clip


def write_video(path: Path, frames: UInt8, fps: int = FPS) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.options = {"crf": "1", "g": "5"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_webp(path: Path, frames: UInt8, fps: int = FPS) -> Path:
    first, *rest = [PIL.Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=1000 // fps, lossless=True)
    return path


def write_picture(path: Path, pixels: UInt8) -> Path:
    PIL.Image.fromarray(pixels).save(path)
    return path


def write_lines(path: Path, *lines: object) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def folder_of_clips(folder: Path, frames: int = 16, side: int = 80) -> Path:
    """A clip and a picture of every colour; the manifest of all."""
    lines = []
    for name, colour in COLOURS.items():
        clip = moving_square(colour, frames, side)
        write_video(folder / f"{name}.mp4", clip)
        write_picture(folder / f"{name}.png", clip[3])
        lines += [{"file": f"{name}.{kind}", "caption": f"a {name} square"} for kind in ("mp4", "png")]
    return write_lines(folder / "clips.jsonl", *lines)


def folder_of_pairs(folder: Path, side: int = 48) -> Path:
    """Pairs of a coloured square (better) and a grey one (worse)."""
    lines = []
    for name, colour in COLOURS.items():
        write_picture(folder / f"{name}_better.png", moving_square(colour, 1, side)[0])
        write_picture(folder / f"{name}_worse.png", moving_square((90, 90, 90), 1, side)[0])
        pair = {"better": f"{name}_better.png", "worse": f"{name}_worse.png", "caption": f"a {name} square"}
        lines.append(pair)
    return write_lines(folder / "pairs.jsonl", *lines)
