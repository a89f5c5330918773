"""One call on its way to a replica: sent when it is its turn, as often as it is taken back before it begins.

Knows Ray's handles and tickets (`deployments.order.desk`), not jobs.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from deployments.on_ray.streams import Info, pairs
from deployments.order.desk import Ticket

Pair = tuple[Any, Info]
Begun = tuple[Any, AsyncIterator[Pair], Pair]
"""A response, its stream, and what came first of that."""


async def begun(
    run: Any, inputs: Sequence[Any], about: Mapping[str, Any], ticket: Ticket | None = None, resume: Any = None
) -> Begun:
    """`run` is a handle's method; `about` are the call's other arguments. Without a ticket it is sent at once."""
    if ticket is None:
        response = run.remote(*inputs, **about)
        stream = pairs(response)
        try:
            return response, stream, await anext(stream)
        except BaseException:
            response.cancel()
            raise
    more = {} if resume is None else {"resume": resume}
    while True:
        at = await ticket.turn()
        response = run.remote(*inputs, **about, **more, call=ticket.id, at=at)
        stream = pairs(response)
        first, back = asyncio.ensure_future(_first(stream)), asyncio.ensure_future(ticket.back.wait())
        found: Pair | None = None
        try:
            await asyncio.wait({first, back}, return_when=asyncio.FIRST_COMPLETED)
            if first.done():
                found = first.result()
                return response, stream, found
            ticket.back.clear()
        finally:
            back.cancel()
            if found is None:
                first.cancel()
                response.cancel()


async def _first(stream: AsyncIterator[Pair]) -> Pair:
    return await anext(stream)
