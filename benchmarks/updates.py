"""How many updates a second come out of a running command? A generator that yields numbers, and a consumer that counts.

The *floor* is a child that writes frames as small as theirs, each by a blocking write, to a BufferedProtocol that finds
and counts them: nothing decodes a value, nobody is woken, and no credit holds the writer back. They take turns.
"""

import argparse
import asyncio
import socket
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import harness
from figures import Budget, Figures
from rich.console import Console
from updates_worker import numbers

import asyncpool
from asyncpool.protocol import messages, wire

OWN, FLOOR = "asyncpool", "floor"
FLOOR_WRITER = """
import os, sys
frame = bytes.fromhex(sys.argv[2])
for _ in range(int(sys.argv[1])):
    os.write(1, frame)
"""


class Counter(asyncio.BufferedProtocol):
    """Counts frames until the end."""

    def __init__(self) -> None:
        self._reader = wire.FrameReader(2**20)
        self.get_buffer = lambda _: self._reader.get_buffer()  # type: ignore[method-assign]
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun = asyncio.Event()
        self.count = 0

    def buffer_updated(self, nbytes: int) -> None:
        self.count += len(self._reader.received(nbytes))
        self.begun.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


async def floor(count: int) -> float:
    """Return the frames per second that come from a child, from the first that has come on."""
    ours, theirs = socket.socketpair()
    frame = wire.frame(messages.encode([35, 1, 123_456, []]))
    transport, counter = await asyncio.get_running_loop().create_connection(Counter, sock=ours)
    with theirs:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-Ic", FLOOR_WRITER, str(count), frame.hex()), stdout=theirs.fileno()
        )
    await counter.begun.wait()
    first, started = counter.count, time.perf_counter()
    await counter.ended
    taken = time.perf_counter() - started
    transport.close()
    await child.wait()
    return (count - first) / taken


async def own(count: int) -> float:
    """Return the updates per second that a consumer takes, from the first on."""
    async with asyncpool.Pool("updates_worker", min_size=1, max_size=1) as pool, pool.stream(numbers, count) as updates:
        await anext(updates)
        started = time.perf_counter()
        async for _ in updates:
            pass
        return (count - 1) / (time.perf_counter() - started)


def measure(loop: str, rounds: int, count: int, advance: Callable[[], None]) -> dict[str, list[float]]:
    """Return the rates of each round."""
    found: dict[str, list[float]] = {FLOOR: [], OWN: []}
    ways = [(FLOOR, floor), (OWN, own)]
    for number in range(1 + rounds):  # the first does not count
        for name, one in ways:
            rate = harness.run(lambda one=one: one(count), loop)
            if number:
                found[name].append(rate)
            advance()
        ways.reverse()
    return found


def table(found: dict[str, list[float]], loop: str) -> Figures:
    figures = Figures(f"Updates, {loop} loop", ["", "updates", "ratio"], caption="ratio: to the floor", own=OWN)
    for name, rates in found.items():
        ratio = harness.median_ratio(rates, found[FLOOR])
        figures.add(name, f"{statistics.median(rates):,.0f}/s", f"{ratio:.2f} x")
    return figures


def budget(found: dict[str, list[float]], loop: str) -> Budget:
    ratio = harness.median_ratio(found[OWN], found[FLOOR])
    return Budget(f"updates of a stream, {loop}", "one-way frames", 0.4, ratio, at_least=True)


def options() -> argparse.Namespace:
    few = "few updates: a first impression"
    return harness.parser(__doc__, "updates", few, rounds="9; with --quick 1").parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    rounds, count = chosen.rounds or (1 if chosen.quick else 9), 5_000 if chosen.quick else 200_000

    def of(machine: dict[str, Any]) -> harness.Told:
        loop = machine["loop"]
        with harness.progress(console, 2 * (1 + rounds)) as advance:
            found = measure(loop, rounds, count, advance)
        return harness.Told({"rates": found}, [table(found, loop)], [budget(found, loop)])

    harness.on_each_loop(console, chosen, {"benchmark": "updates", "rounds": rounds}, of)


if __name__ == "__main__":
    main()
