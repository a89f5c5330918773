"""`python -m cluster`: plan pools before they are rented, and see the plan at work before it is served.

    profile    seconds, memory and bytes of every stage, measured on this machine
    plan       the cheapest replicas for a rate and a 95th percentile, with the proof that none is cheaper
    experiment sweeps of replicas, load and policies, simulated or on a real server, with plots
    render     image, Kubernetes, `ray up`, alerts and dashboard for these pools

What cannot be done ends in one sentence and exit code 1 (wrong usage: 2). Knows nothing of Ray.
"""

import argparse
import sys
from collections.abc import Sequence

from cluster.experiments import command as experiment
from cluster.manifests import command as render
from cluster.manifests.site import SiteError
from cluster.planner import command as plan_command
from cluster.planner import profile_command
from cluster.planner.profiles import ProfileError
from cluster.planner.search import GoalError
from cluster.pools.file import PoolFileError


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cluster", description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in (profile_command, plan_command, experiment, render):
        module.add_command(commands)
    options = parser.parse_args(argv)
    try:
        ran: int = options.run(options)
        return ran
    except (GoalError, PoolFileError, ProfileError, SiteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
