"""A worker's conversation, in interleavings that no test can bring about from outside."""

import asyncio
import os
from typing import Any, cast

import pytest

from asyncpool.worker.channel import Channel
from asyncpool.worker.leave import Leave
from asyncpool.worker.loop import AsyncSession
from asyncpool.worker.registry import Registry
from asyncpool.worker.running import Running
from asyncpool.worker.session import Session


class Watched(Running):
    """Remembers what it was told of whether it shall stop."""

    def __init__(self) -> None:
        super().__init__(1, None, 1, {})
        self.told: list[bool] = []

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "stop":
            self.told.append(value)
        super().__setattr__(name, value)


def session() -> Session:
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        return Session(Channel(nothing, nothing, 1000), Registry([], registered_only=False), 0)
    finally:
        os.close(nothing)


@pytest.mark.parametrize("on_a_loop", [False, True])
@pytest.mark.parametrize("stopping", [False, True])
async def test_the_wait_for_credit_takes_no_cancel_back(*, on_a_loop: bool, stopping: bool) -> None:
    """Another thread may note one at any moment. Where no credit will come any more, the call shall stop."""
    here = AsyncSession(session(), cast("Leave", None)) if on_a_loop else session()
    here.stopping = stopping
    running = Watched()
    await asyncio.to_thread(here.wait_for_credit, running)
    assert running.told == ([True] if stopping else [])
    here.close()
