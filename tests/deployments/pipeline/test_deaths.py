"""Which calls the death of a replica is charged to."""

import asyncio

from deployments.pipeline.deaths import Deaths, Try


async def charged(*tries: tuple[str | None, Try]) -> list[bool]:
    deaths = Deaths()
    return list(await asyncio.gather(*(deaths.charged(replica, own) for replica, own in tries)))


async def test_the_call_on_the_device_is_charged_and_the_one_behind_it_is_not() -> None:
    assert await charged(("a", Try(2.0)), ("a", Try(1.0, began=True))) == [False, True]


async def test_a_batch_is_charged_as_a_whole() -> None:
    had = (("a", Try(1.0, began=True)), ("a", Try(2.0, began=True)), ("a", Try(3.0)))
    assert await charged(*had) == [True, True, False]


async def test_a_call_that_kills_before_it_can_say_that_it_began_is_the_one_that_was_sent_first() -> None:
    assert await charged(("a", Try(2.0)), ("a", Try(1.0)), ("b", Try(3.0))) == [False, True, True]


async def test_a_death_of_which_nobody_knows_the_replica_is_charged() -> None:
    assert await charged((None, Try(1.0)), (None, Try(2.0))) == [True, True]
