"""From what was kept of every video to figures and tables: means of a setting, beside real clips.

Takes `Measured` videos in the order of their scenes, of which the first come twice. Prints Markdown.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.worlds.worlds import AXES
from stages.measures.pixels import mean_distance

__all__ = ["Measured", "Turns", "features", "figures_of", "print_parts", "print_table", "read", "summary"]

Measured = tuple[dict[str, Any], dict[str, NDArray[Any]]]
"""A row, and the arrays of a clip: `thumbnail`, and the features of its `frames` and of the `clip`."""


@dataclass(frozen=True)
class Turns:
    """How many videos a setting has, of how many distinct scenes; so many distinct ones the whole measurement has."""

    count: int
    distinct: int
    scenes: int

    def same(self, rows: Sequence[Measured]) -> list[Measured]:
        """Of the whole measurement, the videos of a setting's prompts: the first, and those that come again."""
        return [*rows[: self.distinct], *rows[self.scenes : self.scenes + self.count - self.distinct]]


def read(files: Iterable[Path]) -> list[Measured]:
    """What `do` kept."""
    found = []
    for file in files:
        with np.load(file) as kept:
            found.append((json.loads(str(kept["row"])), {name: kept[name] for name in kept.files if name != "row"}))
    return found


def summary(rows: Sequence[Measured], distinct: int) -> dict[str, float]:
    """Means over the videos of one setting; energies and distances are not ratios yet."""
    keys = [key for key, value in rows[0][0].items() if value is not None and key != "names"]
    means = {key: float(np.mean([row[key] for row, _ in rows])) for key in keys}
    small = [arrays["thumbnail"] for _, arrays in rows]
    pairs = [(small[index], small[index + distinct]) for index in range(len(rows) - distinct)]
    if pairs:
        means["distance"] = float(np.mean([mean_distance(pair) for pair in pairs]))
    return means


def figures_of(made: Mapping[str, float], real: Mapping[str, float]) -> dict[str, float | None]:
    """The figures of one setting beside real clips."""
    return {
        "subject_top1": made["subject"],
        "background_top1": made["place"],
        "motion_top1": made["motion"],
        "style_top1": made["style"],
        "subject_last_frame": made["last"],
        "subject_worst_frame": made["worst"],
        "motion_energy_ratio": made["energy"] / real["energy"],
        "first_frame_psnr_db": made["first_frame_db"],
        "flicker_ratio": made["flicker"] / real["flicker"],
        "smear_ratio": made["smear"] / real["smear"],
        "sharpness_ratio": made["sharpness_ratio"],
        "diversity_ratio": made["distance"] / real["distance"] if "distance" in made and "distance" in real else None,
    }


def features(rows: Sequence[Measured], of: str) -> NDArray[np.float64]:
    """Those of all rows, one below the other."""
    return np.concatenate([np.atleast_2d(arrays[of]) for _, arrays in rows])


def print_table(found: Mapping[str, Sequence[Measured]], full: str, turns: Turns) -> None:
    """One line a setting; ablations beside the full model's and the real clips' same first videos. `real` is one."""
    print("| setting | videos | subject | place | motion | style | last | worst |", end="")
    print(" energy | first frame dB | flicker | smear | sharpness | diversity |\n|" + "---|" * 14)
    for name, rows in found.items():
        if name == "real":
            continue
        whole = len(rows) > turns.count
        size = turns.scenes if whole else turns.distinct
        real = summary(found["real"] if whole else turns.same(found["real"]), size)
        _print_line(name if name == full else f"without {name}", len(rows), figures_of(summary(rows, size), real))
        if whole:
            real = summary(turns.same(found["real"]), turns.distinct)
            shown = summary(turns.same(rows), turns.distinct)
            _print_line(f"{name}, the ablations' prompts", turns.count, figures_of(shown, real))


def print_parts(made: Sequence[Measured], real: Sequence[Measured]) -> None:
    """Every style and every motion by itself: generated, then real."""
    axes = (*AXES, "last", "worst")
    print("\n| of them | videos | " + " | ".join(axes) + " |\n|" + "---|" * (2 + len(axes)))
    for axis in ("style", "motion"):
        for name in dict.fromkeys(row["names"][axis] for row, _ in made):
            both = [[row for row, _ in rows if row["names"][axis] == name] for rows in (made, real)]
            cells = [" ".join(f"{np.mean([row[key] for row in rows]):.2f}" for rows in both) for key in axes]
            print(f"| {name} | {len(both[0])} | " + " | ".join(cells) + " |", flush=True)


def _print_line(name: str, count: int, figures: Mapping[str, float | None]) -> None:
    cells = [f"{value:.2f}" if value is not None else "-" for value in figures.values()]
    print(f"| {name} | {count} | " + " | ".join(cells) + " |", flush=True)
