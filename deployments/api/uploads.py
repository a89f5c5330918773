"""Files that are sent once, by whose ids several jobs may begin: the routes of `/v1/files`, in OpenAI's shape.

    POST   /v1/files               a form with `file`: a picture or a video, decoded whole before the answer
    GET    /v1/files               pages of them
    GET    /v1/files/{id}          one
    GET    /v1/files/{id}/content  its bytes
    DELETE /v1/files/{id}          forgets it; jobs that began from it keep its bytes

They go by themselves after `files.keep_s`, or sooner where `expires_after` says so.
"""

import re
import uuid
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from client.schema import DeletedFile, File, FileList, Order
from deployments.api.answers import json_answer
from deployments.api.bodies import read_form
from deployments.api.description import Absent, binary, errors, file_body
from deployments.api.gate import Tenant
from deployments.errors import InvalidRequestError, UploadNotFoundError
from deployments.files.store import ArtifactStore
from deployments.intake.services import Services
from deployments.intake.sources import MEDIA_TYPES, inspect, keep
from deployments.journal.sweeps import Sweeps
from deployments.settings.application import IngressArgs
from deployments.tenants.uploads import NewUpload, Upload

MAX_PAGE = 10_000  # as OpenAI's
LEAST_KEPT_S, MOST_KEPT_S = 60, 10**9
_MAX_NAME_CHARS = 255
_FIELDS = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")
_VIDEO = re.compile(rb"....ftyp|\x1a\x45\xdf\xa3", re.DOTALL)  # MP4, MOV; WebM, Matroska
_After = Annotated[str | Absent, Query(description="The last id of the page before.")]
_Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Files a page.")]
_Purpose = Annotated[str | Absent, Query(description="Those of one purpose alone.")]


def add_file_routes(app: FastAPI, services: Services) -> None:
    """Put them on the application."""
    args, book = services.args, services.files

    @app.post(
        "/v1/files",
        summary="Send a picture or a video by whose id several jobs may begin",
        response_model=File,
        responses=errors(400, 403, 408, 413),
        openapi_extra=file_body(),
    )
    async def create_file(request: Request, tenant: Tenant) -> Response:
        """Kept for a time, and then forgotten; the jobs that began from it keep its bytes."""
        with services.uploads.place(tenant):
            file, fields = await _read(request, args.ingress)
            keep_s = _kept_s(fields, args.files.keep_s)
            data = await services.at_decoder.run(file.file.read)
            file.file.close()
            new = await services.at_decoder.run(
                _judged, data, tenant, file.filename or "", fields, services.store, args.ingress
            )
        try:
            limits = args.files
            upload = await services.at_journal.run(
                book.add, new, keep_s=keep_s, max_files=limits.max_files, max_bytes=limits.max_bytes
            )
        except BaseException:
            await services.at_store.run(services.store.delete, new.source.key)
            raise
        return json_answer(_file(upload))

    @app.get("/v1/files", summary="A page of files", response_model=FileList, responses=errors(400, 404))
    async def list_files(
        tenant: Tenant,
        after: _After = None,
        limit: _Limit = MAX_PAGE,
        order: Annotated[Order, Query(description="By age.")] = "desc",
        purpose: _Purpose = None,
    ) -> Response:
        """The tenant's own, the newest first. While `has_more`, the next page is behind `after=last_id`."""
        try:
            found, more = await services.at_journal.run(
                book.page, tenant=tenant, after=after, limit=limit, order=order, purpose=purpose
            )
        except UploadNotFoundError as error:
            error.param = "after"
            raise
        files = [_file(upload) for upload in found]
        first, last = (files[0].id, files[-1].id) if files else (None, None)
        return json_answer(FileList(data=files, first_id=first, last_id=last, has_more=more))

    @app.get("/v1/files/{file_id}", summary="What a file is", response_model=File, responses=errors(404))
    async def retrieve_file(file_id: str, tenant: Tenant) -> Response:
        """Kind, size and frames, as they were found when it came."""
        return json_answer(_file(await services.at_journal.run(book.get, file_id, tenant=tenant)))

    @app.get(
        "/v1/files/{file_id}/content",
        summary="The bytes of a file",
        response_class=Response,
        responses={200: binary("The file", *MEDIA_TYPES.values()), **errors(404)},
    )
    async def download_file(file_id: str, tenant: Tenant) -> Response:
        """As they were sent."""
        upload = await services.at_journal.run(book.get, file_id, tenant=tenant)
        key, suffix = upload.source.key, upload.source.key.rpartition(".")[2]
        if not await services.at_store.run(services.store.exists, key):
            raise UploadNotFoundError(file_id)
        headers = {
            "Content-Length": str(upload.bytes),
            "Content-Disposition": f'attachment; filename="{upload.id}.{suffix}"',
        }
        pieces = services.at_store.iterate(services.store.read(key, 0, upload.bytes))
        return StreamingResponse(pieces, headers=headers, media_type=MEDIA_TYPES[suffix])

    @app.delete("/v1/files/{file_id}", summary="Forget a file", response_model=DeletedFile, responses=errors(404))
    async def delete_file(file_id: str, tenant: Tenant) -> Response:
        """Jobs that began from it go on, and keep its bytes."""
        unused = await services.at_journal.run(book.delete, file_id, tenant=tenant)
        await services.at_store.run(Sweeps(services.journal.database).erase, services.store.delete, unused)
        return json_answer(DeletedFile(id=file_id))


