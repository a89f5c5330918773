"""Which calls a dead replica is charged to: those on its device, not those that waited behind them.

A replica that dies takes all its calls along. Each of them says so here and waits a moment, until the others have said
so too; then it is charged if it had begun, or where none had, if it was sent first. Belongs to one event loop.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass

GRACE_S = 0.25  # in which all callers of a replica have learnt of its death
_KEPT_S = 30.0


@dataclass
class Try:
    """One sending of a call."""

    sent_s: float = 0.0  # monotonic
    began: bool = False
    lost_s: float = 0.0  # of computing that came to nothing


class Deaths:
    """One for each pipeline replica."""

    def __init__(self) -> None:
        self._had: dict[str, list[Try]] = defaultdict(list)

    async def charged(self, replica: str | None, own: Try) -> bool:
        """Whether the death of that replica, as Ray numbers it, counts against this call of it."""
        if replica is None:
            await asyncio.sleep(GRACE_S)
            return True
        had = self._had[replica]
        if not had:
            asyncio.get_running_loop().call_later(_KEPT_S, self._had.pop, replica, None)
        had.append(own)
        await asyncio.sleep(GRACE_S)
        if any(one.began for one in had):
            return own.began
        return own.sent_s <= min(one.sent_s for one in had)
