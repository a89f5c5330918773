"""From a job to its files: start it, follow it stage by stage, fetch what it gives as soon as it gives it.

Takes how the job is started and what is wanted of it; gives files, and what a command prints. A job that pauses is
reported with how to go on. Ctrl-C is `interrupt.py`'s.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .._shell.terminal import tell
from .interrupt import stopped
from .options import Wishes
from .outcome import connect, print_json, reporting

if TYPE_CHECKING:
    from .._core.client import Client
    from ..schema import Variant, Video
    from .watching import Watcher

_SUFFIXES: dict["Variant", str] = {
    "video": ".mp4",
    "thumbnail": "-thumbnail.webp",
    "spritesheet": "-spritesheet.png",
    "keyframe": "-keyframe.png",
    "preview": "-preview.mp4",
}
VIDEOS, PICTURES, OTHERS = frozenset({".mp4", ".m4v"}), frozenset({".png", ".webp"}), {".gif", ".webm", ".mov", ".jpg"}
_NAMES = {VIDEOS: "an mp4", PICTURES: "a picture (PNG; WebP of a thumbnail)"}


def deliver(
    start: Callable[["Client"], "Video"], wishes: Wishes, keyframe: Path | None = None, until: str | None = None
) -> None:
    """Start a job, or take one that runs, and bring its files to the disk."""
    job: list[str] = []
    with reporting(wishes.as_json, lambda: stopped(job, wishes.output, wishes)):
        from .watching import watcher

        picture = until == "t2i"
        check_outputs(wishes.output, keyframe, wishes.contact_sheet, picture=picture, as_json=wishes.as_json)
        with connect(wishes) as client, watcher(quiet=wishes.quiet) as watch:
            video = start(client)
            job.append(video.id)
            pictures = Pictures(client, keyframe, watch)
            path = None
            if video.note:
                watch.say(video.note)
            if not wishes.detach:
                video = follow(client, video, watch, pictures)
                path = None if video.paused_after else _fetch(client, video, wishes, watch)
        err = taken(wishes.output, keyframe, wishes.contact_sheet)
        _tell(video, path, wishes, None if keyframe is None else pictures.paths, err)


def follow(client: "Client", video: "Video", watch: "Watcher", pictures: "Pictures") -> "Video":
    """The job once it is completed or pauses."""

    def on_progress(state: "Video") -> None:
        watch.on_video(state)
        pictures.look(state)

    watch.on_video(video)
    video = client.videos.wait(video.id, on_progress=on_progress)
    pictures.last_look(video)
    return video


class Pictures:
    """T2I's pictures, fetched as soon as they are there: one under the name given, several under numbered ones."""

    def __init__(self, client: "Client", wanted: Path | None, watch: "Watcher") -> None:
        self.paths: list[Path] = []
        self._client, self._wanted, self._watch = client, wanted, watch

    def look(self, video: "Video") -> None:
        """Fetch them if their stage is done; one that is not kept yet is there at the next look."""
        from ..errors import ConflictError

        if self._wanted is None or not any(s.name == "t2i" and s.status == "completed" for s in video.stages):
            return
        while len(self.paths) < video.candidates:
            try:
                self._fetch(video, len(self.paths))
            except ConflictError:
                return

    def last_look(self, video: "Video") -> None:
        """The same once the job has ended or pauses: what is not there now never will be."""
        self.look(video)
        if self._wanted is not None and len(self.paths) < video.candidates:
            self._watch.say(f"The server keeps no picture of T2I for {video.id}, so {self._wanted} is not written.")

    def _fetch(self, video: "Video", number: int) -> None:
        from .._shell.outputs import numbered

        assert self._wanted is not None
        target, candidate = self._wanted, None
        if video.candidates > 1:
            target, candidate = numbered(target, number), number
        self._client.videos.download(video.id, target, variant="keyframe", candidate=candidate)
        self.paths.append(target)
        self._watch.say(f"keyframe: {target}")


