"""`python -m cluster`: plan pools before they are rented, and see the plan at work before it is served.

    profile    seconds, memory and bytes of every stage, measured on this machine
    plan       the cheapest replicas for a rate and a 95th percentile, with the proof that none is cheaper
    experiment sweeps of replicas, load and policies, simulated or on a real server, with plots
    calibrate  a twin learnt from a server's journal: its error, and what another split would do
    render     image, Kubernetes, `ray up`, alerts and dashboard for these pools

What cannot be done ends in one sentence: exit code 2 for a wrong argument or file, 3 for trouble from outside, 1 where
a run failed. Knows nothing of Ray.
"""

import sys
from collections.abc import Sequence

from client._shell.ending import FAILED, OUTSIDE, WRONG, Parser, end
from cluster.calibration import command as calibrate
from cluster.experiments import command as experiment
from cluster.experiments.live import LiveError
from cluster.experiments.spec import ExperimentError
from cluster.manifests import command as render
from cluster.manifests.site import SiteError
from cluster.planner import command as plan_command
from cluster.planner import profile_command
from cluster.planner.options import GoalError
from cluster.planner.profiles import ProfileError
from cluster.pools.file import PoolFileError
from cluster.twin.scenario import TwinError

CODES: dict[type[BaseException], int] = {
    **dict.fromkeys((ExperimentError, GoalError, PoolFileError, ProfileError, SiteError), WRONG),
    TwinError: FAILED,
    LiveError: OUTSIDE,
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    return end(run, argv, codes=CODES)


def run(words: list[str]) -> int:
    """What the words say."""
    parser = Parser(prog="python -m cluster", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (profile_command, plan_command, experiment, calibrate, render):
        module.add_command(commands)
    options = parser.parse_args(words)
    ran: int = options.run(options)
    return ran


if __name__ == "__main__":
    sys.exit(main())
