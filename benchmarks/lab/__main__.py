"""The planner against brute force, and the simulator on a large pipeline: `python -m benchmarks.lab`.

`planner` or `simulate` behind it has one of them alone. A minute on two cores. The modules of those names tell what is
printed, and each figure.
"""

from benchmarks.lab.planner import INSTANCES, RATES, planner
from benchmarks.lab.simulate import REQUESTS, simulated
from benchmarks.tools.result import parser_of, result


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("lab", __doc__, quick="five instances, one rate, two thousand requests")
    parser.add_argument("name", nargs="?", choices=("planner", "simulate"), help="one of them; without it, both")
    told = parser.parse_args(arguments)
    figures: dict[str, float] = {}
    if told.name in (None, "planner"):
        figures |= planner(5, RATES[2:3]) if told.quick else planner(INSTANCES, RATES)
    if told.name in (None, "simulate"):
        figures |= simulated(2_000 if told.quick else REQUESTS)
    result("lab", figures)


if __name__ == "__main__":
    main()
