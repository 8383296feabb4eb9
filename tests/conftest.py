"""Both event loops for every async test, and a leak check around every test that may start a process."""

import asyncio
import inspect
import os
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from asyncpool import Pool
from asyncpool.testing import InlinePool
from tests.support.processes import TAG, children, descriptors, end, tagged
from tests.support.waiting import eventually_now

GUARDED = {"integration", "faults", "benchmarks"}
WARM = 3.0  # seconds that the kernel gets to clear away what was killed


@pytest.fixture(scope="session", autouse=True)
def uvloop_is_warm() -> None:
    """Let libuv open what it opens once in a process, so that no test is blamed for it."""
    uvloop.new_event_loop().close()


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run each async test on asyncio's loop and on uvloop's."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of the contract with a pool of processes and with one of threads."""
    if metafunc.definition.get_closest_marker("contract"):
        metafunc.fixturenames.append("pool_class")
        metafunc.parametrize("pool_class", [Pool, InlinePool], indirect=True, ids=lambda each: each.__name__)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each guarded async test look for left tasks while its loop still runs, and set the class of the contract."""
    for item in items:
        guarded = isinstance(item, pytest.Function) and GUARDED & set(item.path.parts)
        if guarded and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(item.fixturenames.index("nothing_is_left") + 1, "no_task_is_left")
        if guarded and item.get_closest_marker("contract") and "pool_class" not in item.fixturenames:
            # pytest has dropped it again where nobody asks for it
            item.fixturenames.insert(item.fixturenames.index("nothing_is_left") + 1, "pool_class")


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process, zombie, grandchild, descriptor or thread is left by a test in a guarded folder."""
    if not GUARDED & set(request.path.parts):
        yield
        return
    for name in ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):  # what a worker prints late must not be hidden
        monkeypatch.delenv(name, raising=False)
    tag = uuid.uuid4().hex
    monkeypatch.setenv(TAG, tag)
    old_children, old_descriptors, old_threads = children(), descriptors(), set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - old_threads:
        thread.join(WARM)  # asyncio of 3.11 has a thread per child, which ends a moment after it
    left: list[str] = []

    def look() -> bool:
        now = descriptors()
        left[:] = [
            *(f"process {pid}: {what}" for pid, what in tagged(tag).items()),
            *(f"child {pid}: {what}" for pid, what in children().items() if pid not in old_children),
            *(f"thread {thread.name}" for thread in set(threading.enumerate()) - old_threads),
        ]
        if len(now) > len(old_descriptors):
            left.extend(f"descriptor {new}" for new in sorted(now.items() - old_descriptors.items()))
        return not left

    if not eventually_now(look, WARM):
        end(tagged(tag))
        pytest.fail("this test left behind: " + ", ".join(left))


@pytest_asyncio.fixture
async def no_task_is_left() -> AsyncIterator[None]:
    """When the test ends, nothing runs on its loop any more."""
    yield
    await asyncio.sleep(0)  # what was finished in this very step may be told in the next
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"this test left behind: {left}"


@pytest.fixture
def pool_class(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Pool]:
    """The class that the test's module means by Pool; another one than Pool only in tests of the contract."""
    chosen: type[Pool] = getattr(request, "param", Pool)
    if hasattr(request.module, "Pool"):
        monkeypatch.setattr(request.module, "Pool", chosen)
    return chosen


@pytest_asyncio.fixture
async def pool(pool_class: type[Pool]) -> AsyncIterator[Pool]:
    """A pool of two workers that have the commands of the tests."""
    async with pool_class("tests.support.commands", min_size=2, max_size=2, stderr="discard") as pool:
        yield pool


@pytest.fixture
def gate(tmp_path: Path) -> "Gate":
    """A place in a command where it waits until the test lets it go on."""
    return Gate(tmp_path / "gate")


class Gate:
    """For the command ``wait_at`` and its like: tells how many calls have come there, and lets them all pass."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.command = "wait_at"

    def reached(self) -> list[int]:
        """Return the process ids of the workers that have come here, in order."""
        try:
            return [int(line) for line in Path(f"{self.path}.reached").read_text().split()]
        except FileNotFoundError:
            return []

    def open(self) -> None:
        """Let everything pass that waits here or will come."""
        Path(self.path).touch()

    def close(self) -> None:
        """Let nothing pass any more."""
        os.unlink(self.path)
