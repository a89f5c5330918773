"""Numbers of a study's videos that need a model, measured by `python -m stages measure` in a process of its own.

The process computes what people saw, at the lowest priority and on one core, and ends with this one. What it found is a
file of the study's. Who measures has the study for a while, so that one that ended is followed by whoever asks again.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from threading import Semaphore
from typing import Any

from client.schema_numbers import Between, PairNumbers, StudyNumbers, VideoNumbers
from deployments.errors import StoreAwayError
from deployments.files.store import ArtifactError, ArtifactStore
from deployments.studies.book import MEASURED, Record, StudyBook
from deployments.studies.plan import Plan

logger = logging.getLogger(__name__)

_ONE_CORE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_PLACES = Semaphore(1)  # one process with models at once
_LOOK_S = 20.0
_NICE = 19


def measure_study(
    book: StudyBook, store: ArtifactStore, study: Record, measures: Sequence[str], beginnings: Mapping[str, bytes]
) -> None:
    """Measure everything, and keep it as a file of the study's; what went wrong is a note in it.

    Args:
        measures: functions of the user's own, as "module:function".
        beginnings: the picture that a video was to begin with, by the id of its job.
    """
    try:
        with book.turn(study.id, _PLACES) as there:
            found = _measured(book, store, study, measures, beginnings) if there else None
        if found is None:
            return
        key = f"studies/{study.id}/numbers-{os.urandom(4).hex()}.json"
        kept = store.put_bytes(json.dumps(found).encode(), key, "application/json")
        book.keep(study.id, MEASURED, {"key": kept.key, "bytes": kept.size_bytes, "sha256": kept.sha256})
    except (ArtifactError, StoreAwayError, OSError) as error:
        logger.warning("The videos of study %s could not be measured: %s", study.id, error)
    finally:
        book.hold(study.id, 0.0)


def _measured(
    book: StudyBook, store: ArtifactStore, study: Record, measures: Sequence[str], beginnings: Mapping[str, bytes]
) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory(prefix="magicvideo-numbers-") as folder:
        _lay_out(book, store, study, Path(folder), beginnings)
        return _run(book, study, Path(folder), measures)


def _lay_out(
    book: StudyBook, store: ArtifactStore, study: Record, folder: Path, beginnings: Mapping[str, bytes]
) -> None:
    """A folder a system; videos of one item have one name."""
    plan, shown = study.plan, book.shown(study.id)
    for system in range(len(plan.systems)):
        (folder / str(system)).mkdir()
        for item in range(len(plan.items)):
            key = str(shown[plan.video(system, item)]["key"])
            path = folder / str(system) / f"{item}.mp4"
            path.write_bytes(b"".join(store.read(key, 0, store.size(key))))
            if (picture := beginnings.get(plan.sources[system][item].id)) is not None:
                path.with_suffix(".png").write_bytes(picture)
    prompts = {str(number): prompt for number, (prompt, _) in enumerate(plan.items)}
    (folder / "prompts.json").write_text(json.dumps(prompts))


def _run(book: StudyBook, study: Record, folder: Path, measures: Sequence[str]) -> dict[str, Any] | None:
    """What the process says; None where the study was deleted meanwhile."""
    sets = [str(system) for system in range(len(study.plan.systems))]
    own = [word for path in measures for word in ("--measure", path)]
    command = [sys.executable, "-m", "stages", "measure", *sets, "--json", "--with-parent", "--prompts", "prompts.json"]
    paths = os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path))
    environment = {**os.environ, **_ONE_CORE, "PYTHONPATH": paths}
    said, told = folder / "said", folder / "told"
    with said.open("wb") as out, told.open("wb") as errors:
        process = subprocess.Popen(
            [*command, *own], cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=out, stderr=errors
        )
        try:
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
            while True:
                try:
                    process.wait(_LOOK_S)
                    break
                except subprocess.TimeoutExpired:
                    if not book.hold(study.id):
                        return None
        finally:
            process.kill()
            process.communicate()
    if process.returncode:
        lines = told.read_text(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
        return {"videos": {}, "pairs": [], "sets": [], "notes": [f"Nothing was measured: {lines[-1][:300]}"]}
    found: dict[str, Any] = json.loads(said.read_bytes())
    return found


def numbers_of(book: StudyBook, store: ArtifactStore, study: Record) -> StudyNumbers:
    """All that was measured so far, of pixels and by models."""
    plan, by_video = study.plan, dict(book.numbers(study.id))
    key = book.measured(study.id)
    found: dict[str, Any] = {"videos": {}, "pairs": [], "sets": [], "notes": []}
    if key is not None:
        try:
            found = json.loads(b"".join(store.read(key, 0, store.size(key))))
        except (ArtifactError, StoreAwayError) as error:  # votes are read without the store, and so are results
            found["notes"] = [f"What was measured cannot be read now: {error}"]
    for system, videos in found["videos"].items():
        for item, numbers in videos.items():
            video = plan.video(int(system), int(item))
            by_video[video] = {**by_video.get(video, {}), **numbers}
    videos = [
        VideoNumbers(system=name, prompt=prompt, take=take, numbers=by_video.get(plan.video(system, item), {}))
        for system, name in enumerate(plan.systems)
        for item, (prompt, take) in enumerate(plan.items)
    ]
    pairs = [_pair(plan, one) for one in found["pairs"]]
    measuring = study.state == "ready" and book.is_taken(study.id)
    return StudyNumbers(
        id=study.id,
        state="measuring" if measuring else "pixels" if key is None else "complete",
        videos=videos,
        pairs=pairs,
        sets=[_between(plan, one, pairs) for one in found["sets"]] or _means(plan, pairs),
        notes=found["notes"],
    )


def _pair(plan: Plan, one: Mapping[str, Any]) -> PairNumbers:
    prompt, take = plan.items[int(one["name"])]
    a, b = plan.systems[int(one["a"])], plan.systems[int(one["b"])]
    return PairNumbers(a=a, b=b, prompt=prompt, take=take, numbers={"vmaf": one["vmaf"]})


def _between(plan: Plan, one: Mapping[str, Any], pairs: Sequence[PairNumbers]) -> Between:
    a, b = plan.systems[int(one["a"])], plan.systems[int(one["b"])]
    own = {name: value for name, value in one.items() if name not in ("a", "b")}
    return Between(a=a, b=b, numbers={**own, **_mean_vmaf(pairs, a, b)})


def _means(plan: Plan, pairs: Sequence[PairNumbers]) -> list[Between]:
    made = [Between(a=a, b=b, numbers=_mean_vmaf(pairs, a, b)) for a, b in combinations(plan.systems, 2)]
    return [one for one in made if one.numbers]


def _mean_vmaf(pairs: Sequence[PairNumbers], a: str, b: str) -> dict[str, float]:
    own = [one.numbers["vmaf"] for one in pairs if (one.a, one.b) == (a, b)]
    return {"vmaf": fmean(own)} if own else {}
