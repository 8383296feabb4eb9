"""options(key=): calls about one thing go to the worker that is warm for it."""

import asyncio

import pytest

from asyncpool import Pool
from tests.conftest import Gate
from tests.support import commands
from tests.support.waiting import eventually


async def test_a_key_goes_where_it_was() -> None:
    """Whichever worker others would get, by any hashable key and any way to call."""
    async with Pool(commands, min_size=3, max_size=3, stderr="discard") as pool:
        keys = ["Tom", ("Fluffy", 7), frozenset({1})]
        async with pool.acquire() as first, pool.acquire() as second:
            taken = [first.pid, second.pid]
            home = {keys[0]: await pool.options(key=keys[0]).run("pid")}
        async with pool.acquire() as first:
            home[keys[1]] = await pool.options(key=keys[1]).run("pid")
        for key in keys * 3:
            pid = await pool.options(key=key).run("pid")
            assert home.setdefault(key, pid) == pid
            assert await pool.options(key=key).submit("pid") == pid
            async with pool.options(key=key).map("pid_after", [0, 0], window=1) as pids:
                assert [each async for each in pids] == [pid] * 2
        assert home[keys[0]] not in taken


async def test_a_key_makes_nobody_wait(gate: Gate) -> None:
    """When its worker is busy another takes the call, and is the key's worker from then on."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        about_tom = pool.options(key="Tom")
        running = asyncio.create_task(about_tom.run("wait_at", gate.path))
        await eventually(gate.reached)
        other = await about_tom.run("pid")
        assert other not in gate.reached()
        gate.open()
        await running
        assert await pool.run("pid") != other
        assert await about_tom.run("pid") == other


async def test_a_key_is_forgotten_with_its_worker() -> None:
    """The next call goes wherever one would without a key."""
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        about_tom = pool.options(key="Tom")
        pid = await about_tom.run("pid")
        with pytest.raises(Exception, match="SIGKILL"):
            await about_tom.run("crash")
        home = await about_tom.run("pid")
        assert home != pid
        assert await about_tom.run("pid") == home


def test_a_key_can_be_hashed() -> None:
    """Said when the options are made."""
    with pytest.raises(TypeError, match=r"key= takes what can be hashed, as a key of a dict, not \[\]"):
        Pool(commands).options(key=[])  # type: ignore[arg-type]
