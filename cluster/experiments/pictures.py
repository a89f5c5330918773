"""Pictures of nodes and their bills, of kinds of jobs, and of a twin's latencies against those that were seen.

Take what is drawn with its names; give figures, or None where there is nothing to say. Draw without a screen.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from client._shell.outputs import written
from cluster.experiments.results import Done

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DPI = 90


def nodes(shown: Sequence[tuple[str, Done]]) -> Figure | None:
    """Nodes over time, and the bill so far, of a few runs beside each other."""
    kept = [(title, run, run.samples()) for title, run in shown if run.plan.get("node_prices")]
    kept = [(title, run, samples) for title, run, samples in kept if len(samples) > 1]
    if not kept:
        return None
    figure = Figure(figsize=(4.0 + 2.6 * len(kept), 5.6), layout="constrained")
    panels = figure.subplots(2, len(kept), sharey="row", sharex=True, squeeze=False)
    names = list(kept[0][1].plan["node_prices"])
    for column, (title, run, samples) in enumerate(kept):
        above, below = panels[0][column], panels[1][column]
        times = [sample.at_s for sample in samples]
        for number, name in enumerate(names):
            style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "label": name}
            counts = [sample.nodes.get(name, 0) for sample in samples]
            above.plot(times, counts, drawstyle="steps-post", lw=3.0 - 0.6 * min(number, 3), **style)
            paid, price = [0.0], run.plan["node_prices"][name] / 3600
            for (one, after), count in zip(pairwise(times), counts, strict=False):
                paid.append(paid[-1] + price * count * (after - one))
            below.plot(times, paid, lw=1.8, **style)
        finish(above, title, "", "")
        finish(below, f"in all {run.metrics['cost']:.2f}", "time since the start (s)", "")
        below.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        above.yaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    for row in panels:
        row[0].set_ylim(bottom=0)
    panels[0][0].set_ylabel("nodes that are billed")
    panels[1][0].set_ylabel("bill so far (the prices' currency)")
    handles, shown_names = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, shown_names, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle("Nodes and their bill (simulated)")
    return figure


def paths(runs: Sequence[tuple[str, Done]]) -> Figure | None:
    """The median and the 95th percentile of each kind of jobs; of equal names the runs are taken together."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for name, run in runs:
        for row in run.requests():
            if row.outcome == "succeeded":
                seconds.setdefault(row.kind, {}).setdefault(name, []).append(row.latency_s)
    if len(seconds) < 2:
        return None
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    groups = list(dict.fromkeys(name for name, _ in runs))
    width, kinds = 0.8 / len(groups), sorted(seconds)
    for number, group in enumerate(groups):
        at = [place + (number - (len(groups) - 1) / 2) * width for place in range(len(kinds))]
        for share, alpha in ((95, 0.45), (50, 1.0)):
            tall = [float(np.percentile(seconds[kind].get(group, [0.0]), share)) for kind in kinds]
            label = f"{group} p{share}".strip()
            axes.bar(at, tall, width * 0.92, color=COLOURS[number % len(COLOURS)], alpha=alpha, label=label)
    axes.set_xticks(range(len(kinds)), [kind or "every stage" for kind in kinds])
    stopped = {name: sum(run.metrics.get("yields", 0) for own, run in runs if own == name) for name in groups}
    told = "".join(f"; {name}: {count} calls yielded".replace("; :", ";") for name, count in stopped.items() if count)
    finish(axes, f"Latency of each kind of jobs{told}", "", "seconds from the intended send")
    axes.legend(frameon=False)
    return figure


def latencies(path: Path, title: str, lines: Mapping[str, Sequence[float]]) -> None:
    """Shares of requests over their seconds, a line for each name; the first is what was seen."""
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, seconds) in enumerate(lines.items()):
        if not len(seconds):
            continue
        ordered = np.sort(np.asarray(seconds))
        shares = np.arange(1, len(ordered) + 1) / len(ordered)
        own = f"{name}: p95 {np.percentile(ordered, 95):.1f} s"
        style: dict[str, Any] = {"color": COLOURS[number % len(COLOURS)], "lw": 3.2 if number == 0 else 1.8}
        axes.plot(ordered, shares, drawstyle="steps-post", label=own, **style)
    axes.axhline(0.95, color="#999999", lw=1.0, linestyle="--")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1.02)
    finish(axes, title, "seconds from arrival to end", "share of the videos")
    axes.legend(frameon=False, loc="lower right")
    with written(path) as draft:
        figure.savefig(draft, format="png", dpi=_DPI, metadata={"Software": ""})


def finish(axes: Axes, title: str, x: str, y: str) -> None:
    """What all plots have: a title, names of the axes, a quiet grid."""
    axes.set_title(title, fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color="#DDDDDD", lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
