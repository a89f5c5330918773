"""Published tables of mixed traffic, and what our order and look-ahead make of them: `python -m benchmarks.papers`.

A name behind it has one of them alone. `live` has GF-DiT's on a real server with replayed stages, seven minutes, and
`lightx2v --live` its own, a quarter of an hour; the others are simulated, take three minutes together, and say nothing
of a real cluster. The modules of those names tell what is printed, and each figure.
"""

from pathlib import Path

from benchmarks.papers import gentd26 as gen
from benchmarks.papers.disagfusion import RATES, SEEDS, disagfusion
from benchmarks.papers.dynamic import dynamic
from benchmarks.papers.gfdit import WORKLOADS, doubled, gfdit
from benchmarks.papers.lightx2v import DITS, lightx2v
from benchmarks.papers.live import live, promises
from benchmarks.papers.mixed import PICTURES, mixed_sizes
from benchmarks.papers.mixed import RATES as MIXED_RATES
from benchmarks.tools.result import parser_of, result

NAMES = ("gfdit", "disagfusion", "dynamic", "lightx2v", "mixed", "gentd26", "live")


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("papers", __doc__, quick="one workload, one rate, one seed of each")
    parser.add_argument("name", nargs="?", choices=NAMES, help="one paper; without it, all")
    parser.add_argument("--live", action="store_true", help="lightx2v on a real server too")
    parser.add_argument("--trace", type=Path, help="gentd26's lora_request_trace.csv; fetched when left out")
    told = parser.parse_args(arguments)
    quick, figures = told.quick, dict[str, float]()

    def wanted(name: str) -> bool:
        return told.name in (None, name)

    if wanted("gfdit"):
        figures |= gfdit(["inflight"]) if quick else gfdit(list(WORKLOADS)) | doubled()
    if wanted("disagfusion"):
        figures |= disagfusion(*((RATES[1:2], SEEDS[:1]) if quick else (RATES, SEEDS)))
    if wanted("dynamic"):
        figures |= dynamic(SEEDS[:1] if quick else SEEDS)
    if wanted("lightx2v"):
        figures |= lightx2v(DITS[-1:] if quick else DITS, live=told.live)
    if wanted("mixed"):
        figures |= mixed_sizes(*((MIXED_RATES[:1], 500) if quick else (MIXED_RATES, PICTURES)))
    if told.name == "live" or (told.name is None and not quick):
        figures |= live(["inflight"]) if quick else live(list(WORKLOADS)) | promises()
    if wanted("gentd26"):
        if quick:
            figures |= gen.gentd26(gen.likely_day(200))
        elif (path := gen.fetched(told.trace)) is not None:
            figures |= gen.gentd26(gen.day(path, gen.FACTS["busiest_day"]["date"]))
    result("papers", figures)


if __name__ == "__main__":
    main()
