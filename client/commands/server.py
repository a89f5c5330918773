"""The commands that ask how the server is: health, pools; and where keys are made."""

from typing import TYPE_CHECKING

import typer

from .options import Asking
from .outcome import REFUSED, UNREACHABLE, ask, connect, print_json, reporting

if TYPE_CHECKING:
    from ..schema import Pools


def health(asking: Asking) -> None:
    """Show how the server is. The exit code is 3 unless it is ok."""
    with reporting(asking.as_json):
        with connect(asking) as client:
            found = client.health()
        if asking.as_json:
            print_json(found.model_dump(mode="json"))
        else:
            from .display import describe_health

            typer.echo(describe_health(found))
        if found.status != "ok":
            raise typer.Exit(UNREACHABLE)


def pools(asking: Asking) -> None:
    """Show every stage's pool. Its replicas, what waits, what runs, how much of it is used."""

    def show(found: "Pools") -> None:
        from .display import print_pools

        print_pools(found)

    ask(asking, lambda client: client.pools(), show)


def keys() -> None:
    """Say where keys are made."""
    typer.echo("Keys are made where the server runs, not here; there, run: python -m deployments keys --help", err=True)
    raise typer.Exit(REFUSED)
