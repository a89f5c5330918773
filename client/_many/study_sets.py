"""The videos of a study's systems, from what each is said to be: made as ordinary jobs, sent from a folder, or there.

    preset=tiny,steps=14    a video of each prompt and seed is made with these options
    folder/                 finished mp4s of any other system: NAME.mp4 pairs with NAME.mp4, or with a prompt as
                            LINE.mp4 and LINE-TAKE.mp4, counted from 1
    ids.txt                 earlier jobs, an id on each line; prompts are theirs

Jobs have keys of their own, and files are known by their content: run again, the same words make and send nothing
twice, but a job that failed is made anew.
"""

import hashlib
import json
import re
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._core.job_options import CreateOptions
from .._core.studies import create_request, links_request, to_send
from .._shell.texts import read_lines, read_text
from ..errors import BadRequestError, InvalidArgumentError
from ..schema_studies import StudySystem, StudyVideo

if TYPE_CHECKING:
    from .._core.client import Client

AT_ONCE = 8  # unfinished jobs
MAX_NAME = 80  # as the server has it
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


def understand(said: Sequence[str]) -> list[Wanted]:
    """What each system is; two folders of one name are called by all of their paths.

    Raises:
        InvalidArgumentError: one is neither options, nor a folder, nor a file of ids, or two are the same.
    """
    found = [_understood(one) for one in said]
    names = Counter(one.name for one in found)
    found = [
        replace(one, name=text[-MAX_NAME:]) if names[one.name] > 1 else one
        for one, text in zip(found, said, strict=True)
    ]
    if twice := [name for name, count in Counter(one.name for one in found).items() if count > 1]:
        raise InvalidArgumentError(f"{twice[0]!r} is named twice; compare it with another set.")
    return found


def _understood(said: str) -> Wanted:
    path = Path(said)
    if path.is_dir():
        return Wanted((path.name or said)[:MAX_NAME], folder=path)
    if path.is_file():
        ids = tuple(line.strip() for _, line in read_lines(path, InvalidArgumentError))
        if not ids:
            raise InvalidArgumentError(f"{path} names no video; write the id of one on each line.")
        return Wanted(path.stem[:MAX_NAME], ids=ids)
    if "=" not in said:
        raise InvalidArgumentError(
            f"{said!r} is no folder of mp4s, no file with ids of videos, and no options like preset=tiny,steps=14."
        )
    options = [_option(part) for part in said.split(",")]
    if twice := [name for name, count in Counter(name for name, _ in options).items() if count > 1]:
        raise InvalidArgumentError(f"{said!r} says {twice[0]} twice; say it once.")
    return Wanted(said[:MAX_NAME], options=dict(options))


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


def judge(wanted: Sequence[Wanted], options: Mapping[str, Any], days: float) -> None:
    """Refuse what the server would refuse of the study, before a video is made.

    Raises:
        InvalidArgumentError: a number or a text of `options`, or `days`, is none that may be.
    """
    create_request([{"name": one.name, "videos": [{"prompt": "any", "video_id": "any"}]} for one in wanted], options)
    links_request("any", None, days)


def obtain(
    client: "Client", wanted: Sequence[Wanted], prompts: Sequence[str], seeds: int, first_seed: int, told: Told
) -> list[StudySystem]:
    """All systems with their videos, which are looked up, sent, or made; whether they pair is judged before.

    Raises:
        InvalidArgumentError: the sets do not pair, a folder does not fit the prompts, or prompts are missing.
        VideoFailedError: a job failed.
    """
    asked = {one.name: one.options for one in wanted if one.options is not None}
    if asked and not prompts:
        raise InvalidArgumentError("--prompts is missing: a file with a prompt on each line, of which videos are made.")
    files = {one.name: _in_folder(one.folder, prompts) for one in wanted if one.folder is not None}
    videos = {one.name: _earlier(client, one.ids) for one in wanted if one.ids}
    items = {name: [(prompt, take) for prompt in prompts for take in range(seeds)] for name in asked}
    items |= {name: [(prompt, take) for _, prompt, take in own] for name, own in files.items()}
    items |= {name: [(video.prompt, video.take) for video in own] for name, own in videos.items()}
    _judge_items({one.name: set(items[one.name]) for one in wanted})
    firsts = {  # options that the server refuses are refused now
        name: _job(client, options, prompts[0], first_seed) for name, options in asked.items()
    }
    sent = {file.filename: file.id for file in client.studies.sent().data} if files else {}
    for name, own in files.items():
        videos[name] = [
            StudyVideo(prompt=prompt, take=take, file_id=_sent(client, path, sent, told)) for path, prompt, take in own
        ]
    for name, options in asked.items():
        own_seeds = range(first_seed, first_seed + seeds)
        videos[name] = _made(client, options, prompts, own_seeds, told, firsts[name])
    return [StudySystem(name=one.name, videos=videos[one.name]) for one in wanted]


def _judge_items(items: Mapping[str, set[tuple[str, int]]]) -> None:
    for whole, lacks in permutations(items, 2):
        if missing := sorted(items[whole] - items[lacks]):
            prompt, take = missing[0]
            raise InvalidArgumentError(
                f"The sets do not pair: {lacks!r} lacks {len(missing)} of the {len(items[whole])} videos of {whole!r}, "
                f"the first of them number {take + 1} of {prompt!r}; give both the same prompts and as many of each."
            )


def _sent(client: "Client", path: Path, sent: dict[str, str], told: Told) -> str:
    """The id of a file that the server has decoded, now or before: those in `sent`, by name."""
    name = to_send(path).name
    if name not in sent:
        told(f"sends {path}")
        try:
            sent[name] = client.studies.send(path).id
        except BadRequestError as error:
            raise InvalidArgumentError(f"{path} is no video that the server can decode ({error})") from error
    return sent[name]


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
    client: "Client", options: dict[str, Any], prompts: Sequence[str], seeds: range, told: Told, first: str
) -> list[StudyVideo]:
    """A job for each prompt and seed, some at once; the first of them is there."""
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
            began = bool(waiting or videos)
            waiting.append((_job(client, options, prompt, seed) if began else first, prompt, take))
    while waiting:
        finish()
    return videos


def _job(client: "Client", options: dict[str, Any], prompt: str, seed: int) -> str:
    """The id of a new job, or of that of an earlier run; one that failed there is made anew."""
    said, failed = json.dumps([options, prompt, seed], sort_keys=True), ""
    while True:
        key = f"study-{hashlib.sha256((said + failed).encode()).hexdigest()}"
        video = client.videos.create(prompt, seed=seed, idempotency_key=key, **options)
        if video.status != "failed":
            return video.id
        failed = video.id


def _earlier(client: "Client", ids: Sequence[str]) -> list[StudyVideo]:
    takes = Counter[str]()
    videos = []
    for video_id in ids:
        prompt = client.videos.retrieve(video_id).prompt
        videos.append(StudyVideo(prompt=prompt, take=takes[prompt], video_id=video_id))
        takes[prompt] += 1
    return videos
