"""Who holds back until the pool takes one more call."""

import asyncio

from asyncpool.pool.room import Room
from tests.support.waiting import steps


class Queue:
    """A pool that takes so many calls, and those who hold back."""

    def __init__(self) -> None:
        self.free = 0
        self.entered: list[str] = []
        self.room = Room(asyncio.get_running_loop(), lambda: self.free <= 0)

    async def enter(self, name: str) -> None:
        await self.room.wait()
        self.free -= 1
        self.entered.append(name)
        self.room.look()


async def test_whoever_came_first_goes_first():
    """One for each place, in order."""
    queue = Queue()
    tasks = [asyncio.create_task(queue.enter(name)) for name in "abc"]
    await steps(2)
    assert queue.entered == []
    queue.free = 2
    queue.room.look()
    await steps(4)
    assert queue.entered == ["a", "b"]
    queue.free = 1
    queue.room.look()
    await asyncio.gather(*tasks)
    assert queue.entered == ["a", "b", "c"]


async def test_one_that_leaves_passes_its_turn_on():
    """Whether it leaves before it is woken, or after."""
    queue = Queue()
    first, second, third, fourth = (asyncio.create_task(queue.enter(name)) for name in "abcd")
    await steps(2)
    first.cancel()
    queue.free = 1
    queue.room.look()  # wakes the second
    second.cancel()
    await steps(4)
    assert queue.entered == ["c"]
    fourth.cancel()
    await asyncio.wait([first, second, third, fourth])
    assert not queue.room.sought


async def test_nobody_holds_back_from_a_pool_that_is_closed():
    """It is for the pool to say that."""
    queue = Queue()
    tasks = [asyncio.create_task(queue.enter(name)) for name in "abc"]
    await steps(2)
    queue.room.close()
    await asyncio.gather(*tasks)
    await queue.enter("d")
    assert queue.entered == ["a", "b", "c", "d"]