async def _read(request: Request, limits: IngressArgs) -> tuple[UploadFile, dict[str, str]]:
    """The file of the form, and its other fields."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise InvalidRequestError(
            f"The body's Content-Type is {kind or 'missing'!r}; send multipart/form-data with a field file.",
            param="Content-Type",
            code="unsupported_content_type",
        )
    parts = await read_form(request, limits)
    names = [name for name, _ in parts]
    for name in names:
        if name not in _FIELDS:
            raise _wrong(
                name[:80], f"Unknown field {name[:80]!r}; the fields are {', '.join(_FIELDS)}.", "unknown_field"
            )
        if names.count(name) > 1:
            raise _wrong(name, f"Field {name!r} is given twice; send it once.", "repeated_field")
    files = {name: part for name, part in parts if isinstance(part, UploadFile)}
    if set(files) != {"file"}:
        raise _wrong("file", "The field file must be a file, and the only one; send a picture or a video in it.")
    return files["file"], {name: part for name, part in parts if isinstance(part, str)}


def _kept_s(fields: dict[str, str], most_s: float | None) -> float | None:
    """How long the file stays: as `expires_after` says, within what the operator keeps."""
    text = fields.get("expires_after[seconds]")
    if text is None:
        return most_s
    limit_s = MOST_KEPT_S if most_s is None else most_s
    if not text.isdecimal() or len(text) > 12 or not LEAST_KEPT_S <= int(text) <= limit_s:
        raise _wrong(
            "expires_after",
            f"expires_after is {text[:80]!r} seconds; it must be {LEAST_KEPT_S} to {limit_s:.0f}, for which this "
            "server keeps files.",
        )
    return float(text)


def _judged(
    data: bytes, tenant: str, filename: str, fields: dict[str, str], store: ArtifactStore, limits: IngressArgs
) -> NewUpload:
    """The file, decoded whole and put into the store."""
    if not data:
        raise _wrong("file", "The field file is empty; send a picture or a video.")
    kind = "video" if _VIDEO.match(data) else "picture"
    facts = inspect(data, kind, "file", limits)
    return NewUpload(
        id=f"file-{uuid.uuid4().hex}",
        tenant=tenant,
        bytes=len(data),
        filename=filename[:_MAX_NAME_CHARS] or f"{kind}.{facts.suffix}",
        purpose=fields.get("purpose", "user_data")[:80],
        source=keep(data, facts, store, "i2v"),
    )


def _file(upload: Upload) -> File:
    source = upload.source
    return File(
        id=upload.id,
        bytes=upload.bytes,
        created_at=int(upload.created_at),
        expires_at=None if upload.expires_at is None else int(upload.expires_at),
        filename=upload.filename,
        purpose=upload.purpose,
        kind=source.kind,
        size=f"{source.width}x{source.height}",
        frames=source.frames,
    )


def _wrong(field: str, message: str, code: str = "invalid_field") -> InvalidRequestError:
    return InvalidRequestError(message, param=field, code=code)
