"""How many get through in one turn of the event loop."""

import asyncio
from itertools import pairwise

from service.images.turns import Turns


async def through_by_turn(turns: Turns, count: int) -> list[int]:
    """How many of so many, who come at once, are through after each turn of the loop."""
    through: list[int] = []

    async def come(number: int) -> None:
        await turns.take()
        through.append(number)

    tasks = [asyncio.create_task(come(number)) for number in range(count)]
    by_turn = [0]
    while len(through) < count:
        await asyncio.sleep(0)
        by_turn.append(len(through))
    await asyncio.gather(*tasks)
    assert through == list(range(count))
    return by_turn


async def test_turns_few_do_not_wait():
    turns = Turns(3)

    for _ in range(5):
        assert await through_by_turn(turns, 3) == [0, 3]
        await asyncio.sleep(0)


async def test_turns_many_are_spread_in_the_order_they_came():
    by_turn = await through_by_turn(Turns(3), 20)

    assert max(later - earlier for earlier, later in pairwise(by_turn)) == 3
    assert len(by_turn) < 20


async def test_turns_place_of_one_that_was_given_up_goes_to_the_next():
    turns = Turns(1)
    first, given_up, patient = (asyncio.create_task(turns.take()) for _ in range(3))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait_for(patient, 5)

    assert first.done()
    assert given_up.cancelled()
