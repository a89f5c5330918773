"""What Ray's agents tell: each living node has one, whose text holds the counters and histograms of its processes.

Gives the texts as they are, in Prometheus' format. Knows nothing of what is counted.
"""

import asyncio
import logging
import ssl
from collections.abc import Sequence

import httpx
import ray

from deployments.bulkheads import Bulkhead

logger = logging.getLogger(__name__)

POOL = "# pool "
_AGENT_S = 5.0
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # agents speak plain HTTP; to load authorities would take 20 ms
_AT_RAY = Bulkhead("Ray", threads=1, wait_s=_AGENT_S)


async def node_texts() -> Sequence[str | None]:
    """From the agents of the living nodes of the Ray that this process belongs to; line one is `POOL` and the pool."""
    nodes = [node for node in await _AT_RAY.run(ray.nodes) if node["Alive"]]
    urls = [f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics" for node in nodes]
    async with httpx.AsyncClient(timeout=_AGENT_S, trust_env=False, verify=_NO_TLS) as http:
        texts = await asyncio.gather(*(_text(http, url) for url in urls))
    pools = [(node.get("Labels") or {}).get("pool", "none") for node in nodes]
    return [None if text is None else f"{POOL}{pool}\n{text}" for pool, text in zip(pools, texts, strict=True)]


async def _text(http: httpx.AsyncClient, url: str) -> str | None:
    try:
        answer = await http.get(url)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        logger.warning("The metrics of a node cannot be read at %s: %s", url, error)
        return None
    return answer.text
