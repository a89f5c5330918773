"""The videos of a study's systems, from what each is said to be: made as ordinary jobs, sent from a folder, or there.

    preset=tiny,steps=14    a video of each prompt and seed is made with these options
    folder/                 finished mp4s of any other system: NAME.mp4 pairs with NAME.mp4, or with a prompt as
                            LINE.mp4 and LINE-TAKE.mp4, counted from 1
    ids.txt                 earlier jobs, an id on each line; prompts are theirs

Jobs have keys of their own: run again, the same words make nothing twice.
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._core.job_options import CreateOptions
from .._shell.texts import read_lines, read_text
from ..errors import BadRequestError, InvalidArgumentError
from ..schema_studies import StudySystem, StudyVideo

if TYPE_CHECKING:
    from .._core.client import Client

AT_ONCE = 8  # unfinished jobs
_RENAMED = {"preset": "model"}
_WHOLE = frozenset({"steps", "factor", "priority"})
_NUMBERS = frozenset({"guidance"})
_OPTIONS = {*_WHOLE, *_NUMBERS, "model", "size", "seconds", "negative_prompt", "until"} & set(
    CreateOptions.__optional_keys__
)
_PLACE = re.compile(r"0*(\d{1,6})(?:-0*(\d{1,6}))?")

Told = Callable[[str], object]


@dataclass(frozen=True)
class Wanted:
    """One system, as it was said."""

    name: str
    options: dict[str, Any] | None = None
    folder: Path | None = None
    ids: tuple[str, ...] = ()


def read_prompts(path: Path) -> list[str]:
    """A prompt on each line.

    Raises:
        InvalidArgumentError: it cannot be read, is empty, or has an empty line or a prompt twice.
    """
    lines = read_text(path, InvalidArgumentError).removesuffix("\n").split("\n")
    if empty := [number for number, line in enumerate(lines, start=1) if not line.strip()]:
        raise InvalidArgumentError(f"{path} has no prompt on line {empty[0]}; write one there, or take the line away.")
    prompts = [line.strip() for line in lines]
    if twice := [prompt for prompt, count in Counter(prompts).items() if count > 1]:
        raise InvalidArgumentError(f"{path} has {twice[0]!r} twice; --seeds makes several videos of a prompt.")
    return prompts


def understand(said: str) -> Wanted:
    """What a system is.

    Raises:
        InvalidArgumentError: it is neither options, nor a folder, nor a file of ids.
    """
    path = Path(said)
    if path.is_dir():
        return Wanted(path.name or said, folder=path)
    if path.is_file():
        ids = tuple(line.strip() for _, line in read_lines(path, InvalidArgumentError))
        if not ids:
            raise InvalidArgumentError(f"{path} names no video; write the id of one on each line.")
        return Wanted(path.stem, ids=ids)
    if "=" not in said:
        raise InvalidArgumentError(
            f"{said!r} is no folder of mp4s, no file with ids of videos, and no options like preset=tiny,steps=14."
        )
    return Wanted(said, options=dict(_option(part) for part in said.split(",")))


def _option(part: str) -> tuple[str, Any]:
    name, equals, text = part.partition("=")
    name = _RENAMED.get(name.strip(), name.strip()).replace("-", "_")
    if not equals or not text.strip() or name not in _OPTIONS:
        known = ", ".join(sorted(_OPTIONS - {"model"}))
        raise InvalidArgumentError(f"{part!r} is no option of a set; write NAME=VALUE with preset or {known}.")
    try:
        return name, int(text) if name in _WHOLE else float(text) if name in _NUMBERS else text.strip()
    except ValueError:
        raise InvalidArgumentError(f"{part!r} needs a number, like {name}=14.") from None


def obtain(
    client: "Client", wanted: Sequence[Wanted], prompts: Sequence[str], seeds: int, first_seed: int, told: Told
) -> list[StudySystem]:
    """All systems with their videos, which are made, sent or looked up.

    Raises:
        InvalidArgumentError: a folder does not fit the prompts, or there are none where they are needed.
        VideoFailedError: a job failed.
    """
    folders = [one for one in wanted if one.folder is not None]
    if not prompts and any(one.options is not None for one in wanted):
        raise InvalidArgumentError("--prompts is missing: a file with a prompt on each line, of which videos are made.")
    named = {one.name: _in_folder(one.folder, prompts) for one in folders if one.folder is not None}
    made = []
    for one in wanted:
        if one.folder is not None:
            videos = []
            for path, prompt, take in named[one.name]:
                told(f"sends {path}")
                videos.append(StudyVideo(prompt=prompt, take=take, file_id=_sent(client, path)))
        elif one.options is not None:
            videos = _made(client, one.options, prompts, range(first_seed, first_seed + seeds), told)
        else:
            videos = _earlier(client, one.ids)
        made.append(StudySystem(name=one.name, videos=videos))
    return made


def _sent(client: "Client", path: Path) -> str:
    """The id of a file that the server has decoded."""
    try:
        return client.studies.send(path).id
    except BadRequestError as error:
        raise InvalidArgumentError(f"{path} is no video that the server can decode ({error})") from error


def _in_folder(folder: Path, prompts: Sequence[str]) -> list[tuple[Path, str, int]]:
    """Its mp4s, with the prompt and take of each."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".mp4" and path.name[0] != ".")
    if not paths:
        raise InvalidArgumentError(f"{folder} holds no mp4; name the folder that does.")
    if not prompts:
        return [(path, unicodedata.normalize("NFC", path.stem), 0) for path in paths]  # as macOS has it, and others
    found = []
    for path in paths:
        place = _PLACE.fullmatch(path.stem)
        line, take = (int(place[1]), int(place[2] or 1)) if place else (0, 0)
        if not 1 <= line <= len(prompts) or take < 1:
            raise InvalidArgumentError(
                f"{path} does not say its prompt; name it LINE.mp4 or LINE-TAKE.mp4 by the {len(prompts)} lines of the "
                "prompts, counted from 1."
            )
        found.append((path, prompts[line - 1], take - 1))
    return found


def _made(
    client: "Client", options: dict[str, Any], prompts: Sequence[str], seeds: range, told: Told
) -> list[StudyVideo]:
    """A job for each prompt and seed, some at once."""
    videos, waiting = [], deque[tuple[str, str, int]]()
    total = len(prompts) * len(seeds)

    def finish() -> None:
        video_id, prompt, take = waiting.popleft()
        client.videos.wait(video_id)
        videos.append(StudyVideo(prompt=prompt, take=take, video_id=video_id))
        told(f"{len(videos)} of {total} videos are made")

    for prompt in prompts:
        for take, seed in enumerate(seeds):
            if len(waiting) >= AT_ONCE:
                finish()
            said = json.dumps([options, prompt, seed], sort_keys=True)
            key = f"study-{hashlib.sha256(said.encode()).hexdigest()}"
            video = client.videos.create(prompt, seed=seed, idempotency_key=key, **options)
            waiting.append((video.id, prompt, take))
    while waiting:
        finish()
    return videos


def _earlier(client: "Client", ids: Sequence[str]) -> list[StudyVideo]:
    takes = Counter[str]()
    videos = []
    for video_id in ids:
        prompt = client.videos.retrieve(video_id).prompt
        videos.append(StudyVideo(prompt=prompt, take=takes[prompt], video_id=video_id))
        takes[prompt] += 1
    return videos
