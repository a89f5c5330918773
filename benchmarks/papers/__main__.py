"""Published tables of mixed video traffic, and what our order makes of them: `python -m benchmarks.papers`.

`gfdit`, `live` or `disagfusion` behind it has one of them alone. `live` has GF-DiT's on a real server with replayed
stages, five minutes; the others are simulated, take less than a minute together, and say nothing of a real cluster.
The modules of those names tell what is printed, and each figure.
"""

from benchmarks.papers.disagfusion import RATES, SEEDS, disagfusion
from benchmarks.papers.gfdit import WORKLOADS, doubled, gfdit
from benchmarks.papers.live import live
from benchmarks.tools.result import parser_of, result


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("papers", __doc__, quick="one workload, one rate, one seed")
    parser.add_argument("name", nargs="?", choices=("gfdit", "disagfusion", "live"), help="one paper; without it, all")
    told = parser.parse_args(arguments)
    figures: dict[str, float] = {}
    if told.name in (None, "gfdit"):
        figures |= gfdit(["inflight"]) if told.quick else gfdit(list(WORKLOADS)) | doubled()
    if told.name in (None, "disagfusion"):
        figures |= disagfusion(*((RATES[1:2], SEEDS[:1]) if told.quick else (RATES, SEEDS)))
    if told.name == "live" or (told.name is None and not told.quick):
        figures |= live(["inflight"] if told.quick else list(WORKLOADS))
    result("papers", figures)


if __name__ == "__main__":
    main()
