"""`client.studies`: human studies of which videos are better. The verbs as requests, and both clients' faces of them.

A study is made of completed videos and of files that were sent; `client.studies.send` sends one.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import ValidationError

from ..errors import InvalidArgumentError
from ..schema import File, FileList
from ..schema_numbers import StudyNumbers
from ..schema_studies import (
    CreateStudy,
    DeletedStudy,
    MakeLinks,
    Power,
    RaterLinks,
    Study,
    StudyList,
    StudyResults,
    StudySystem,
)
from . import flows
from .shared import ModelT, Reply, Request, _first_problem
from .uploads import File as Upload
from .uploads import video_of

_ROOT = "/v1/studies"
PURPOSE = "study"  # of files that are sent


def create_request(systems: Sequence[StudySystem | Mapping[str, Any]], options: Mapping[str, Any]) -> Request:
    """`POST /v1/studies`; the same body makes one study, however often it is sent."""
    plain = [one.model_dump() if isinstance(one, StudySystem) else dict(one) for one in systems]
    try:
        body = CreateStudy.model_validate({"systems": plain, **options}).model_dump(exclude_unset=True, mode="json")
    except ValidationError as error:
        raise InvalidArgumentError(_first_problem(error)) from None
    key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return Request("POST", _ROOT, json=body, headers={"idempotency-key": key})


def study_request(study_id: str, below: str = "", **params: str) -> Request:
    return Request("GET", _path(study_id, below), params=params)


def links_request(study_id: str, count: int | None, days: float) -> Request:
    try:
        body = MakeLinks(count=count, days=days).model_dump(exclude_none=True)
    except ValidationError as error:
        raise InvalidArgumentError(_first_problem(error)) from None
    return Request("POST", _path(study_id, "/links"), json=body, safe=False)


def revoke_request(study_id: str, link_id: str) -> Request:
    return Request("DELETE", _path(study_id, f"/links/{quote(link_id, safe='')}"))


def measure_request(study_id: str) -> Request:
    return Request("POST", _path(study_id, "/numbers"))


def delete_request(study_id: str) -> Request:
    return Request("DELETE", _path(study_id), safe=False)


def power_request(difference: float, ties: float, power: float) -> Request:
    asked = {"difference": difference, "ties": ties, "power": power}
    return Request("GET", f"{_ROOT}/power", params={name: f"{value:g}" for name, value in asked.items()})


def to_send(path: Path) -> Upload:
    """A video as it is sent, named by its content and so known again. The name of a local file is never sent."""
    file = video_of(path)
    if not isinstance(file, Upload):
        raise InvalidArgumentError(f"{path} is no file of a video.")
    return replace(file, name=f"{hashlib.sha256(file.data).hexdigest()}.{file.name.rpartition('.')[2]}")


def send_request(path: Path) -> Request:
    """`POST /v1/files` of a video."""
    return Request("POST", "/v1/files", form={"purpose": PURPOSE}, files={"file": to_send(path)})


def sent_request() -> Request:
    return Request("GET", "/v1/files", params={"purpose": PURPOSE})


def _path(study_id: str, below: str = "") -> str:
    if not study_id.strip() or study_id.strip() in (".", ".."):
        raise InvalidArgumentError(f"{study_id!r} is not the id of a study; create() and list() give ids.")
    return f"{_ROOT}/{quote(study_id, safe='')}{below}"


class Studies:
    """The studies of the server."""

    def __init__(self, run: Callable[[Any], Any], context: flows.Context) -> None:
        self._run, self._context = run, context

    def create(self, systems: Sequence[StudySystem | Mapping[str, Any]], **options: Any) -> Study:
        """Freeze the plan of a study of completed videos and sent files. Options: the fields of `CreateStudy`."""
        return self._call(create_request(systems, options), Study)

    def retrieve(self, study_id: str) -> Study:
        """The study as it is now; raters can begin once its `state` is "ready"."""
        return self._call(study_request(study_id), Study)

    def list(self) -> StudyList:
        """The newest studies."""
        return self._call(Request("GET", _ROOT), StudyList)

    def results(self, study_id: str) -> StudyResults:
        """What the votes say."""
        return self._call(study_request(study_id, "/results"), StudyResults)

    def numbers(self, study_id: str) -> StudyNumbers:
        """Automatic numbers of its videos, as far as they were measured."""
        return self._call(study_request(study_id, "/numbers"), StudyNumbers)

    def measure(self, study_id: str) -> StudyNumbers:
        """Have its videos measured in the background; `numbers` says when it is "complete"."""
        return self._call(measure_request(study_id), StudyNumbers)

    def export(self, study_id: str, kind: Literal["jsonl", "csv"] = "jsonl") -> bytes:
        """Every vote, with the ids and seeds of its videos."""
        return self._bytes(study_request(study_id, "/export", format=kind))

    def plot(self, study_id: str, name: Literal["bars", "ranking"] = "bars") -> bytes:
        """The results as a PNG."""
        return self._bytes(study_request(study_id, f"/plots/{name}"))

    def make_links(self, study_id: str, count: int | None = None, *, days: float = 30.0) -> RaterLinks:
        """A link for each of `count` raters, or of all that have none."""
        return self._call(links_request(study_id, count, days), RaterLinks)

    def links(self, study_id: str) -> RaterLinks:
        """All links, and how far each rater is."""
        return self._call(study_request(study_id, "/links"), RaterLinks)

    def revoke(self, study_id: str, link_id: str) -> RaterLinks:
        """End a link; what was voted by it stays."""
        return self._call(revoke_request(study_id, link_id), RaterLinks)

    def delete(self, study_id: str) -> DeletedStudy:
        """Forget a study with its votes."""
        return self._call(delete_request(study_id), DeletedStudy)

    def power(self, difference: float, *, ties: float = 0.2, power: float = 0.8) -> Power:
        """What a study needs to see a difference."""
        return self._call(power_request(difference, ties, power), Power)

    def send(self, path: Path) -> File:
        """Send a video of another system, whose id a study can name."""
        return self._call(send_request(path), File)

    def sent(self) -> FileList:
        """The videos that were sent and are still kept; each is named by the SHA-256 of its content."""
        return self._call(sent_request(), FileList)

    def _call(self, request: Request, model: type[ModelT]) -> ModelT:
        found: ModelT = self._run(flows.call(self._context, request, model))
        return found

    def _bytes(self, request: Request) -> bytes:
        reply: Reply = self._run(flows.send(self._context, request))
        return reply.body


class AsyncStudies:
    """The same for asyncio. See `Studies`."""

    def __init__(self, run: Callable[[Any], Awaitable[Any]], context: flows.Context) -> None:
        self._run, self._context = run, context

    async def create(self, systems: Sequence[StudySystem | Mapping[str, Any]], **options: Any) -> Study:
        """Freeze the plan of a study."""
        return await self._call(create_request(systems, options), Study)

    async def retrieve(self, study_id: str) -> Study:
        """The study as it is now."""
        return await self._call(study_request(study_id), Study)

    async def list(self) -> StudyList:
        """The newest studies."""
        return await self._call(Request("GET", _ROOT), StudyList)

    async def results(self, study_id: str) -> StudyResults:
        """What the votes say."""
        return await self._call(study_request(study_id, "/results"), StudyResults)

    async def numbers(self, study_id: str) -> StudyNumbers:
        """Automatic numbers of its videos."""
        return await self._call(study_request(study_id, "/numbers"), StudyNumbers)

    async def measure(self, study_id: str) -> StudyNumbers:
        """Have its videos measured in the background."""
        return await self._call(measure_request(study_id), StudyNumbers)

    async def export(self, study_id: str, kind: Literal["jsonl", "csv"] = "jsonl") -> bytes:
        """Every vote, with the ids and seeds of its videos."""
        return await self._bytes(study_request(study_id, "/export", format=kind))

    async def plot(self, study_id: str, name: Literal["bars", "ranking"] = "bars") -> bytes:
        """The results as a PNG."""
        return await self._bytes(study_request(study_id, f"/plots/{name}"))

    async def make_links(self, study_id: str, count: int | None = None, *, days: float = 30.0) -> RaterLinks:
        """A link for each of `count` raters, or of all that have none."""
        return await self._call(links_request(study_id, count, days), RaterLinks)

    async def links(self, study_id: str) -> RaterLinks:
        """All links, and how far each rater is."""
        return await self._call(study_request(study_id, "/links"), RaterLinks)

    async def revoke(self, study_id: str, link_id: str) -> RaterLinks:
        """End a link; what was voted by it stays."""
        return await self._call(revoke_request(study_id, link_id), RaterLinks)

    async def delete(self, study_id: str) -> DeletedStudy:
        """Forget a study with its votes."""
        return await self._call(delete_request(study_id), DeletedStudy)

    async def power(self, difference: float, *, ties: float = 0.2, power: float = 0.8) -> Power:
        """What a study needs to see a difference."""
        return await self._call(power_request(difference, ties, power), Power)

    async def send(self, path: Path) -> File:
        """Send a video of another system."""
        return await self._call(send_request(path), File)

    async def sent(self) -> FileList:
        """The videos that were sent and are still kept."""
        return await self._call(sent_request(), FileList)

    async def _call(self, request: Request, model: type[ModelT]) -> ModelT:
        found: ModelT = await self._run(flows.call(self._context, request, model))
        return found

    async def _bytes(self, request: Request) -> bytes:
        reply: Reply = await self._run(flows.send(self._context, request))
        return reply.body
