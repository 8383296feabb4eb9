"""Who is measured: the floors, asyncpool, and what it could be replaced with; each in a small file of its own."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

WORKERS = 2  # of each pool

Command = Callable[[Any], Any]  # one of cold_worker.py


@dataclass(frozen=True)
class Peer:
    """A way to make a call. *target* names what opens it: `module:function` in peers/, or a file in node/peers/."""

    name: str
    target: str
    kind: Literal["floor", "own", "python", "node"]
    package: str = ""  # where it is from, when it is not part of Python or Node


OWN = Peer("asyncpool", "own:pool", "own")
BARE = Peer("floor, one child", "floors:bare", "floor")
CODEC = Peer("floor, same codec", "floors:codec", "floor")
PIPE = Peer("blocking echo, pipe", "blocking:pipe", "floor")
SOCKETPAIR = Peer("blocking echo, socketpair", "blocking:socketpair", "floor")

PYTHON = [
    Peer("ProcessPoolExecutor", "process_pool_executor:opened", "python"),
    Peer("anyio.to_process", "anyio_to_process:opened", "python", "anyio"),
    Peer("loky", "loky:opened", "python", "loky"),
    Peer("pebble", "pebble:opened", "python", "pebble"),
    Peer("deadpool-executor", "deadpool:opened", "python", "deadpool-executor"),
    Peer("aiomultiprocess", "aiomultiprocess:opened", "python", "aiomultiprocess"),
    Peer("mpire", "mpire:opened", "python", "mpire"),
    Peer("trio-parallel", "trio_parallel:opened", "python", "trio-parallel"),
]
NODE = [
    Peer("Node: generic-pool + fork", "generic_pool.js", "node", "generic-pool"),
    Peer("Node: piscina (threads)", "piscina.js", "node", "piscina"),
    Peer("Node: tinypool (process)", "tinypool.js", "node", "tinypool"),
    Peer("Node: workerpool (process)", "workerpool.js", "node", "workerpool"),
    Peer("Node: fork per request", "fork_per_request.js", "node"),
]
CALLS = [BARE, OWN, CODEC, PIPE, SOCKETPAIR, *PYTHON, *NODE]

MSGSPEC = Peer('python -c "import msgspec"', "starts:python_with_msgspec", "floor")
IMPORTED = Peer("the same, until it is imported", "starts:msgspec_imported", "floor")
READY = Peer("asyncpool, spawn to ready", "starts:worker", "own")
STARTS = [
    Peer("os.fork()", "starts:fork", "floor"),
    Peer("python -c pass", "starts:python", "floor"),
    MSGSPEC,
    IMPORTED,
    READY,
]
MEMCPY = Peer("memcpy of 64 MiB", "memory:memcpy", "floor")
OLD_MEMORY = Peer("floor, old memory", "large:old_memory", "floor")
NEW_MEMORY = Peer("floor, new memory", "large:new_memory", "floor")
LARGE = [OWN, OLD_MEMORY, NEW_MEMORY, *PYTHON]


def through(executor: Executor, command: Command) -> Callable[[Any], Awaitable[Any]]:
    """How asyncio makes a call through any executor of processes."""
    loop = asyncio.get_running_loop()
    return lambda argument: loop.run_in_executor(executor, command, argument)
