"""Long calls whose replica is killed: what of them is computed again, with states that are kept and without.

A server of its own makes a few films one after the other, each to the end of a replayed I2V of eight seconds; the
replica dies after six. Touches only processes that descend from what was started here.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.tools.chaos import Target, stand_in_config
from benchmarks.tools.ledger import recomputed_s
from client import Client
from deployments.jobs.values import FINAL
from deployments.journal.database import Database
from deployments.journal.journal import Journal
from deployments.settings.reading import load_config
from deployments.settings.variants import laptop
from stages.replay import ReplayProfile
from stages.types import StageName

FILMS, FILM_S, KILLED_S, STEPS = 4, 8.0, 6.0, 100
_STATE_BYTES = 1_400_000
_PROMPT = "a fox in a snowy forest at dusk"
_POLL_S, _DEADLINE_S = 0.25, 300.0


def recomputed(
    folder: Path, profiles: Mapping[StageName, ReplayProfile], lease_s: float, state_every_s: float
) -> float:
    """Seconds of I2V that were lost; its calls give their state so often, 0: never."""
    folder.mkdir()
    film = replace(profiles["i2v"], run_s=FILM_S, steps=STEPS, state_bytes=_STATE_BYTES)
    config = stand_in_config(folder / "config.yaml", {**profiles, "i2v": film}, lease_s, state_every_s)
    with Target(config, folder / "data", folder.parent) as target, Client(target.url) as client:
        journal = Journal(Database(laptop(load_config(), data_dir=folder / "data").storage.database()))
        made: list[str] = []
        try:
            for number in range(FILMS):
                made.append(client.videos.create(_PROMPT, seed=number, until="i2v").id)
                _wait_for(lambda: _computes(journal, made[-1]))
                time.sleep(KILLED_S)
                target.kill("i2v")
                _wait_for(lambda: journal.get(made[-1]).state in FINAL)
            return recomputed_s({job_id: journal.events(job_id) for job_id in made})
        finally:
            journal.database.close()


def _computes(journal: Journal, job_id: str) -> bool:
    return any(e.kind == "stage_started" and e.data["stage"] == "i2v" for e in journal.events(job_id))


def _wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + _DEADLINE_S
    while not there():
        if time.monotonic() > end:
            raise RuntimeError(f"A film has not come on within {_DEADLINE_S:g} s.")
        time.sleep(_POLL_S)
