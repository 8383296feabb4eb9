"""Who is measured: the floors, asyncpool, and what it could be replaced with; each in a small file of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

from cold_worker import trivial

WORKERS = 2  # of each pool


@dataclass(frozen=True)
class Peer:
    """A way to make a call. *target* names what opens it: `module:function` in peers/, or a file in node/peers/."""

    name: str
    target: str
    kind: Literal["floor", "own", "python", "node"]


OWN = Peer("asyncpool", "own:pool", "own")
BARE = Peer("floor, one child", "floors:bare", "floor")
CODEC = Peer("floor, same codec", "floors:codec", "floor")
PIPE = Peer("blocking echo, pipe", "blocking:pipe", "floor")
SOCKETPAIR = Peer("blocking echo, socketpair", "blocking:socketpair", "floor")

PYTHON = [
    Peer("ProcessPoolExecutor", "process_pool_executor:opened", "python"),
    Peer("anyio.to_process", "anyio_to_process:opened", "python"),
    Peer("loky", "loky:opened", "python"),
    Peer("pebble", "pebble:opened", "python"),
    Peer("deadpool-executor", "deadpool:opened", "python"),
    Peer("aiomultiprocess", "aiomultiprocess:opened", "python"),
    Peer("mpire", "mpire:opened", "python"),
    Peer("trio-parallel", "trio_parallel:opened", "python"),
]
NODE = [
    Peer("Node: generic-pool + fork", "generic_pool.js", "node"),
    Peer("Node: piscina (threads)", "piscina.js", "node"),
    Peer("Node: tinypool (process)", "tinypool.js", "node"),
    Peer("Node: workerpool (process)", "workerpool.js", "node"),
    Peer("Node: fork per request", "fork_per_request.js", "node"),
]
CALLS = [BARE, OWN, CODEC, PIPE, SOCKETPAIR, *PYTHON, *NODE]

STARTS = [
    Peer("os.fork()", "starts:fork", "floor"),
    Peer("python -c pass", "starts:python", "floor"),
    Peer('python -c "import msgspec"', "starts:python_with_msgspec", "floor"),
    Peer("asyncpool, spawn to ready", "starts:worker", "own"),
]
MEMCPY = Peer("memcpy of 64 MiB", "memory:memcpy", "floor")


def through(executor: Executor) -> Callable[[int], Awaitable[Any]]:
    """How asyncio makes a call through any executor of processes."""
    loop = asyncio.get_running_loop()
    return lambda number: loop.run_in_executor(executor, trivial, number)
