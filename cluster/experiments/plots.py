"""The plots of an experiment, as PNG, from the files that its runs left.

    throughput.png   videos a minute against the replicas of one stage, a line for each stage that was varied
    latency.png      percentiles against the rate of requests, where there were several rates
    gantt.png        requests from top to bottom, their stages as bars over time
    queues.png       what waits at each stage, and its replicas, over time
    pareto.png       cost of a thousand videos against p95, with the runs that no other beats in both
    nodes.png        nodes of each kind over time, and what they have cost so far
    paths.png        percentiles of each kind of jobs

`draw_all` draws those for which the runs have something to say. Simulated and live runs are drawn alike. Knows nothing
of how they were made; draws without a screen.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from client._shell.outputs import written
from cluster.experiments.pictures import finish, nodes, paths
from cluster.experiments.results import Done
from stages.types import STAGE_NAMES

# Okabe and Ito's colours, which colour-blind readers can tell apart.
STAGE_COLOURS: Mapping[str, str] = {
    "t2i": "#E69F00",
    "i2v": "#56B4E9",
    "v2v": "#D55E00",
    "vfi": "#009E73",
    "monolith": "#0072B2",
}
GROUP_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#999999"
MOST_BARS = 40
PANELS = 3
_DPI = 90


def draw_all(runs: Sequence[Done], folder: Path) -> list[Path]:
    """Every plot that these runs can fill; gives the files."""
    drawn = []
    for name, draw in DRAWERS.items():
        figure = draw(runs) if runs else None
        path = folder / f"{name}.png"
        if figure is None:
            path.unlink(missing_ok=True)  # of before, when there was more
            continue
        with written(path) as draft:
            figure.savefig(draft, dpi=_DPI, metadata={"Software": ""})
        drawn.append(path)
    return drawn


def throughput(runs: Sequence[Done]) -> Figure | None:
    """Videos a minute against replicas; the other stages keep theirs."""
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for number, stage in enumerate(STAGE_NAMES):
        points = _varied(runs, stage)
        if len(points) > 1:
            counts, size = sorted(points), 13 - 3 * number  # smaller ones on top, so that equal lines can be seen
            style: dict[str, Any] = {"color": STAGE_COLOURS[stage], "label": stage, "lw": size / 2.2, "ms": size}
            axes.plot(counts, [points[n] for n in counts], "o-", **style)
    if not axes.lines:
        return None
    base = _base(runs)
    others = ", ".join(f"{name} {count}" for name, count in base.items())
    finish(
        axes, _titled("Throughput against the replicas of one stage", runs), "replicas of that stage", "videos a minute"
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.legend(title=f"varied; the others as in\n{others}", frameon=False)
    return figure


def latency(runs: Sequence[Done]) -> Figure | None:
    """Percentiles against the offered rate; a colour for each system and policy."""
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    labels = _labels(runs)
    styles = {"p50": (":", "o"), "p95": ("-", "s"), "p99": ("--", "^")}
    for group, colour in zip(labels, GROUP_COLOURS, strict=False):
        own = [run for run in runs if _key(run) == group]
        rates = sorted({round(60 * run.plan["rate_per_s"], 9) for run in own})
        if len(rates) < 2:
            continue
        for name, (line, mark) in styles.items():
            values = [
                _mean([r.percentile(name) for r in own if round(60 * r.plan["rate_per_s"], 9) == x]) for x in rates
            ]
            axes.plot(rates, values, linestyle=line, marker=mark, color=colour, lw=1.8, ms=5)
        axes.plot([], [], color=colour, lw=3, label=labels[group] or "latency")
    if not axes.lines:
        return None
    for name, (line, mark) in styles.items():
        axes.plot([], [], linestyle=line, marker=mark, color=GREY, label=name)
    finish(axes, _titled("Latency against load, from the intended send", runs), "requests a minute", "latency (s)")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="minor", labelsize=7)
    axes.legend(frameon=False)
    return figure


def gantt(runs: Sequence[Done]) -> Figure | None:
    """The first requests of a few runs, a row each: when each stage worked on them."""
    shown = _shown(runs)
    rows = max((min(MOST_BARS, len(run.requests())) for run in shown), default=0)
    if not rows:
        return None
    width = 4.0 + 2.6 * len(shown)
    figure = Figure(figsize=(width, max(3.2, 2.0 + 0.085 * rows)), layout="constrained")
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    labels = _labels(runs)
    longest = max(row.ended_s for run in shown for row in run.requests()[:MOST_BARS])
    stages: list[str] = []
    for axes, run in zip(panels, shown, strict=True):
        for place, row in enumerate(run.requests()[:MOST_BARS]):
            axes.plot([row.intended_s, row.ended_s], [place, place], color="#CCCCCC", lw=0.8, zorder=1)
            for stage, span in row.spans.items():
                half = stage == "vfi" and "v2v" in row.spans  # VFI begins while V2V still works
                colour = STAGE_COLOURS.get(stage, GREY)
                bar = {"height": 0.45 if half else 0.8, "color": colour, "edgecolor": colour, "lw": 0.6}
                axes.barh(place, span.end_s - span.start_s, left=span.start_s, zorder=3 if half else 2, **bar)
                if stage not in stages:
                    stages.append(stage)
            if row.outcome != "succeeded":
                axes.plot([row.ended_s], [place], "x", color="black", ms=4, zorder=4)
        finish(axes, _panel_title(run, labels, runs), "time since the start (s)", "")
        axes.set_xlim(0, longest * 1.02)
        axes.grid(axis="y", visible=False)
    panels[0].set_ylabel("request, by arrival")
    panels[0].yaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].invert_yaxis()
    handles: list[Any] = [Patch(color=STAGE_COLOURS.get(stage, GREY), label=stage) for stage in stages]
    handles.append(Line2D([], [], color="#CCCCCC", label="sent, waits"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(_titled("Requests, stage by stage", runs))
    return figure


def queues(runs: Sequence[Done]) -> Figure | None:
    """Waiting work and replicas over time, of a few runs beside each other."""
    shown = [run for run in _shown(runs) if len(run.samples()) > 1]
    if not shown:
        return None
    figure = Figure(figsize=(4.0 + 2.6 * len(shown), 5.6), layout="constrained")
    panels = figure.subplots(2, len(shown), sharey="row", sharex=True, squeeze=False)
    labels = _labels(runs)
    stages: list[str] = []
    live = shown[0].plan["mode"] == "live"
    for column, run in enumerate(shown):
        above, below = panels[0][column], panels[1][column]
        samples = run.samples()
        times = [sample.at_s for sample in samples]
        for number, stage in enumerate(run.stages):
            own = [sample.stages[stage] for sample in samples]
            style: dict[str, Any] = {"color": STAGE_COLOURS.get(stage, GREY), "drawstyle": "steps-post"}
            style["lw"] = 3.4 - 0.7 * number  # thinner ones on top, so that equal lines can be seen
            above.plot(times, [one.waiting for one in own], **style)
            below.plot(times, [one.ready for one in own], **style)
            below.plot(times, [one.ready + one.starting for one in own], **{**style, "lw": 1.0, "linestyle": ":"})
            if stage not in stages:
                stages.append(stage)
        above.plot(times, [sample.queued_jobs for sample in samples], color="black", lw=1.0, linestyle="--")
        finish(above, _panel_title(run, labels, runs), "", "")
        finish(below, "", "time since the start (s)", "")
        for axes in (above, below):
            axes.yaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    for row in panels:  # once all is drawn: panels of a row share their axis
        row[0].set_ylim(bottom=0)
    panels[0][0].set_ylabel("jobs that wait" if live else "calls that wait")
    panels[1][0].set_ylabel("replicas")
    handles: list[Any] = [Patch(color=STAGE_COLOURS.get(stage, GREY), label=stage) for stage in stages]
    handles.append(Line2D([], [], color="black", lw=1.0, linestyle="--", label="in the journal"))
    handles.append(Line2D([], [], color=GREY, lw=1.0, linestyle=":", label="with those that start"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(_titled("Queues and replicas", runs))
    return figure


def pareto(runs: Sequence[Done]) -> Figure | None:
    """What a thousand videos cost against p95. Without prices: GPU-hours."""
    priced = any(run.metrics["cost"] for run in runs)
    points = [(_cost(run, priced), run.p95_s, run) for run in runs if run.metrics["succeeded"]]
    if len(points) < 2:
        return None
    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for name, colour, own in _kinds(runs):
        at = [(x, y) for x, y, run in points if run in own]
        style: dict[str, Any] = {"s": 38, "color": colour, "label": name, "edgecolor": "white", "linewidth": 0.6}
        axes.scatter([x for x, _ in at], [y for _, y in at], zorder=3, **style)
    for x, y, run in points:
        if text := _point_label(run):
            axes.annotate(text, (x, y), textcoords="offset points", xytext=(5, 4), fontsize=7, color="#444444")
    best = frontier([(x, y) for x, y, _ in points])
    ring: dict[str, Any] = {"marker": "o", "ms": 11, "mfc": "none", "lw": 1, "linestyle": "--"}
    axes.plot([x for x, _ in best], [y for _, y in best], color="black", label="no run beats these", **ring)
    unit = "cost of 1,000 videos (currency of the prices)" if priced else "GPU-hours of 1,000 videos"
    finish(axes, _titled("Cost against p95", runs), unit, "95th percentile of latency (s)")
    axes.set_xlim(0, 1.08 * max(x for x, _, _ in points))
    axes.set_ylim(0, 1.08 * max(y for _, y, _ in points))
    axes.legend(frameon=False, title="number: replicas of the varied stage" if _varies(runs) else None)
    return figure


DRAWERS: Mapping[str, Callable[[Sequence[Done]], Figure | None]] = {
    "throughput": throughput,
    "latency": latency,
    "gantt": gantt,
    "queues": queues,
    "pareto": pareto,
    "nodes": lambda runs: nodes([(_panel_title(run, _labels(runs), runs), run) for run in _shown(runs)]),
    "paths": lambda runs: paths([(f"{_labels(runs)[_key(run)]}{_count_of(run)}".strip(), run) for run in runs]),
}


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points to which no other is as good in one and better in the other; lower is better in both."""
    best: list[tuple[float, float]] = []
    for point in sorted(set(points)):
        if not best or point[1] < best[-1][1]:
            best.append(point)
    return best


