"""Files that come with a request: judged, put into the artifact store, and described for the job that begins from them.

Takes a request's fields and open files; gives a `Source`. A file that no job took is removed again by `drop`.
"""

import hashlib
import uuid
from dataclasses import dataclass
from typing import IO

from client.schema import CreateVideo, Reference
from deployments.errors import InvalidRequestError
from deployments.files.store import ArtifactStore
from deployments.jobs.values import Source
from deployments.settings.application import IngressArgs
from deployments.tenants.uploads import Upload
from stages.media.pictures import examine_picture
from stages.media.types import Facts, Limits, MediaError
from stages.media.videos import examine_video
from stages.types import StageName

FILES = ("input_reference", "input_video", "video")  # the fields that hold one, of any body
Files = dict[str, IO[bytes]]
"""By the name of the field; large ones lie on a disk."""
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "mp4": "video/mp4", "webm": "video/webm"}


@dataclass(frozen=True)
class StartingPoint:
    """What a job begins from beside its prompt: a file, an earlier job, or neither."""

    source: Source | None = None
    parent_id: str | None = None
    upload_id: str | None = None  # of the file that `source` is, where it was sent before
    enter: StageName | None = None


def judge_inputs(created: CreateVideo) -> None:
    """Whether the fields that name files belong together.

    Raises:
        InvalidRequestError: they do not.
    """
    picture, video = created.input_reference, created.input_video
    if created.remixed_from_video_id is not None and (picture is not None or video is not None):
        name = "input_video" if picture is None else "input_reference"
        raise _wrong(name, f"remixed_from_video_id and {name} exclude each other; send one of them.")
    if picture is not None and video is not None:
        raise _wrong("input_video", "input_reference and input_video exclude each other; send one of them.")
    if created.enter is not None and video is None:
        raise _wrong("enter", f"enter is {created.enter!r}, but there is no input_video; send one, or leave enter out.")
    if video is not None and created.enter is None:
        raise _wrong("enter", "input_video needs enter: 'v2v' redraws it in high resolution, 'vfi' interpolates it.")
    if picture is not None and (picture.video_url is not None or picture.id is not None or _count(picture) != 1):
        raise _wrong("input_reference", "input_reference holds a picture: a file of the form, image_url, or file_id.")
    if video is not None and _count(video) != 1:
        raise _wrong("input_video", "input_video holds one of: a file of the form, video_url, file_id, id.")


def accept(
    created: CreateVideo, files: Files, upload: Upload | None, store: ArtifactStore, limits: IngressArgs
) -> StartingPoint:
    """Judge and keep the file of a request, if there is one.

    Args:
        upload: the file of `POST /v1/files` that it names.

    Raises:
        InvalidRequestError: fields that do not belong together, or a file that is refused.
    """
    judge_inputs(created)
    if created.remixed_from_video_id is not None:
        return StartingPoint(parent_id=created.remixed_from_video_id)
    if upload is not None:
        return _sent_before(created, upload)
    if created.input_reference is not None:
        return _kept(files, "input_reference", "picture", "i2v", store, limits)
    if created.input_video is not None:
        assert created.enter is not None
        if created.input_video.id is not None:
            return StartingPoint(parent_id=created.input_video.id, enter=created.enter)
        return _kept(files, "input_video", "video", created.enter, store, limits)
    return StartingPoint()


def drop(given: StartingPoint, store: ArtifactStore) -> None:
    """Remove the file of a request that made no job, if it came with it."""
    if given.source is not None and given.upload_id is None:
        store.delete(given.source.key)


def _kept(
    files: Files, field: str, kind: str, enter: StageName, store: ArtifactStore, limits: IngressArgs
) -> StartingPoint:
    data = files[field].read() if field in files else b""  # in memory only here, where few are at once
    if not data:
        wanted = "image_url" if kind == "picture" else "video_url"
        raise _wrong(field, f"{field} is empty; send a file in a form, or {wanted} with a data: URL or an address.")
    return StartingPoint(keep(data, inspect(data, kind, field, limits), store, enter), enter=enter)


def keep(data: bytes, facts: Facts, store: ArtifactStore, enter: StageName) -> Source:
    """Put a file that was judged into the store."""
    key = f"uploads/{uuid.uuid4().hex}/source.{facts.suffix}"
    store.put_bytes(data, key, MEDIA_TYPES[facts.suffix])
    return Source(
        key=key,
        sha256=hashlib.sha256(data).hexdigest(),
        kind=facts.kind,
        enters=enter,
        width=facts.size[0],
        height=facts.size[1],
        frames=facts.frames,
        fps=facts.fps,
        sound=facts.sound,
        note=" ".join(facts.notes),
        size_bytes=len(data),
    )


def _sent_before(created: CreateVideo, upload: Upload) -> StartingPoint:
    field, wanted = ("input_video", "video") if created.input_reference is None else ("input_reference", "picture")
    if upload.source.kind != wanted:
        raise _wrong(field, f"{field} holds a {wanted} and the file {upload.id} is a {upload.source.kind}.")
    enter: StageName = created.enter or "i2v"
    return StartingPoint(upload.source.model_copy(update={"enters": enter}), upload_id=upload.id, enter=enter)


def _count(given: Reference) -> int:
    return sum(value is not None for _, value in given)


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
