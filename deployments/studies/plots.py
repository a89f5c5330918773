"""Pictures of results, as PNG: stacked bars of Good, Same and Bad as the paper draws them, and the ranking.

Colours are told apart without red and green, and every bar says its numbers.
"""

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from client.schema_studies import StudyResults
from deployments.studies.errors import StudyStateError

_GOOD, _SAME, _BAD = "#2166ac", "#bdbdbd", "#b35806"
_WIDTH_IN, _ROW_IN, _DPI = 8.0, 0.55, 120
_NAME_CHARS = 34


def bars(results: StudyResults) -> bytes:
    """A bar for each comparison; the ratio with its interval at its end."""
    rows = [one for one in results.comparisons if one.good + one.same + one.bad]
    if not rows:
        raise StudyStateError("There is no vote to draw yet.", param="name", code="no_votes")
    figure = Figure(figsize=(_WIDTH_IN, 1.4 + _ROW_IN * len(rows)), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(rows):
        total, left = one.good + one.same + one.bad, 0.0
        for count, colour, ink in ((one.good, _GOOD, "white"), (one.same, _SAME, "black"), (one.bad, _BAD, "white")):
            share = 100 * count / total
            axes.barh(place, share, left=left, color=colour, height=0.7)
            if share >= 6:
                axes.text(left + share / 2, place, str(count), ha="center", va="center", color=ink, fontsize=9)
            left += share
        said = "-" if one.ratio is None else f"{one.ratio:.2f}"
        if one.ratio_interval is not None:
            said += f"  [{one.ratio_interval[0]:.2f}, {one.ratio_interval[1]:.2f}]"
        axes.text(101, place, said, va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [_label(one.a, one.b, one.criterion) for one in rows], fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 128)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("votes, %")
    axes.spines[["top", "right"]].set_visible(False)
    for name, colour in (("Good", _GOOD), ("Same", _SAME), ("Bad", _BAD)):
        axes.barh(0, 0, color=colour, label=name)
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=9)
    axes.text(101, 1.03, "(G+S)/(B+S)", transform=axes.get_xaxis_transform(), fontsize=9)
    return _png(figure)


def ranking(results: StudyResults) -> bytes:
    """Bradley-Terry strengths with their intervals, the strongest on top."""
    if not results.ranking:
        raise StudyStateError(
            "A ranking needs three systems and enough votes; this study has none.", param="name", code="no_ranking"
        )
    rows = results.ranking
    figure = Figure(figsize=(_WIDTH_IN, 1.2 + _ROW_IN * len(rows)), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    for place, one in enumerate(rows):
        if one.interval is not None:
            axes.plot(one.interval, (place, place), color=_GOOD, linewidth=2, solid_capstyle="butt")
        axes.plot(one.strength, place, "o", color=_GOOD)
    axes.set_yticks(range(len(rows)), [_short(one.system) for one in rows], fontsize=9)
    axes.invert_yaxis()
    axes.margins(y=0.2)
    axes.axvline(0, color=_SAME, linewidth=1)
    axes.set_xlabel("strength (log odds), with intervals of 95 %")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _label(a: str, b: str, criterion: str) -> str:
    return f"{_short(a)} against {_short(b)}\n{criterion.replace('_', ' ')}"


def _short(name: str) -> str:
    text = name if len(name) <= _NAME_CHARS else f"{name[:_NAME_CHARS]}..."
    return text.replace("$", r"\$")  # no formula


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(out, format="png", bbox_inches="tight")  # whatever the words beside the bars take
    return out.getvalue()
