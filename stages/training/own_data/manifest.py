"""What a user trains on: a JSONL file that names clips and pictures with captions, or pairs of which one is better.

    {"file": "fox.mp4", "caption": "a fox in the snow", "start": 1.5, "end": 6}      start and end in seconds, optional
    {"better": "a.png", "worse": "b.png", "caption": "a fox in the snow"}            for preferences

Files are named relative to the manifest. Every line is judged before anything is loaded; a message names the line, what
stands there and what belongs there. Knows nothing of pixels.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from client._shell.outputs import is_stdout, written
from client._shell.texts import is_hidden, read_lines, read_text
from stages.base import InputError

MOVING = (".mp4", ".webm", ".mov", ".gif")
STILL = (".png", ".jpg", ".jpeg")
EITHER = (".webp",)  # a picture or an animation
KINDS = (*MOVING, *STILL, *EITHER)

_EntryKeys = {"file", "caption", "start", "end"}
_PairKeys = {"better", "worse", "caption"}


@dataclass(frozen=True)
class Entry:
    """One clip or picture."""

    file: Path
    caption: str
    start_s: float = 0.0
    end_s: float | None = None  # None: to the end of the file
    where: str = ""  # the manifest's line, for messages


@dataclass(frozen=True)
class Pair:
    """Two pictures of one caption."""

    better: Path
    worse: Path
    caption: str


LineT = TypeVar("LineT", Entry, Pair)


def load_manifest(path: Path) -> tuple[Entry, ...]:
    """Raises: InputError, naming the line."""
    return _load(path, _entry)


def load_pairs(path: Path) -> tuple[Pair, ...]:
    """Raises: InputError, naming the line."""
    return _load(path, _pair)


def load_prompts(path: Path) -> tuple[str, ...]:
    """The captions of a manifest (`.jsonl`), or the lines of any other text file.

    Raises:
        InputError: there is none.
    """
    if path.suffix == ".jsonl":
        return tuple(entry.caption for entry in load_manifest(path))
    prompts = tuple(line.strip() for _, line in read_lines(path, InputError))
    if not prompts:
        raise InputError(f"{path} holds no prompt; write one a line.")
    return prompts


def write_manifest(folder: Path, out: Path) -> tuple[int, tuple[Path, ...]]:
    """List every clip and picture under `folder` that has its caption beside it in a .txt file of the same name.

    Gives how many were written, and the files without a caption, which are left out.

    Raises:
        InputError: there is nothing to list.
    """
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}; name the one that holds the clips.")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in KINDS and not is_hidden(p, folder))
    home = Path.cwd() if is_stdout(out) else out.resolve().parent  # names in it begin there
    captions = {path: path.with_suffix(".txt") for path in found}
    lines, bare = [], []
    for path, text in captions.items():
        caption = " ".join(read_text(text, InputError).split()) if text.is_file() else ""
        if not caption:
            bare.append(path)
            continue
        name = Path(os.path.relpath(path.resolve(), home)).as_posix()
        lines.append(json.dumps({"file": name, "caption": caption}, ensure_ascii=False))
    if not lines:
        raise InputError(
            f"{folder} holds {len(found)} clips or pictures ({', '.join(KINDS)}), {len(bare)} of them without a "
            f"caption; put a .txt file of the same name beside each."
        )
    with written(out) as draft:
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines), tuple(bare)


def _load(path: Path, parse: Callable[[dict[str, Any], Path, str], LineT]) -> tuple[LineT, ...]:
    found = tuple(parse(fields, path.parent, where) for where, fields in _objects(path))
    if not found:
        raise InputError(f"{path} holds no line; write one JSON object a line.")
    return found


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in read_lines(path, InputError):
        where = f"{path} line {number}"
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where} is not JSON ({error.msg}: {line[:60]!r}); write one object a line.") from error
        if not isinstance(fields, dict):
            raise InputError(f'{where} is {line[:60]!r}; write an object like {{"file": "a.mp4", "caption": "..."}}.')
        yield where, fields


def _entry(fields: dict[str, Any], root: Path, where: str) -> Entry:
    _check_keys(fields, _EntryKeys, ("file", "caption"), where)
    file = _file(fields["file"], "file", root, where)
    start, end = (_seconds(fields.get(key), key, where) for key in ("start", "end"))
    if file.suffix.lower() in STILL and (start is not None or end is not None):
        raise InputError(f"{where} gives {file.name} a start or an end; it is a picture, leave both out.")
    if end is not None and end <= (start or 0.0):
        raise InputError(f"{where} ends at {end:g} s and starts at {start or 0.0:g} s; the end comes later.")
    return Entry(file, _text(fields["caption"], where), start or 0.0, end, where)


def _pair(fields: dict[str, Any], root: Path, where: str) -> Pair:
    _check_keys(fields, _PairKeys, ("better", "worse", "caption"), where)
    better, worse = (_file(fields[key], key, root, where) for key in ("better", "worse"))
    for key, file in (("better", better), ("worse", worse)):
        if file.suffix.lower() in MOVING:
            raise InputError(
                f"{where} has {file.name} as {key!r}; pairs are pictures, one of: {', '.join(STILL + EITHER)}."
            )
    if better == worse:
        raise InputError(f"{where} names {better.name} as better and as worse; a pair needs two pictures.")
    return Pair(better, worse, _text(fields["caption"], where))


def _check_keys(fields: dict[str, Any], known: set[str], needed: Sequence[str], where: str) -> None:
    if missing := [key for key in needed if key not in fields]:
        raise InputError(f"{where} has no {missing[0]!r}, only {', '.join(sorted(fields)) or 'nothing'}; add it.")
    if unknown := sorted(set(fields) - known):
        raise InputError(f"{where} has {unknown[0]!r}; the fields are {', '.join(sorted(known))}.")


def _file(value: Any, key: str, root: Path, where: str) -> Path:
    if not isinstance(value, str) or not value:
        raise InputError(f"{where} has {value!r} as {key!r}; it is the name of a file.")
    path = root / Path(value).expanduser()
    if path.suffix.lower() not in KINDS:
        raise InputError(f"{where} names {value!r}; its name must end with one of: {', '.join(KINDS)}.")
    if not path.is_file():
        raise InputError(f"{where} names {value!r}, and there is no file {path}; names are relative to the manifest.")
    return path


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} has {value!r} as 'caption'; say in a few words what is seen.")
    return value.strip()


def _seconds(value: Any, key: str, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise InputError(f"{where} has {value!r} as {key!r}; it is a number of seconds, 0 or more.")
    return float(value)
