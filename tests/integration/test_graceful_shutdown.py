"""graceful_shutdown and its block: how it may end, and what else may happen meanwhile."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator

import pytest

from asyncpool import Pool, PoolClosed, PoolError, graceful_shutdown
from tests.conftest import Gate
from tests.support import commands
from tests.support.waiting import eventually, steps

SIGNAL = signal.SIGUSR1


@pytest.fixture(autouse=True)
def heard() -> Iterator[list[int]]:
    """What comes to the handler that was there before; without one, a failing test would kill the whole run."""
    numbers: list[int] = []
    before = signal.signal(SIGNAL, lambda number, _frame: numbers.append(number))
    yield numbers
    signal.signal(SIGNAL, before)


def ask() -> None:
    os.kill(os.getpid(), SIGNAL)


async def begun(pool: Pool, gate: Gate) -> asyncio.Task[object]:
    """Return a call that waits at the gate."""
    call = asyncio.create_task(pool.run("wait_at", gate.path, "served"))
    await eventually(gate.reached)
    return call


async def test_without_a_signal_nothing_happens(pool: Pool, heard: list[int]) -> None:
    """The block ends as it would, the pool stays open, and the handler of before is back."""
    async with graceful_shutdown(pool, signals=[SIGNAL]) as stop:
        assert await pool.run("echo", 1) == 1
    assert stop.requested is False
    assert await pool.run("echo", 2) == 2
    ask()
    await eventually(lambda: heard == [SIGNAL])


async def test_a_signal_named_twice_is_one(heard: list[int]) -> None:
    """The handler of before is asked for once, before ours is there: it comes back."""
    before = signal.getsignal(SIGNAL)
    async with graceful_shutdown(Pool(), signals=(SIGNAL, int(SIGNAL), SIGNAL)):
        pass
    assert signal.getsignal(SIGNAL) is before  # the default one would end the whole run
    ask()
    await eventually(lambda: heard == [SIGNAL])


async def test_the_block_is_cancelled_once_and_only_that_is_swallowed(pool: Pool, gate: Gate) -> None:
    """Accepted calls are served, then the block is cancelled; the task goes on as if it had never been."""
    task = asyncio.current_task()
    assert task is not None
    call = await begun(pool, gate)
    async with asyncio.timeout(10), graceful_shutdown(pool, signals=[SIGNAL]) as stop:
        ask()
        await stop.wait()
        with pytest.raises(PoolClosed):
            await pool.run("echo")
        gate.open()
        try:
            await asyncio.Event().wait()
        finally:
            assert await call == "served"
            assert pool.workers() == []
    assert stop.requested is True
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_block_that_ends_by_itself_waits_for_the_pools(pool: Pool, gate: Gate) -> None:
    """A server that stopped accepting leaves the block; the accepted calls are served behind it."""
    call = await begun(pool, gate)
    async with asyncio.timeout(10), graceful_shutdown(pool, signals=[SIGNAL]) as stop:
        ask()
        await stop.wait()
        gate.open()
    assert call.result() == "served"
    assert pool.workers() == []


async def test_a_block_that_raises_ends_the_grace(pool: Pool, gate: Gate) -> None:
    """Its own error passes, and nobody waits for what still runs."""

    async def body() -> None:
        async with asyncio.timeout(10), graceful_shutdown(pool, grace=600, signals=[SIGNAL]) as stop:
            ask()
            await stop.wait()
            raise ZeroDivisionError

    call = await begun(pool, gate)
    with pytest.raises(ZeroDivisionError):
        await body()
    with pytest.raises(PoolClosed, match="while"):
        await call


@pytest.mark.parametrize("deep", [False, True])
async def test_a_group_of_refused_calls_ends_no_grace(pool: Pool, gate: Gate, deep: bool) -> None:
    """As one refused call: a task group wraps it, but what was accepted is served all the same."""
    left: list[str] = []

    async def refused() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(pool.run("echo"))

    async def body() -> None:
        async with graceful_shutdown(pool, grace=600, signals=[SIGNAL]) as stop:
            ask()
            await stop.wait()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(refused() if deep else pool.run("echo"))
            finally:
                left.append("body")

    call = await begun(pool, gate)
    task = asyncio.create_task(body())
    async with asyncio.timeout(10):
        await eventually(lambda: left)
        await steps(10)  # enough for the end of the grace to reach the worker
        gate.open()
        with pytest.raises(ExceptionGroup) as raised:
            await task
    assert raised.value.split(PoolClosed)[1] is None
    assert await call == "served"


async def test_a_group_with_another_error_ends_the_grace(pool: Pool, gate: Gate) -> None:
    """A refused call beside it excuses nothing."""

    async def body() -> None:
        async with asyncio.timeout(10), graceful_shutdown(pool, grace=600, signals=[SIGNAL]) as stop:
            ask()
            await stop.wait()
            raise ExceptionGroup("two", [PoolClosed("refused"), ZeroDivisionError()])

    call = await begun(pool, gate)
    with pytest.raises(ExceptionGroup, match="two"):
        await body()
    with pytest.raises(PoolClosed, match="while"):
        await call


@pytest.mark.parametrize("when", ["before", "closing", "with ours"])
async def test_a_cancellation_from_outside_passes(pool: Pool, gate: Gate, when: str) -> None:
    """Before the signal, while the pools close, or while our own is on its way out: it is never swallowed."""
    inside: list[str] = []

    async def body() -> None:
        async with graceful_shutdown(pool, grace=600, signals=[SIGNAL]) as stop:
            inside.append("in")
            try:
                await asyncio.Event().wait()
            finally:
                if stop.requested and when == "with ours":
                    task.cancel()
                    await asyncio.sleep(0)
        inside.append("after")

    call = await begun(pool, gate)
    task = asyncio.create_task(body())
    await eventually(lambda: inside)
    if when == "closing":
        ask()
        await eventually(lambda: "closing" in repr(pool))
    if when == "with ours":
        ask()
        gate.open()
    else:
        task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert inside == ["in"]
    assert task.cancelling() == 1
    gate.open()
    if when == "closing":
        with pytest.raises(PoolClosed):
            await call
    else:
        assert await call == "served"


async def test_a_cancellation_while_the_block_waits_for_the_pools_passes(pool: Pool, gate: Gate) -> None:
    """The block has ended by itself: the grace ends, and the cancellation is raised."""

    async def body() -> None:
        async with graceful_shutdown(pool, grace=600, signals=[SIGNAL]) as stop:
            ask()
            await stop.wait()

    call = await begun(pool, gate)
    task = asyncio.create_task(body())
    await eventually(lambda: "closing" in repr(pool))
    task.cancel()
    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await task
    with pytest.raises(PoolClosed):
        await call


async def test_the_second_signal_ends_the_grace(pool: Pool, gate: Gate) -> None:
    """What hangs is stopped at once, and the block left as after the first."""
    call = await begun(pool, gate)
    async with asyncio.timeout(10), graceful_shutdown(pool, grace=600, signals=[SIGNAL]) as stop:
        ask()
        await stop.wait()
        ask()
        await asyncio.Event().wait()
    with pytest.raises(PoolClosed, match="while"):
        await call


class Stuck(Pool):
    """Cannot be closed."""

    async def aclose(self, grace: float = 10.0) -> None:
        raise OSError(f"grace {grace:g}")


async def test_a_pool_that_cannot_be_closed_holds_up_no_other(pool: Pool) -> None:
    """The others close, the block is left, and then the failure is raised; several come as a group."""

    async def body(*pools: Pool) -> None:
        async with asyncio.timeout(10), graceful_shutdown(*pools, signals=[SIGNAL]):
            ask()
            await asyncio.Event().wait()

    with pytest.raises(OSError, match="grace 25"):
        await body(Stuck(), pool)
    assert "closed" in repr(pool)
    with pytest.raises(ExceptionGroup, match="several pools"):
        await body(Stuck(), pool, Stuck())


async def test_a_failure_to_close_hides_no_error_of_the_block(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged then."""

    async def body() -> None:
        async with graceful_shutdown(Stuck(), signals=[SIGNAL]):
            ask()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ZeroDivisionError from None

    with pytest.raises(ZeroDivisionError):
        await body()
    assert [record.message for record in caplog.records] == ["a pool could not be closed at shutdown"]


