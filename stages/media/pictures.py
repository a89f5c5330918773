"""Pictures and animations through Pillow: upright, sRGB, on white."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps

from stages.media.types import Facts, File, Limits, MediaError, Shown
from stages.types import UInt8

_PICTURES = {"PNG": "png", "JPEG": "jpg", "MPO": "jpg", "WEBP": "webp"}  # MPO: a JPEG with more pictures behind it
_ANIMATIONS = {"GIF": "gif", "PNG": "png", "WEBP": "webp"}
_SRGB = PIL.ImageCms.createProfile("sRGB")
_ORIENTATION = 0x0112  # in EXIF
_MAX_PIXELS = 2**26
_SCAN, _MAX_SCANS = b"\xff\xda", 200  # of a progressive JPEG, each of which costs time by the size of the picture
WHITE = "Where it is transparent it is shown white."
_DEFAULT_S = 0.1  # of a frame that says 0, as browsers show it


def examine_picture(file: File, limits: Limits | None = None) -> Facts:
    """What the picture is; it is decoded once, so that a broken one is found.

    Raises:
        MediaError: it is none, is broken, or beyond the limits.
    """
    with _opened(file, "PNG, JPEG or WebP picture", _PICTURES) as picture:
        (limits or Limits(2**13, 1, _MAX_PIXELS)).judge(picture.size)  # before anything is decoded
        size = _upright_size(picture)
        notes = []
        if (count := _count(picture)) > 1 and picture.format != "MPO":
            notes.append(f"Of the animation's {count} frames the first is taken.")
        if picture.mode in ("CMYK", "LAB"):
            notes.append(f"Its {picture.mode} colours are shown in sRGB.")
        suffix = _PICTURES[str(picture.format)]
        _rgb(picture)
        if _hides(picture):
            notes.append(WHITE)
    return Facts("picture", suffix, size, notes=tuple(notes))


def read_picture(file: File) -> UInt8:
    """(H, W, 3), of an animation the first frame.

    Raises:
        MediaError: as `examine_picture` does.
    """
    with _opened(file, "PNG, JPEG or WebP picture", _PICTURES) as picture:
        Limits(2**14, 1, _MAX_PIXELS).judge(picture.size)
        return _rgb(picture)


def examine_animation(file: File) -> Facts:
    """What a GIF, WebP or PNG is that may move; its frames are counted, not converted.

    Raises:
        MediaError: it is none, or is broken.
    """
    with _opened(file, "GIF, WebP or PNG", {**_PICTURES, **_ANIMATIONS}) as picture:
        suffix, size, count = str(picture.format).lower(), _upright_size(picture), _count(picture)
        if count == 1 or picture.format not in _ANIMATIONS:
            return Facts("picture", suffix, size)
        total = sum(_seconds(picture, index) for index in range(count))
        return Facts("video", suffix, size, count, count / total, total)


def animation_frames(file: File) -> Iterator[Shown]:
    """The frames of an animation, of a picture the one.

    Raises:
        MediaError: it is none, or is broken.
    """
    with _opened(file, "GIF, WebP or PNG", {**_PICTURES, **_ANIMATIONS}) as picture:
        start_s = 0.0
        for index in range(_count(picture)):
            end_s = start_s + _seconds(picture, index)
            yield Shown(start_s, end_s, partial(_same, _rgb(picture)))
            start_s = end_s


def on_white(rgba: UInt8) -> UInt8:
    """(H, W, 4) over white: (H, W, 3)."""
    picture = PIL.Image.fromarray(np.ascontiguousarray(rgba), "RGBA")
    ground = PIL.Image.new("RGBA", picture.size, "white")
    return np.asarray(PIL.Image.alpha_composite(ground, picture).convert("RGB"))


def cover(frame: UInt8, size: tuple[int, int]) -> UInt8:
    """(H, W, 3) scaled with Lanczos until it covers (width, height), and cut around the middle."""
    height, width = frame.shape[:2]
    if (width, height) == size:
        return frame
    scale = max(size[0] / width, size[1] / height)
    cut_w, cut_h = size[0] / scale, size[1] / scale
    left, top = (width - cut_w) / 2, (height - cut_h) / 2
    picture = PIL.Image.fromarray(np.ascontiguousarray(frame))
    scaled = picture.resize(size, PIL.Image.Resampling.LANCZOS, box=(left, top, left + cut_w, top + cut_h))
    return np.asarray(scaled)


@contextmanager
def _opened(file: File, what: str, formats: dict[str, str]) -> Iterator[PIL.Image.Image]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what is judged here
        try:
            with PIL.Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as picture:
                if picture.format not in formats:
                    raise PIL.UnidentifiedImageError
                if picture.info.get("progressive"):
                    _check_scans(file)
                yield picture
        except MediaError:
            raise
        except PIL.UnidentifiedImageError as error:
            raise MediaError(f"is no {what} that can be read; save it as one of these") from error
        except PIL.Image.DecompressionBombError as error:
            raise MediaError(f"has more than {_MAX_PIXELS / 1e6:.0f} million pixels; scale it first") from error
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise MediaError(f"cannot be read ({error.strerror})") from error
        except Exception as error:  # decoders raise whatever they meet
            raise MediaError("is broken or cut off; send it again, or save it anew from where it opens") from error


def _check_scans(file: File) -> None:
    data = file if isinstance(file, bytes) else file.read_bytes()
    if (scans := data.count(_SCAN)) > _MAX_SCANS:
        raise MediaError(f"has {scans} scans, as no program writes a JPEG; the limit is {_MAX_SCANS}; save it anew")


def _same(pixels: UInt8) -> UInt8:
    return pixels


def _count(picture: PIL.Image.Image) -> int:
    return int(getattr(picture, "n_frames", 1))


def _seconds(picture: PIL.Image.Image, index: int) -> float:
    """How long a frame is shown; the picture stands at it then."""
    picture.seek(index)
    picture.load()
    return float(picture.info.get("duration", 0)) / 1000 or _DEFAULT_S


def _upright_size(picture: PIL.Image.Image) -> tuple[int, int]:
    width, height = picture.size
    if picture.format == "PNG":
        picture.load()  # its EXIF may stand behind the pixels
    with suppress(Exception):  # EXIF that cannot be read turns nothing
        if picture.getexif().get(_ORIENTATION) in (5, 6, 7, 8):
            return height, width
    return width, height


def _rgb(opened: PIL.Image.Image) -> UInt8:
    """The picture where it stands, (H, W, 3)."""
    opened.load()
    picture = opened.copy()
    with suppress(Exception):  # as in `_upright_size`
        PIL.ImageOps.exif_transpose(picture, in_place=True)
    if _is_deep(picture):
        deep = np.asarray(picture).astype(np.int64)
        grey = np.where(deep == _hidden(picture), 255, (deep >> 8).clip(0, 255)).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode == "P":
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    picture = _in_srgb(picture)
    if picture.has_transparency_data:
        return on_white(np.asarray(picture.convert("RGBA")))
    return np.asarray(picture.convert("RGB"))


def _is_deep(picture: PIL.Image.Image) -> bool:
    """Grey of 16 bits."""
    return picture.mode.startswith(("I", "F"))


def _hidden(picture: PIL.Image.Image) -> int:
    """The one value of a deep grey that is transparent; -1 for none."""
    return int(picture.info.get("transparency", -1))


def _hides(picture: PIL.Image.Image) -> bool:
    if _is_deep(picture):
        return bool((np.asarray(picture) == _hidden(picture)).any())
    return picture.has_transparency_data and int(np.asarray(picture.convert("RGBA"))[..., 3].min()) < 255


def _in_srgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """By the file's colour profile; as it is without one, or with one that is broken."""
    profile = picture.info.get("icc_profile")
    modes = {"RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB", "L": "RGB"}
    if not profile or picture.mode not in modes:
        return picture
    try:
        source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
        made = PIL.ImageCms.profileToProfile(picture, source, _SRGB, outputMode=modes[picture.mode])
    except (PIL.ImageCms.PyCMSError, OSError, ValueError):
        return picture
    return picture if made is None else made