def _titled(what: str, runs: Sequence[Done]) -> str:
    """With how the runs were made."""
    return f"{what} ({', '.join(sorted({run.plan['mode'] for run in runs}))})"


def _count_of(run: Done) -> str:
    stage = run.plan["varied"]
    return f" {stage}={run.plan['replicas'][stage]}" if stage else ""


def _key(run: Done) -> tuple[str, str]:
    return run.plan["system"], run.plan["policy"]


def _labels(runs: Sequence[Done]) -> dict[tuple[str, str], str]:
    """A name for each pair of system and policy that says only what differs."""
    keys = list(dict.fromkeys(_key(run) for run in runs))
    systems, policies = len({system for system, _ in keys}) > 1, len({policy for _, policy in keys}) > 1
    return {
        key: ", ".join(part for part, differs in zip(key, (systems, policies), strict=True) if differs) for key in keys
    }


def _shown(runs: Sequence[Done]) -> list[Done]:
    """The runs that are drawn one by one: of each system and policy the one with the highest load; of a single one the
    slowest and the fastest."""
    groups = _labels(runs)
    if len(groups) > 1:
        last = [[run for run in runs if _key(run) == group] for group in groups]
        return [max(own, key=lambda run: float(run.plan["rate_per_s"])) for own in last][:PANELS]
    if len(runs) < 2:
        return list(runs)
    ordered = sorted(runs, key=lambda run: run.throughput_per_s)
    return [ordered[0], ordered[-1]]