async def test_a_pool_may_be_entered_within_the_block() -> None:
    """Its own end meets a closed pool."""
    async with (
        asyncio.timeout(10),
        graceful_shutdown(inner := Pool(commands, max_size=1, stderr="discard"), signals=[SIGNAL]),
        inner,
    ):
        ask()
        await asyncio.Event().wait()
    assert inner.workers() == []


async def test_a_signal_while_a_pool_starts_ends_the_start() -> None:
    """start() raises PoolClosed, and the block with it: no worker is left."""
    pool = Pool("tests.support.slow_start", stderr="discard")

    async def body() -> None:
        async with asyncio.timeout(10), graceful_shutdown(pool, signals=[SIGNAL]):
            start = asyncio.create_task(pool.start())
            await eventually(pool.workers)
            ask()
            await start

    with pytest.raises(PoolClosed):
        await body()
    assert pool.workers() == []


async def test_it_is_for_the_main_thread() -> None:
    """Elsewhere no signal would ever come: the error says what to do."""
    found: list[BaseException] = []

    async def enter() -> None:
        async with graceful_shutdown(Pool()):
            raise AssertionError

    def run() -> None:
        try:
            asyncio.run(enter())
        except PoolError as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    await eventually(lambda: not thread.is_alive())
    thread.join()
    assert "main thread" in str(found[0])
    assert "aclose" in str(found[0])


