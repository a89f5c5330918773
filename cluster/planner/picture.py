"""What a p95 costs at one rate: bills of the cheapest plans over their p95, by the formulas, and the plan taken.

Draws without a screen. Knows nothing of how plans are found.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib.figure import Figure

from client._shell.outputs import written

_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "#999999"
_DPI = 90


def draw(
    path: Path,
    title: str,
    unit: str,
    bought: Sequence[tuple[float, float]],
    taken: tuple[float, float],
    *,
    twin: tuple[float, float] | None = None,
    goal_s: float,
    budget: float | None = None,
) -> None:
    """`bought`: p95 and bill of each plan; `taken`: of this one, by the formulas; `twin`: as that saw it."""
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    points = sorted(bought)
    if points:
        style = {"where": "post", "color": _BLUE, "lw": 1.6, "label": "cheapest plans, by the formulas"}
        axes.step([x for x, _ in points], [y for _, y in points], **style)  # type: ignore[arg-type]
    axes.plot(*taken, "o", color=_BLUE, ms=9, label="this plan, by the formulas")
    if twin is not None:
        axes.plot(*twin, "D", color=_RED, ms=9, label="this plan, in the twin")
    axes.axvline(goal_s, color=_GREY, lw=1.2, linestyle="--", label=f"p95 asked for: {goal_s:.4g} s")
    if budget is not None:
        axes.axhline(budget, color=_GREY, lw=1.2, linestyle=":", label=f"budget: {budget:g}")
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("95th percentile (s)")
    axes.set_ylabel(f"bill of whole nodes ({unit})")
    right = max([taken[0], *(x for x, _ in points), *([twin[0]] if twin else [])])
    axes.set_xlim(0, 1.1 * max(right, min(goal_s, 3 * right)))
    axes.set_ylim(0, 1.3 * max([taken[1], budget or 0.0, *(y for _, y in points)]))
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with written(path) as draft:
        figure.savefig(draft, format="png", dpi=_DPI, metadata={"Software": ""})