def check_outputs(output: Path | None, *pictures: Path | None, picture: bool = False, as_json: bool = False) -> None:
    """Refuse what cannot be written before anything is computed for it.

    Raises:
        OutputError: as `judge_output`; two are the same place; or a name says that another format is in the file.
    """
    from .._shell.outputs import OutputError, is_stdout, judge_output, lead_to_one

    named = [file for file in (output, *pictures) if file is not None]
    for number, file in enumerate(named):
        judge_output(file)
        if any(lead_to_one(file, other) for other in named[:number]):
            raise OutputError(f"{file} is to be written twice; give each file a name of its own.", path=file)
        right = PICTURES if picture or file is not output else VIDEOS
        if file.suffix.lower() in {*VIDEOS, *PICTURES, *OTHERS} - right:
            example = file.with_suffix(min(right))
            raise OutputError(f"{file} would hold {_NAMES[right]}; name it like {example.name}.", path=file)
    if as_json and any(map(is_stdout, named)):
        raise OutputError("--json and a file that is - both want stdout; give one of them.", path=Path("-"))


def fitting(video: "Video", target: Path, say: Callable[[str], object]) -> Path:
    """The file to write: another name, which `say` hears of, where this one would tell of a format it does not hold."""
    picture = video.until == "t2i"
    right = PICTURES if picture else VIDEOS
    if target.suffix.lower() not in {*VIDEOS, *PICTURES} - right:
        return target
    fits = target.with_suffix(".png" if picture else ".mp4")
    say(f"{video.id} ends at {video.until or 'vfi'}, so {target} would hold {_NAMES[right]}; it is written as {fits}.")
    return fits


def default_output(video_id: str, variant: "Variant" = "video", *, picture: bool = False) -> Path:
    """A file named after the job in this folder; an id never names another folder."""
    name = "".join(sign if sign.isalnum() or sign in "-_" else "_" for sign in video_id)
    return Path(name + (".png" if picture and variant == "video" else _SUFFIXES[variant]))


def _fetch(client: "Client", video: "Video", wishes: Wishes, watch: "Watcher") -> Path:
    target = wishes.output or default_output(video.id, picture=video.until == "t2i")
    path = client.videos.download(video.id, target, on_bytes=watch.on_bytes)
    if wishes.contact_sheet is not None:
        client.videos.download(video.id, wishes.contact_sheet, variant="spritesheet")
    return path


def taken(*files: Path | None) -> bool:
    """Whether one of them goes to stdout, where nothing else is said then."""
    from .._shell.outputs import is_stdout

    return any(is_stdout(file) for file in files if file is not None)


def _tell(video: "Video", path: Path | None, wishes: Wishes, pictures: list[Path] | None, err: bool) -> None:
    if wishes.as_json:
        found = {"path": str(path)} if path is not None else {}
        keyframes = {"keyframes": [str(picture) for picture in pictures]} if pictures is not None else {}
        print_json({**video.model_dump(mode="json"), **found, **keyframes})
    elif wishes.detach or (path is None and wishes.quiet):
        typer.echo(video.id, err=err)
    elif path is None:
        typer.echo(paused_note(video), err=err)
    elif wishes.quiet:
        tell_path(path, err=err)
    else:
        from .display import summary

        typer.echo(summary(video, path), err=err)


def tell_path(path: Path, *, err: bool = False) -> None:
    """Where the file is; nothing where it is stdout itself."""
    if not taken(path):
        tell(str(path), err=err)


def paused_note(video: "Video") -> str:
    """How to look at a paused job, and how to let it go on."""
    choice = " --candidate N" if video.candidates > 1 else ""
    look = "" if video.paused_after == "v2v" else f"look: magicvideo download {video.id} --variant "
    look += {"t2i": f"keyframe{choice}", "i2v": "preview"}.get(video.paused_after or "", "")
    lines = [
        f"{video.id} is paused after {video.paused_after} and uses no device.",
        look,
        f"go on: magicvideo continue {video.id}{choice}",
    ]
    return "\n".join(line for line in lines if line)