async def test_it_is_for_a_task(heard: list[int]) -> None:
    """A callback of the loop is none."""
    shutdown = graceful_shutdown(Pool(), signals=[SIGNAL])
    result: list[str] = []

    def callback() -> None:
        entering = shutdown.__aenter__()
        try:
            entering.send(None)
        except PoolError as error:
            result.append(str(error))

    asyncio.get_running_loop().call_soon(callback)
    await eventually(lambda: result)
    assert "in a task" in result[0]


async def test_it_is_for_one_block(heard: list[int]) -> None:
    """A second one needs an object of its own; and what the failed entering installed is gone."""
    shutdown = graceful_shutdown(Pool(), signals=[SIGNAL])
    async with shutdown:
        pass
    with pytest.raises(PoolError, match="make a new one"):
        await shutdown.__aenter__()
    ask()
    await eventually(lambda: heard == [SIGNAL])


@pytest.mark.parametrize(
    ("pools", "options", "error", "text"),
    [
        (0, {}, TypeError, "at least one"),
        (["kittens"], {}, TypeError, "takes pools, not 'kittens'"),
        (1, {"grace": "10"}, TypeError, "grace takes seconds"),
        (1, {"grace": -1}, ValueError, "grace must be 0"),
        (1, {"grace": float("nan")}, ValueError, "grace must be 0"),
        (1, {"signals": ()}, ValueError, "at least one signal"),
        (1, {"signals": signal.SIGTERM}, TypeError, r"takes several, as in signals=\(signal.SIGTERM,\), not one"),
        (1, {"signals": int(signal.SIGINT)}, TypeError, r"takes several, as in signals=\(signal.SIGINT,\), not one"),
        (1, {"signals": 0}, TypeError, r"takes several, as in signals=\(0,\), not one"),
        (1, {"signals": [signal.SIGKILL]}, ValueError, "can be caught"),
        (1, {"signals": [0]}, ValueError, "can be caught"),
        (1, {"signals": ["SIGTERM"]}, ValueError, "can be caught"),
    ],
)
def test_what_is_no_pool_no_time_and_no_signal_is_refused(
    pools: int | list[str], options: dict[str, object], error: type[Exception], text: str
) -> None:
    """At once, before anything is installed; the grace with the errors of aclose."""
    given = [Pool() for _ in range(pools)] if isinstance(pools, int) else pools
    with pytest.raises(error, match=text):
        graceful_shutdown(*given, **options)  # type: ignore[arg-type]
