"""Numbers of sets of videos: of each video, of two sets' videos of one name, and of two whole sets.

A set is a folder of mp4s; videos of one name in two sets belong together, and NAME.png beside one is the picture that
it was to begin with. What cannot be measured here is left out, and a note says why.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from stages.measures.encodes import ffmpeg, vmaf
from stages.measures.flow import WarpError
from stages.measures.judged import Features, of_judges
from stages.measures.pixels import psnr_db
from stages.measures.plugs import Measure, MeasureError, measure
from stages.media.types import MediaError
from stages.media.videos import video_frames
from stages.model.network.pictures import resize_frames
from stages.training.tiny.judges import Judges
from stages.types import UInt8

LEAST_VIDEOS = 2  # of a set, for a distance
_UNTRAINED = (
    "No Frechet distance is measured: our judges are not trained on this machine; python -m benchmarks.quality trains "
    "them, in half an hour."
)
MOST_DB = 100.0  # of equal pictures, whose ratio has no end


@dataclass
class Found:
    """What was measured."""

    videos: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)  # set, name
    pairs: list[dict[str, Any]] = field(default_factory=list)  # a, b, name, vmaf
    sets: list[dict[str, Any]] = field(default_factory=list)  # a, b, ..._frechet_judges
    notes: list[str] = field(default_factory=list)


def videos_of(folder: Path) -> dict[str, Path]:
    """The mp4s of a set, by name.

    Raises:
        MeasureError: it is no folder, or holds none.
    """
    if not folder.is_dir():
        raise MeasureError(f"{folder} is no folder; name one of mp4s.")
    found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() == ".mp4"}
    if not found:
        raise MeasureError(f"{folder} holds no mp4; name a folder that does.")
    return found


def measure_sets(
    folders: Sequence[Path], judges: Path | None = None, more: Iterable[Measure] = (), prompts: Mapping[str, str] = {}
) -> Found:
    """All numbers of these sets.

    Args:
        judges: where trained judges lie.
        more: measures of a user's own, given the prompt of a video's name.

    Raises:
        MeasureError: a folder holds no video, or one cannot be read.
    """
    found, sets = Found(), {str(folder): videos_of(folder) for folder in folders}
    warp_error, own = WarpError(), tuple(more)
    judging = None if judges is None else Judges.load(judges)
    features: dict[str, list[Features]] = {}
    for name, videos in sets.items():
        found.videos[name], features[name] = {}, []
        for stem, path in videos.items():
            frames, fps = _read(path)
            numbers = measure(frames, fps, prompts.get(stem, ""), own)
            numbers |= {"warp_error": warp_error.of(frames)} | _beginning(frames, path.with_suffix(".png"))
            found.videos[name][stem] = {key: value for key, value in numbers.items() if np.isfinite(value)}
            if judging is not None:
                features[name].append(judging.features(frames))
    try:
        ffmpeg()
        found.pairs = list(_pairs(sets, found.notes))
    except MeasureError as error:
        found.notes.append(str(error))
    if judging is None:
        found.notes.append(_UNTRAINED)
    else:
        _distances(found, features)
    return found


def _beginning(frames: UInt8, picture: Path) -> dict[str, float]:
    """How near the first frame is to the picture that it was to begin with, where there is one."""
    if not picture.is_file():
        return {}
    with PIL.Image.open(picture) as opened:
        wanted = resize_frames(np.asarray(opened.convert("RGB"))[None], (frames.shape[2], frames.shape[1]))[0]
    return {"first_frame_psnr_db": min(MOST_DB, psnr_db(frames[0], wanted))}


def _pairs(sets: Mapping[str, Mapping[str, Path]], notes: list[str]) -> Iterable[dict[str, Any]]:
    for a, b in combinations(sets, 2):
        try:
            for name in sets[a].keys() & sets[b].keys():
                yield {"a": a, "b": b, "name": name, "vmaf": vmaf(sets[a][name], sets[b][name])}
        except MeasureError as error:
            notes.append(str(error))


def _distances(found: Found, features: Mapping[str, Sequence[Features]]) -> None:
    for a, b in combinations(features, 2):
        if min(len(features[a]), len(features[b])) < LEAST_VIDEOS:
            found.notes.append(f"A Frechet distance needs {LEAST_VIDEOS} videos a set; no such is measured.")
            return
        found.sets.append({"a": a, "b": b, **of_judges(features[a], features[b])})


def _read(path: Path) -> tuple[UInt8, float]:
    try:
        shown = list(video_frames(path.read_bytes()))
    except MediaError as error:
        raise MeasureError(f"{path} {error}.") from error
    return np.stack([one.pixels() for one in shown]), len(shown) / shown[-1].end_s