def _panel_title(run: Done, labels: Mapping[tuple[str, str], str], runs: Sequence[Done]) -> str:
    if named := labels[_key(run)]:
        return named
    several = len({tuple(one.plan["replicas"].values()) for one in runs}) > 1
    return " ".join(f"{name} {count}" for name, count in run.plan["replicas"].items()) if several else run.plan["load"]


def _kinds(runs: Sequence[Done]) -> list[tuple[str, str, list[Done]]]:
    """Name, colour and runs: by system and policy, or by the stage that was varied where there is one of those."""
    labels = _labels(runs)
    if len(labels) > 1:
        pairs = zip(labels.items(), GROUP_COLOURS, strict=False)
        return [(name, colour, [run for run in runs if _key(run) == key]) for (key, name), colour in pairs]
    found = [(f"{stage} varied", STAGE_COLOURS[stage], stage) for stage in STAGE_NAMES]
    kinds = [(name, colour, [r for r in runs if r.plan["varied"] == stage]) for name, colour, stage in found]
    return [kind for kind in (*kinds, ("runs", GREY, [r for r in runs if not r.plan["varied"]])) if kind[2]]


def _varies(runs: Sequence[Done]) -> bool:
    return any(run.plan["varied"] for run in runs)


def _point_label(run: Done) -> str:
    varied = run.plan["varied"]
    return str(run.plan["replicas"].get(varied, "")) if varied else ""


def _base(runs: Sequence[Done]) -> dict[str, int]:
    """The replicas that most runs have of each stage."""
    found = {}
    for stage in STAGE_NAMES:
        counts = [run.plan["replicas"][stage] for run in runs if stage in run.plan["replicas"]]
        if counts:
            found[str(stage)] = max(sorted(set(counts)), key=counts.count)
    return found


def _varied(runs: Sequence[Done], stage: str) -> dict[int, float]:
    """Videos a minute by the stage's replicas, where the other stages have the replicas that most runs have."""
    others = {name: count for name, count in _base(runs).items() if name != stage}
    found: dict[int, list[float]] = {}
    for run in runs:
        replicas = run.plan["replicas"]
        if any(one.plan["varied"] == stage for one in runs) and all(replicas.get(n) == c for n, c in others.items()):
            found.setdefault(replicas[stage], []).append(60 * run.throughput_per_s)
    return {count: _mean(values) for count, values in found.items()}


def _cost(run: Done, priced: bool) -> float:
    return run.cost_of(1000) if priced else 1000 * run.gpu_seconds / 3600 / run.metrics["succeeded"]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
