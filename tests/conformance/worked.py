"""The application on a port, without Ray, and somebody who finishes every job at once with the same video."""

import threading
from pathlib import Path

import numpy as np

from client.schema import StageState
from deployments.jobs.values import Update
from stages.local.mp4 import write_mp4
from stages.types import STAGE_NAMES, Clip
from tests.deployments.api.served import Served


class Worked(Served):
    """See the top of this module."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._mp4 = folder / "made.mp4"
        write_mp4(self._mp4, [Clip(np.full((4, 32, 64, 3), 120, np.uint8), 24.0)])
        self._over = threading.Event()
        self._worker = threading.Thread(target=self._work)

    def start(self) -> None:
        super().start()
        self._worker.start()

    def stop(self) -> None:
        self._over.set()
        self._worker.join()
        super().stop()

    def _work(self) -> None:
        states = tuple(StageState(name=name, status="completed", progress=100, run_s=0.5) for name in STAGE_NAMES)
        while not self._over.wait(0.02):
            while (claimed := self.leases.claim("worker", 60.0)) is not None:
                claim = claimed[0]
                made = self.store.put_file(self._mp4, f"videos/{claim.job_id}/{claim.fence}.mp4")
                self.leases.finish(Update(claim, states), "succeeded", result=vars(made))
