"""Seconds and memory of a real tiny video: `python -m benchmarks.end_to_end [--quick]`.

Starts the server that `make serve` starts, on a free port with a data folder of its own, makes one video to warm it up
and then `--videos` more, one after the other, through the client, each downloaded as an mp4.

    seconds                              POST until the mp4 is on disk; the median, like all seconds here
    seconds_t2i, _i2v, _v2v, _vfi        what the stages computed (their `run_s`; VFI's includes the encoder, and runs
                                         partly beside V2V, so that the four need not add up)
    server_gib                           the most that the server and all processes below it held at once, Ray's
                                         included, looked at once a second; shared pages are counted once

`--quick` makes one timed video. `--config` serves another file, for instance one whose stages are replayed.
"""

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.tools.processes import PeakOfTree
from benchmarks.tools.result import parser_of, result
from client import Client, Video
from cluster.server_process import ServerProcess
from deployments.settings.reading import CONFIG_PATH
from stages.types import STAGE_NAMES

PROMPTS = (
    "a fox in a snowy forest at dusk",
    "a whale on a beach at dusk",
    "a rabbit in a meadow by day",
)
VIDEOS = 3
VIDEO_S = 900.0  # longer is an error


def timed_video(client: Client, prompt: str, path: Path) -> tuple[float, Video]:
    """Seconds until the mp4 is on disk, and the finished job."""
    started = time.monotonic()
    video = client.videos.create_and_wait(prompt, seed=7, timeout_s=VIDEO_S)
    client.videos.download(video.id, path)
    return time.monotonic() - started, video


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of("end_to_end", __doc__, quick="one timed video")
    parser.add_argument("--videos", type=int, help=f"timed videos ({VIDEOS})")
    parser.add_argument("--config", type=Path, default=CONFIG_PATH, help="Serve config file (%(default)s)")
    options = parser.parse_args(arguments)
    videos = options.videos if options.videos is not None else 1 if options.quick else VIDEOS
    if videos < 1:
        parser.error(f"--videos is {videos}; at least one is needed")
    with tempfile.TemporaryDirectory(prefix="magicvideo-bench-") as folder:
        measure(options.config, Path(folder), videos)


def measure(config: Path, folder: Path, videos: int) -> None:
    """Run everything and print it."""
    started = time.monotonic()
    with (
        ServerProcess("--laptop", "--config", config.absolute(), "--data-dir", folder / "data") as server,
        PeakOfTree(server.pid) as peak,
        Client(server.url) as client,
    ):
        print(f"ready after {time.monotonic() - started:.1f} s", flush=True)
        rows = []
        for index in range(videos + 1):
            prompt = PROMPTS[index % len(PROMPTS)]
            seconds, video = timed_video(client, prompt, folder / "video.mp4")
            rows.append({"seconds": seconds, **{f"seconds_{s.name}": s.run_s or 0.0 for s in video.stages}})
            share = "  ".join(f"{name} {rows[-1][f'seconds_{name}']:.2f}" for name in STAGE_NAMES)
            print(f"{'video ' + str(index) if index else 'warm-up'}  {seconds:6.2f} s   {share}   {prompt}", flush=True)
    medians = {name: statistics.median(row[name] for row in rows[1:]) for name in rows[0]}
    result("end_to_end", {**medians, "server_gib": peak.bytes / 2**30})


if __name__ == "__main__":
    main()
