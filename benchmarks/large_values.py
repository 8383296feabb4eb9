"""What do large values cost? 64 MiB there and back, through asyncpool and through its alternatives.

The *floor* is what two processes can do at all: the same bytes over the same kind of socket, blocking, into memory that
is used again and again. *New memory* is the same floor when either side receives into memory that it has just
got, as everybody must who hands the value over. The contenders take turns within each round.

A second table tells how late an event loop is while four calls carry such values: a ticker wants to wake every 10 ms.
"""

import argparse
import asyncio
import contextlib
import functools
import multiprocessing
import os
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import harness
import numpy
from cold_worker import same
from figures import Budget, Figures
from rich.console import Console

import asyncpool

OWN, EXECUTOR, FLOOR = "asyncpool", "ProcessPoolExecutor", "floor, old memory"
WORKERS = 2
TICK = 0.010  # seconds
FLOOR_WORKER = """
import socket, sys
end, size, fresh = socket.socket(fileno=0), int(sys.argv[1]), sys.argv[2] == "True"
end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**22)
memory = bytearray(size)
while True:
    memory = bytearray(size) if fresh else memory
    rest = memoryview(memory)
    while rest:
        count = end.recv_into(rest)
        if not count:
            sys.exit()
        rest = rest[count:]
    end.sendall(memory)
"""

Send = Callable[[Any], Awaitable[Any]]  # brings a value there and back


# --- the contenders --------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def floor(size: int, *, fresh: bool) -> AsyncIterator[Send]:
    ours, theirs = socket.socketpair()
    with theirs:
        arguments = (sys.executable, "-Ic", FLOOR_WORKER, str(size), str(fresh))
        child = await asyncio.create_subprocess_exec(*arguments, stdin=theirs.fileno())
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**22)
    memory = bytearray(size)

    async def send(value: Any) -> Any:
        ours.sendall(value)
        received = bytearray(size) if fresh else memory
        rest = memoryview(received)
        while rest:
            rest = rest[ours.recv_into(rest) :]
        return received

    try:
        yield send
    finally:
        ours.close()
        await child.wait()


@contextlib.asynccontextmanager
async def asyncpool_pool() -> AsyncIterator[Send]:
    async with asyncpool.Pool("cold_worker", min_size=WORKERS, max_size=WORKERS, max_message=2**28) as pool:
        yield functools.partial(pool.run, same)


@contextlib.asynccontextmanager
async def process_pool_executor() -> AsyncIterator[Send]:
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as executor:
        loop = asyncio.get_running_loop()
        yield lambda value: loop.run_in_executor(executor, same, value)


# --- measuring -------------------------------------------------------------------------------------------------------


@dataclass
class Contender:
    """One way to bring a value there and back; seconds by kind of value, and the lateness of tickers beside it."""

    name: str
    opened: Callable[[], AbstractAsyncContextManager[Send]]
    blocks: bool = False
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"bytes": [], "array": []})
    lateness: list[float] = field(default_factory=list)


def contenders(size: int) -> list[Contender]:
    """The floors, asyncpool, and what it is held against."""
    return [
        Contender(OWN, asyncpool_pool),
        Contender(EXECUTOR, process_pool_executor),
        Contender(FLOOR, functools.partial(floor, size, fresh=False), blocks=True),
        Contender("floor, new memory", functools.partial(floor, size, fresh=True), blocks=True),
    ]


async def measure(todo: Sequence[Contender], size: int, rounds: int, advance: Callable[[], None]) -> None:
    """Fill in the figures; the contenders take turns."""
    values = {"bytes": os.urandom(size), "array": numpy.frombuffer(os.urandom(size))}
    async with AsyncExitStack() as stack:
        sends = [await stack.enter_async_context(contender.opened()) for contender in todo]
        for send in sends:
            await send(values["array"])  # started, and numpy imported
        for _ in range(rounds):
            for kind, value in values.items():
                for contender, send in zip(todo, sends, strict=True):
                    contender.seconds[kind].append(await timed(send, value))
                    advance()
        for contender, send in zip(todo, sends, strict=True):
            if not contender.blocks:
                contender.lateness = await lateness(send, values["array"])


