"""How a worker's end is told, and what it is given time for: its process is a fake, which ends as a test says."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock
from unittest.mock import create_autospec

import pytest

from asyncpool.pool import worker as module
from asyncpool.pool.states import State
from asyncpool.pool.worker import Owner, Worker
from tests.support.fake_loop import Loop
from tests.support.settings import configure
from tests.support.waiting import eventually


class FakeProcess:
    """Holds the worker's end of the connection until it hangs up, and is reaped once it has exited."""

    pid = 2**30  # more than the kernel gives

    def __init__(self, stdio: int) -> None:
        self._stdio = os.dup(stdio)
        self._exits, self._exit = os.pipe()
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._exits, self._exited)

    def hang_up(self) -> None:
        os.close(self._stdio)

    def exit(self, code: int) -> None:
        os.write(self._exit, bytes([code & 255]))

    def _exited(self) -> None:
        self._code.set_result(int.from_bytes(os.read(self._exits, 1), signed=True))
        asyncio.get_running_loop().remove_reader(self._exits)

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def kill(self) -> None: ...

    def send_signal(self, number: int) -> bool:
        return False

    def close(self) -> None:
        for descriptor in (self._exits, self._exit):
            os.close(descriptor)


class FakeWorker(Worker):
    """A worker whose process is a fake."""

    process: FakeProcess

    def _start(self, stdio: int, stderr: int, dumps: list[int]) -> FakeProcess:
        self.process = FakeProcess(stdio)
        return self.process


@asynccontextmanager
async def hung_up() -> AsyncIterator[tuple[FakeWorker, Callable[[], str]]]:
    """Give a worker that has closed its end of the connection, and what its end was told as."""
    owner: Any = create_autospec(Owner, instance=True)
    worker = FakeWorker(3, 0, configure(stderr="discard"), owner)
    life = asyncio.create_task(worker.live())
    await eventually(lambda: owner.spawned.called)
    worker.process.hang_up()
    await eventually(lambda: worker.state is State.ENDING)
    yield worker, lambda: str(owner.gone.call_args.args[1])
    await life


@pytest.mark.parametrize(
    ("code", "said"),
    [(-signal.SIGKILL, "was killed by SIGKILL while it ended"), (7, "exited with code 7"), (-11, "killed by SIGSEGV")],
)
async def test_who_ends_and_is_killed_meanwhile_is_not_told_as_killed_by_others(code: int, said: str) -> None:
    """Its exit code decides; and where that is SIGKILL, nobody knows whose it was: no word of the OOM killer."""
    async with hung_up() as (worker, told):
        worker.kill("closed", "was stopped because the pool was closed")
        worker.process.exit(code)
        await eventually(lambda: worker.state is State.GONE)
        assert said in told()
        assert "OOM" not in told()


async def test_who_is_killed_while_it_ends_but_not_by_the_pool_may_be_the_oom_killers() -> None:
    """The pool did not touch it."""
    async with hung_up() as (worker, told):
        worker.process.exit(-signal.SIGKILL)
        await eventually(lambda: worker.state is State.GONE)
        assert "OOM killer" in told()


def test_an_application_that_is_busy_while_a_worker_ends_does_not_kill_it() -> None:
    """The loop could not hear of its exit in time: that is not the worker's fault, and would hide its exit code."""
    loop = Loop()
    with mock.patch.object(asyncio, "get_running_loop", return_value=loop):
        worker = Worker(3, 0, configure(stderr="discard"), create_autospec(Owner, instance=True))
    worker.disconnected()
    loop.now += 2 * module.EXIT_GRACE  # nothing of the loop ran meanwhile
    loop.turn()
    assert worker.reason is None
    loop.now += module.EXIT_GRACE  # by now it would have heard
    loop.turn()
    assert worker.reason == module.LIVED_ON
