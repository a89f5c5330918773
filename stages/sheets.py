"""Contact sheets: frames of a video side by side, evenly spaced from its first to its last.

Takes an mp4, gives a picture. Reads the file as a player does, so what the sheet shows is what was written. Knows
nothing of stages.
"""

import io
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
import PIL.Image

from stages.types import UInt8

FRAMES, TILE_PX = 6, 256


def even_frames(video: Path | BinaryIO, count: int) -> list[UInt8]:
    """`count` frames (H, W, 3) uint8 of an mp4, the first and the last among them; some twice where it has fewer."""
    with av.open(str(video) if isinstance(video, Path) else video) as container:
        total = sum(1 for packet in container.demux(video=0) if packet.size)
        container.seek(0)
        wanted = np.linspace(0, total - 1, count).round().astype(int).tolist()
        kept: dict[int, UInt8] = {}
        for index, frame in enumerate(container.decode(video=0)):
            if index in wanted:
                kept[index] = frame.to_ndarray(format="rgb24")
    return [kept[index] for index in wanted]


def contact_sheet(video: Path | BinaryIO, *, frames: int = FRAMES, tile_px: int = TILE_PX) -> PIL.Image.Image:
    """A row of frames, each at most `tile_px` wide and high."""
    tiles = []
    for pixels in even_frames(video, frames):
        tile = PIL.Image.fromarray(pixels)
        tile.thumbnail((tile_px, tile_px), PIL.Image.Resampling.LANCZOS)
        tiles.append(tile)
    width, height = tiles[0].size
    sheet = PIL.Image.new("RGB", (width * frames, height))
    for column, tile in enumerate(tiles):
        sheet.paste(tile, (column * width, 0))
    return sheet


def sheet_png(video: Path | BinaryIO) -> bytes:
    """The same as a PNG."""
    buffer = io.BytesIO()
    contact_sheet(video).save(buffer, "PNG")
    return buffer.getvalue()


def thumbnail_webp(video: Path | BinaryIO, side_px: int = TILE_PX) -> bytes:
    """The first frame, at most `side_px` wide and high; of a picture, the picture."""
    picture = PIL.Image.fromarray(even_frames(video, 1)[0])
    picture.thumbnail((side_px, side_px), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()