async def timed(send: Send, value: Any) -> float:
    start = time.perf_counter()
    received = await send(value)
    elapsed = time.perf_counter() - start
    assert memoryview(received).cast("B") == memoryview(value).cast("B"), "it came back as something else"
    return elapsed


async def lateness(send: Send, value: Any) -> list[float]:
    """Return how late each tick was, in seconds, while four calls were under way."""
    late = []
    loop = asyncio.get_running_loop()
    calls = asyncio.gather(*(send(value) for _ in range(4)))
    while not calls.done():
        due = loop.time() + TICK
        await asyncio.sleep(TICK)
        late.append(loop.time() - due)
    await calls
    return late


# --- results ---------------------------------------------------------------------------------------------------------


def rows(measured: Sequence[Contender]) -> list[dict[str, Any]]:
    """What table and JSON say."""
    ours = measured[0]
    return [
        {
            "name": each.name,
            **{kind: statistics.median(seconds) for kind, seconds in each.seconds.items()},
            **{f"{kind}_ratio": harness.median_ratio(ours.seconds[kind], each.seconds[kind]) for kind in each.seconds},
            "late_p50": harness.percentile(each.lateness, 50) if each.lateness else None,
            "late_max": max(each.lateness, default=None),
        }
        for each in measured
    ]


def figures(measured: Sequence[Contender], size: int, loop: str) -> Figures:
    """The results of one loop."""
    table = Figures(
        f"{size >> 20} MiB there and back, {loop} loop",
        ["", "bytes", "ratio", "array", "ratio", "late", "most"],
        own=OWN,
        caption="ratio: asyncpool over this one, median of the rounds; late: a tick every 10 ms, beside 4 arrays",
    )
    for row in rows(measured):
        cells = []
        for kind in ("bytes", "array"):
            cells += [harness.duration(row[kind]), "" if row["name"] == OWN else f"{row[f'{kind}_ratio']:.2f} x"]
        late = ["" if row[each] is None else harness.duration(row[each]) for each in ("late_p50", "late_max")]
        table.add(row["name"], *cells, *late)
    return table


def budgets(measured: Sequence[Contender], loop: str) -> list[Budget]:
    """What may be used, beside the executor and the floor with old memory."""
    by_name = {row["name"]: row for row in rows(measured)}
    limits = [("array", EXECUTOR, 0.12), ("array", FLOOR, 2.0), ("bytes", EXECUTOR, 0.3)]
    return [
        Budget(f"64 MiB {kind} there and back, {loop}", against, limit, by_name[against][f"{kind}_ratio"])
        for kind, against, limit in limits
    ]


def options() -> argparse.Namespace:
    parser = harness.parser(__doc__, "large_values", "few rounds: a first impression")
    parser.add_argument("--rounds", type=int, help="rounds (default: 15; with --quick 3)")
    parser.add_argument("--mib", type=int, default=64, help="size of a value (default: 64)")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), help="default: one after the other")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    rounds, size = chosen.rounds or (3 if chosen.quick else 15), chosen.mib * 2**20
    results: dict[str, Any] = {"benchmark": "large_values", "rounds": rounds, "mib": chosen.mib, "loops": []}
    tables, met = [], []
    for loop in [chosen.loop] if chosen.loop else ["asyncio", "uvloop"]:
        machine, measured = harness.machine(loop), contenders(size)
        harness.say_machine(console, machine)
        with harness.progress(console, 2 * rounds * len(measured)) as advance:
            harness.run(functools.partial(measure, measured, size, rounds, advance), loop)
        results["loops"].append({"machine": machine, "contenders": rows(measured)})
        tables.append(figures(measured, size, loop))
        met += budgets(measured, loop)
    results.update(machine=results["loops"][0]["machine"], budgets=[asdict(each) for each in met])
    harness.finish(console, chosen, results, tables)


if __name__ == "__main__":
    main()
