"""How true the estimates are that a client is told: `eta_s` of mixed jobs on a real tiny server.

Jobs differ in the last stage, the seconds, the steps and the factor, so that medians of whole jobs would be far off.
They are sent one after another, each told when it is accepted how long it will take, after the server has learnt from
others. Not all at once: where the stages share two CPUs, a job that comes later slows the one before.
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client import Client, Video
from cluster.server_process import ServerProcess

PROMPT = "a fox in a snowy forest at dusk"
LEARNS_S = 11.0  # so long may pass until the server looks at what its jobs took
JOB_S = 900.0
Asked = Mapping[str, Any]
LEARNT: Sequence[Asked] = (
    {"seconds": "1", "steps": 6},
    {"until": "i2v", "seconds": "1", "steps": 4},
    {"until": "t2i", "steps": 30},
    {"until": "i2v", "seconds": "2"},
    {"until": "v2v", "seconds": "2", "steps": 20},
    {"until": "t2i", "steps": 4},
    {"seconds": "2"},
)
TOLD: Sequence[Asked] = (
    {"until": "t2i"},
    {"until": "t2i", "steps": 50},
    {"until": "i2v", "seconds": "1", "steps": 8},
    {"until": "i2v", "seconds": "4", "steps": 6},
    {"until": "v2v", "seconds": "1"},
    {"until": "v2v", "seconds": "2", "steps": 8},
    {"seconds": "1", "steps": 4},
    {"seconds": "1", "factor": 2},
    {"seconds": "2", "steps": 8},
    {"seconds": "2", "guidance": 1.0},
    {"until": "i2v", "seconds": "2", "steps": 20},
    {"seconds": "4", "steps": 6},
)


def eta_errors(quick: bool) -> list[float]:
    """|told - taken| / taken of each job."""
    learnt, told = (these[:3] if quick else these for these in (LEARNT, TOLD))
    with (
        tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as folder,
        ServerProcess("--laptop", "--data-dir", Path(folder) / "data") as server,
        Client(server.url) as client,
    ):
        for asked in learnt:
            ended(client, client.videos.create(PROMPT, seed=7, **asked))
        time.sleep(LEARNS_S)
        return [error_of(client, asked) for asked in told]


def error_of(client: Client, asked: Asked) -> float:
    """Of one job, from its acceptance to its end."""
    began = time.monotonic()
    video = client.videos.create(PROMPT, seed=7, **asked)
    done = ended(client, video)
    took_s, told_s = time.monotonic() - began, video.eta_s
    if told_s is None:
        raise RuntimeError(f"The server gave no estimate for {dict(asked)}; it has learnt nothing.")
    error = abs(told_s - took_s) / took_s
    share = " ".join(f"{stage.name} {stage.run_s:.2f}" for stage in done.stages if stage.run_s)
    print(f"told {told_s:5.1f} s  took {took_s:5.1f} s  error {error:.2f}  {share}  {dict(asked)}", flush=True)
    return error


def ended(client: Client, video: Video) -> Video:
    deadline = time.monotonic() + JOB_S
    while video.status not in ("completed", "failed"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{video.id} is {video.status} after {JOB_S:g} s.")
        time.sleep(0.05)
        video = client.videos.retrieve(video.id)
    return video
