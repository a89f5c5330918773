"""At which commit of its repository a part is fetched, where its revision is none: "main", another branch, a tag.

The first pull asks the hub, and its answer is recorded in a file in the hub's cache, a line each. From then on every
pull and every load takes that commit, as of a part that is pinned, whatever is pushed; a copy of the file does the same
elsewhere. Where the line of a repository is taken out, the next pull takes what its revision is then.
"""

import os
import re
from pathlib import Path

from stages.base import WeightsError
from stages.presets import Part

_NAME = "magicvideo-commits.txt"
_COMMIT = "[0-9a-f]{40}"


def record_file() -> Path:
    """Where the commits are recorded."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / _NAME


def moves(part: Part) -> bool:
    """Whether a push can change what the part's revision names."""
    return not re.fullmatch(_COMMIT, part.revision)


def commit_of(part: Part) -> str:
    """What to ask the hub or its cache for: the recorded commit of a revision that moves, if there is one.

    Raises:
        WeightsError: the record cannot be read.
    """
    return _recorded().get(_key(part), part.revision) if moves(part) else part.revision


def settle(part: Part) -> str:
    """The same, after the hub was asked, once, for what nothing is recorded of.

    Raises:
        WeightsError: the record cannot be read.
        Exception: those of the hub.
    """
    from huggingface_hub import HfApi

    if moves(part) and commit_of(part) == part.revision:
        keep(part, str(HfApi().model_info(part.source, revision=part.revision).sha))
    return commit_of(part)


def keep(part: Part, commit: str) -> None:
    """Record the commit, if the part's revision moves and nothing is recorded of it."""
    if not moves(part) or _key(part) in (known := _recorded()):
        return
    file = record_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(f".{os.getpid()}")
    beside.write_text("".join(f"{key} {own}\n" for key, own in sorted({**known, _key(part): commit}.items())))
    beside.replace(file)


def _key(part: Part) -> str:
    return f"{part.source}@{part.revision}"


def _recorded() -> dict[str, str]:
    file = record_file()
    known: dict[str, str] = {}
    for line in file.read_text().splitlines() if file.is_file() else ():
        if not re.fullmatch(rf"\S+ {_COMMIT}", line):
            raise WeightsError(
                f'{file} says which commits were fetched, as in "org/name@main {"0" * 40}", and has the line {line!r}; '
                f"mend it or take it out."
            )
        key, commit = line.split()
        known[key] = commit
    return known
