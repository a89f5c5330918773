"""The file of a batch: one JSON object a line, with the fields of `POST /v1/videos` and, if wanted, a `name`.

Takes text, gives `Line`s, or one sentence for every line that cannot be used, before anything is sent. A line without a
name is called after its prompt and a digest of its fields, so that it keeps its name when the file is sorted or grows.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .._core.job_options import CreateOptions
from .._core.requests import create_request
from .._core.shared import _first_problem
from .._shell.texts import read_lines as read_lines_of
from ..errors import InvalidArgumentError
from ..schema import CreateVideo, Reference

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FIELDS = ("name", *CreateVideo.model_fields)


@dataclass(frozen=True)
class Line:
    """One job of a batch."""

    number: int
    name: str
    prompt: str
    options: CreateOptions
    digest: str  # of the fields as they stand in the file

    @property
    def file(self) -> str:
        """What its video is called."""
        return f"{self.name}.png" if self.options.get("until") == "t2i" else f"{self.name}.mp4"


def read_lines(path: Path) -> tuple[list[Line], list[str]]:
    """The lines of a file, and what is wrong with it. Paths in a line begin in the file's own folder.

    Raises:
        InvalidArgumentError: it cannot be read.
    """
    lines: list[Line] = []
    problems: list[str] = []
    first: dict[str, int] = {}
    for number, raw in read_lines_of(path, InvalidArgumentError):
        try:
            line = _line(number, raw, path.parent, first)
            if line.name.casefold() in first:
                raise InvalidArgumentError(
                    f"name {line.name!r} is line {first[line.name.casefold()]}'s; choose another."
                )
        except InvalidArgumentError as error:
            problems.append(f"{path}:{number}: {error}")
        else:
            first[line.name.casefold()] = number
            lines.append(line)
    if not lines and not problems:
        problems.append(f'{path} has no line; write some like {{"prompt": "a fox", "name": "fox"}}.')
    return lines, problems


def _line(number: int, raw: str, folder: Path, taken: dict[str, int]) -> Line:
    fields = _fields(raw)
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]
    name, prompt = fields.pop("name", None), fields.pop("prompt")
    options: Any = {key: _value(key, value, folder) for key, value in fields.items()}
    create_request(prompt, options)  # says what is wrong with it
    return Line(
        number, _checked(name) if name is not None else _own_name(prompt, digest, taken), prompt, options, digest
    )


def _fields(raw: str) -> dict[str, Any]:
    try:
        fields = json.loads(raw)
    except ValueError as error:
        raise InvalidArgumentError(f"not JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise InvalidArgumentError(f'not a JSON object like {{"prompt": "a fox"}}: {raw.strip()[:40]}')
    unknown = sorted(set(fields) - set(_FIELDS))
    if unknown:
        raise InvalidArgumentError(f"unknown field {unknown[0]!r}; the fields are {', '.join(_FIELDS)}.")
    if not isinstance(fields.get("prompt"), str) or not fields["prompt"].strip():
        raise InvalidArgumentError('"prompt" is missing or empty; say what the video shows.')
    return fields


def _value(key: str, value: Any, folder: Path) -> Any:
    if key not in ("input_reference", "input_video"):
        return value
    if isinstance(value, dict):
        try:
            return Reference.model_validate(value)
        except ValidationError as error:
            raise InvalidArgumentError(f"{key}: {_first_problem(error)}") from None
    if isinstance(value, str) and not value.startswith("data:"):
        here = folder / value
        return here if key == "input_reference" or here.is_file() else value
    return value


def _checked(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"name is {name!r}; it names the file, so it must be 1 to 100 of A-Z a-z 0-9 . _ - and begin with a "
            "letter or a digit."
        )
    return name


def _own_name(prompt: str, digest: str, taken: dict[str, int]) -> str:
    """Equal lines are as many jobs: the second is called `...-2`."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].strip("-")
    name = "-".join(part for part in (words, digest[:8]) if part)
    return next(given for given in _numbered(name) if given.casefold() not in taken)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1
