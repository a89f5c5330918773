"""Callers of an HTTP server, in processes of their own: many POSTs over connections that stay open, many open streams.

`post_load` gives the seconds of every request and of the whole; `Streams` opens server-sent events and notes how long
after its `at` each event came. Plain sockets and `http.client`, because a caller that computes takes the CPU from what
is measured. Knows the wire only.
"""

import asyncio
import http.client
import json
import multiprocessing
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SUBJECTS, PLACES = ("fox", "owl", "cat", "dog", "horse", "robot", "train", "zebra"), ("forest", "desert", "town")
PROMPTS = [
    f"a {subject} in a {place} at {time_of_day}, {style}"  # more of them than a server remembers the reading of
    for style in ("oil painting", "pencil sketch", "3D render")
    for time_of_day in ("dusk", "night", "noon")
    for place in PLACES
    for subject in SUBJECTS
]
PROCESSES = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Posted:
    """A load that has ended."""

    seconds: float
    latencies_s: Sequence[float]

    @property
    def per_s(self) -> float:
        return len(self.latencies_s) / self.seconds


def post_load(port: int, path: str, count: int, connections: int, run: str) -> Posted:
    """`count` POSTs, each with an idempotency key that begins with `run`, from another process."""
    with PROCESSES.Pool(1) as pool:
        seconds, latencies_s = pool.apply(_post_all, (port, path, count, connections, run))
    return Posted(seconds, latencies_s)


def _post_all(port: int, path: str, count: int, connections: int, run: str) -> tuple[float, list[float]]:
    numbers = iter(range(count))
    latencies_s: list[float] = []
    failed: list[str] = []
    next_number = threading.Lock()

    def post() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while not failed:
            with next_number:
                number = next(numbers, None)
            if number is None:
                break
            body = json.dumps({"prompt": PROMPTS[number % len(PROMPTS)], "seed": number})
            headers = {"content-type": "application/json", "idempotency-key": f"{run}-{number}"}
            sent = time.perf_counter()
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
            latencies_s.append(time.perf_counter() - sent)
            if answer.status != 200:
                failed.append(f"POST {path} was answered {answer.status}: {text[:500]!r}")
        connection.close()

    threads = [threading.Thread(target=post) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise RuntimeError(failed[0])
    return time.perf_counter() - began, latencies_s


class Streams:
    """`with Streams(port, paths) as streams:` has them all open; `streams.end()` waits until the server ends them."""

    def __init__(self, port: int, paths: Sequence[str]) -> None:
        ours, theirs = PROCESSES.Pipe()
        self._pipe: Any = ours
        self._process = PROCESSES.Process(target=_read_all, args=(port, list(paths), theirs), daemon=True)

    def __enter__(self) -> "Streams":
        self._process.start()
        self.opened = int(self._pipe.recv())
        return self

    def end(self) -> list[float]:
        """Seconds between `at` and the arrival, of every event that came after all streams were open."""
        latencies_s: list[float] = self._pipe.recv()
        return latencies_s

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def _read_all(port: int, paths: Sequence[str], pipe: Any) -> None:
    asyncio.run(_read(port, paths, pipe))


async def _read(port: int, paths: Sequence[str], pipe: Any) -> None:
    latencies_s: list[float] = []
    opened = asyncio.Semaphore(0)
    all_open = time.time() + 1e9

    async def read(path: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n"
        writer.write(request.encode())
        if b" 200 " not in await reader.readline():
            raise RuntimeError(f"GET {path} opens no stream.")
        opened.release()
        while line := await reader.readline():
            now = time.time()
            if line.startswith(b"data:") and (at := at_of(line[5:])) is not None and at >= all_open:
                latencies_s.append(now - at)
            if line.startswith(b"0\r"):  # the last chunk
                break
        writer.close()

    tasks = [asyncio.create_task(read(path)) for path in paths]
    for _ in tasks:
        await opened.acquire()
    all_open = time.time()
    pipe.send(len(tasks))
    await asyncio.gather(*tasks)
    pipe.send(latencies_s)


def at_of(data: bytes) -> float | None:
    """When the event of a `data:` line happened, in seconds since the epoch."""
    try:
        found = json.loads(data)["at"]
    except (ValueError, KeyError, TypeError):
        return None
    return float(found)
