"""Files that come with a request: judged, put into the artifact store, and described for the job that begins from them.

Takes a request's fields and open files; gives a `Source`. A file that no job took is removed again by `drop`.
"""

import hashlib
import uuid
from dataclasses import dataclass
from typing import IO

from client.schema import CreateVideo
from deployments.errors import InvalidRequestError
from deployments.files.store import ArtifactStore
from deployments.jobs.values import Source
from deployments.settings.application import IngressArgs
from stages.media.pictures import examine_picture
from stages.media.types import Facts, Limits, MediaError
from stages.media.videos import examine_video
from stages.types import StageName

FILES = ("input_reference", "input_video")  # the fields that hold one
Files = dict[str, IO[bytes]]
"""By the name of the field; large ones lie on a disk."""
_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "mp4": "video/mp4", "webm": "video/webm"}


@dataclass(frozen=True)
class StartingPoint:
    """What a job begins from beside its prompt: a file, an earlier job, or neither."""

    source: Source | None = None
    parent_id: str | None = None
    enter: StageName = "t2i"


def judge_inputs(created: CreateVideo) -> None:
    """Whether the fields that name files belong together.

    Raises:
        InvalidRequestError: they do not.
    """
    picture, video = created.input_reference, created.input_video
    if picture is not None and video is not None:
        raise _wrong("input_video", "input_reference and input_video exclude each other; send one of them.")
    if created.enter is not None and video is None:
        raise _wrong("enter", f"enter is {created.enter!r}, but there is no input_video; send one, or leave enter out.")
    if video is not None and created.enter is None:
        raise _wrong("enter", "input_video needs enter: 'v2v' redraws it in high resolution, 'vfi' interpolates it.")
    if picture is not None and (picture.video_url is not None or picture.id is not None):
        raise _wrong("input_reference", "input_reference holds a picture: a file of the form, or image_url.")
    if video is not None and sum(given is not None for given in (video.image_url, video.video_url, video.id)) != 1:
        raise _wrong("input_video", "input_video holds one of: a file of the form, video_url, id.")


def accept(created: CreateVideo, files: Files, store: ArtifactStore, limits: IngressArgs) -> StartingPoint:
    """Judge and keep the file of a request, if there is one.

    Raises:
        InvalidRequestError: fields that do not belong together, or a file that is refused.
    """
    judge_inputs(created)
    if created.input_reference is not None:
        return _kept(files, "input_reference", "picture", "i2v", store, limits)
    if created.input_video is not None:
        assert created.enter is not None
        if created.input_video.id is not None:
            return StartingPoint(parent_id=created.input_video.id, enter=created.enter)
        return _kept(files, "input_video", "video", created.enter, store, limits)
    return StartingPoint()


def drop(given: StartingPoint, store: ArtifactStore) -> None:
    """Remove the file of a request that made no job."""
    if given.source is not None:
        store.delete(given.source.key)


def _kept(
    files: Files, field: str, kind: str, enter: StageName, store: ArtifactStore, limits: IngressArgs
) -> StartingPoint:
    data = files[field].read() if field in files else b""  # in memory only here, where few are at once
    if not data:
        wanted = "image_url" if kind == "picture" else "video_url"
        raise _wrong(field, f"{field} is empty; send a file in a form, or {wanted} with a data: URL.")
    facts = inspect(data, kind, field, limits)
    key = f"uploads/{uuid.uuid4().hex}/source.{facts.suffix}"
    store.put_bytes(data, key, _TYPES[facts.suffix])
    source = Source(
        key=key,
        sha256=hashlib.sha256(data).hexdigest(),
        kind="picture" if kind == "picture" else "video",
        enters=enter,
        width=facts.size[0],
        height=facts.size[1],
        frames=facts.frames,
        fps=facts.fps,
        sound=facts.sound,
        note=" ".join(facts.notes),
        size_bytes=len(data),
    )
    return StartingPoint(source, enter=enter)


def inspect(data: bytes, kind: str, field: str, limits: IngressArgs) -> Facts:
    """What a file is; all of it is decoded, so that a broken one is found now.

    Raises:
        InvalidRequestError: not such a file, broken, or beyond the limits.
    """
    most = Limits(limits.max_upload_side_px, limits.max_upload_frames, limits.max_upload_pixels)
    try:
        return examine_picture(data, most) if kind == "picture" else examine_video(data, most)
    except MediaError as error:
        raise InvalidRequestError(f"The file in {field} {error}.", param=field, code="invalid_file") from error


def _wrong(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=field, code="invalid_field")
