"""Made-up animations: every subject a square with a white corner, whose green grows with every frame."""

import io

import PIL.Image
import PIL.ImageDraw

from stages.training.scenes.animations import Animations
from stages.training.scenes.sentences import subjects


def animation(frames: int) -> bytes:
    """256 pixels, the square from 40 to 215 across and 250 down, its green 40 and 2 more every frame."""
    pictures = []
    for index in range(frames):
        picture = PIL.Image.new("RGBA", (256, 256))
        draw = PIL.ImageDraw.Draw(picture)
        draw.rectangle((40, 40, 215, 250), fill=(200, 40 + 2 * index, 40, 255))
        draw.rectangle((40, 40, 90, 90), fill=(255, 255, 255, 255))
        pictures.append(picture)
    file = io.BytesIO()
    pictures[0].save(file, "WEBP", save_all=True, append_images=pictures[1:], lossless=True, exact=True)
    return file.getvalue()


def made_animations() -> Animations:
    """Of every subject, all alike."""
    webp = animation(48)
    return Animations((subject.code, webp) for subject in subjects().values())
