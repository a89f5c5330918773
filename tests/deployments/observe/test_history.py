"""The pools' last hour: bounded, looked at by one task at a time, and what Ray says of memory."""

import asyncio

from client.schema import Pools, PoolState
from deployments.errors import UnavailableError
from deployments.observe.history import EVERY_S, SPAN_S, PoolHistory, memory_of, moment_of

AGENT = """
# TYPE ray_component_rss_mb gauge
ray_component_rss_mb{Component="ray::ServeReplica:magicvideo:v2v",SessionName="s",Version="2.60.0"} 812.5
ray_component_rss_mb{NodeAddress="10.0.0.2",Component="ray::ServeReplica:magicvideo:v2v.run",pid="7"} 100.0
ray_component_rss_mb{Component="ray::ServeReplica:magicvideo:pipeline",pid="8"} 90.5
ray_component_rss_mb{Component="ray::IDLE"} 70.0
ray_component_uss_mb{Component="ray::ServeReplica:magicvideo:t2i"} 70.0
"""
POOLS = Pools(stages=[PoolState(stage="t2i", replicas=2, wanted=3, queued=4, running=1, utilisation=0.5)])


def test_memory_is_that_of_a_deployments_replicas_on_all_nodes() -> None:
    assert memory_of([AGENT, AGENT]) == {"v2v": 1_825_000_000, "pipeline": 181_000_000}


async def test_an_hour_is_kept_and_no_more() -> None:
    looked, seen, asked = 0, PoolHistory(every_s=0.0), asyncio.Event()

    async def read() -> Pools:
        nonlocal looked
        looked += 1
        if looked == 500:
            asked.set()
        if looked % 2:
            raise UnavailableError("Ray Serve", 5.0)
        return POOLS

    async def nodes() -> list[str | None]:
        return [AGENT, None]

    async def now() -> float:
        return 0.0

    seen.watch(read, nodes, now)
    seen.watch(read, nodes, now)  # in the place of the first
    await asked.wait()
    assert seen.is_watched
    assert len(seen.moments) == SPAN_S / EVERY_S == 180
    assert seen.moments[-1].queued == moment_of(POOLS, 0.0).queued == [4]
    assert seen.memory["v2v"] == 912_500_000
    assert len(asyncio.all_tasks()) == 2  # this one and one that looks
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
