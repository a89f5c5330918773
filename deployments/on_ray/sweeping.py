"""Collections of garbage, one for many reasons.

Ray leaves reference cycles around arguments and references, which keep outputs in shared memory until Python collects.
A collection after each call took two fifths of the pipeline's time; so each only asks for one, soon.
"""

import asyncio
import gc

SOON_S = 0.5
_pending: dict[asyncio.AbstractEventLoop, asyncio.TimerHandle] = {}


def collect_soon() -> None:
    """Have the running loop collect within `SOON_S`; asking again before that changes nothing."""
    loop = asyncio.get_running_loop()
    if loop not in _pending:
        _pending[loop] = loop.call_later(SOON_S, _collect, loop)


def _collect(loop: asyncio.AbstractEventLoop) -> None:
    del _pending[loop]
    gc.collect()
