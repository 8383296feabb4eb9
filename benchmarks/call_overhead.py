"""What does the pool itself cost? A command that does nothing, through asyncpool and through its alternatives.

One call after another is held against the *floor*: the same frames over the same kind of socket to one child, with
nothing that a pool adds; it stands below, so that everybody can judge whether it is honest. 100 calls at a time are
held against the other pools of processes. All have two workers, and take turns within each round.
"""

import argparse
import asyncio
import contextlib
import functools
import multiprocessing
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_process
import harness
import msgspec
from cold_worker import trivial
from harness import Batch, Request
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import asyncpool
from asyncpool.protocol import messages, payload, wire

RESULTS = harness.RESULTS / "call_overhead.json"
WORKERS = 2
CALLS = {1: 2000, 100: 5000}  # calls at a time: calls of one round


# --- the floor: what one writes by hand for one child ---------------------------------------------------------------

HEADER = struct.Struct("<I")
FLOOR_WORKER = """
import os, struct, sys
sys.path[:] = sys.argv[1:]
import msgspec
from cold_worker import trivial

def exactly(size):
    data = os.read(0, size)
    while data and len(data) < size:
        more = os.read(0, size - len(data))
        data = data + more if more else b""
    return data

commands = {"trivial": trivial}
encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(tuple[int, str, list]).decode
while header := exactly(4):
    number, name, args = decode(exactly(struct.unpack("<I", header)[0]))
    body = encode((number, commands[name](*args)))
    os.write(1, struct.pack("<I", len(body)) + body)
"""


class Floor(asyncio.BufferedProtocol):
    """Frames to one child and back, matched by number; no queue, no limits, and a crash is not looked for."""

    def __init__(self) -> None:
        self._buffer = bytearray(2**16)
        self._view = memoryview(self._buffer)
        self._end = 0
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(tuple[int, Any]).decode
        self._loop = asyncio.get_running_loop()

    async def call(self, command: str, *args: Any) -> Any:
        self._numbers += 1
        body = self._encode((self._numbers, command, args))
        future = self._waiting[self._numbers] = self._loop.create_future()
        self._transport.write(HEADER.pack(len(body)) + body)
        return await future

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        start = 0
        while self._end - start >= HEADER.size:
            (size,) = HEADER.unpack_from(self._buffer, start)
            stop = start + HEADER.size + size
            if stop > self._end:
                break
            number, value = self._decode(self._view[start + HEADER.size : stop])
            self._waiting.pop(number).set_result(value)
            start = stop
        self._view[: self._end - start] = self._view[start : self._end]
        self._end -= start


@contextlib.asynccontextmanager
async def floor(protocol_class: type[Any], worker: str) -> AsyncIterator[Request]:
    ours, theirs = socket.socketpair()
    with theirs:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", worker, *sys.path), stdin=theirs.fileno(), stdout=theirs.fileno()
        )
    transport, protocol = await asyncio.get_running_loop().create_connection(protocol_class, sock=ours)
    try:
        yield functools.partial(protocol.call, "trivial")
    finally:
        transport.close()  # the end of its input is the end of the child
        await child.wait()


# --- the second floor: the same, with asyncpool's own frames and messages ------------------------------------------

CODEC_WORKER = """
import os, sys
sys.path[:] = sys.argv[1:]
from asyncpool.protocol import messages, payload, wire
from cold_worker import trivial

def exactly(size):
    data = os.read(0, size)
    while data and len(data) < size:
        more = os.read(0, size - len(data))
        data = data + more if more else b""
    return data

commands = {"trivial": trivial}
while header := exactly(8):
    call = messages.decode_to_worker(exactly(wire.HEADER.unpack(header)[0]))
    result = commands[call.command](*payload.decode(call.args), **payload.decode(call.kwargs))
    os.write(1, wire.frame(payload.encode(messages.Result(call.id, result))))
"""


class CodecFloor(asyncio.BufferedProtocol):
    """What the codec costs: everything that lies between a call and its bytes, and nothing of a pool."""

    def __init__(self) -> None:
        self._reader = wire.FrameReader(2**27)
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._loop = asyncio.get_running_loop()
        self.get_buffer = lambda _: self._reader.get_buffer()  # type: ignore[method-assign]

    async def call(self, command: str, *args: Any) -> Any:
        self._numbers += 1
        body = payload.encode(messages.call(self._numbers, command, args, {}, None))
        future = self._waiting[self._numbers] = self._loop.create_future()
        self._transport.write(wire.frame(body))
        return payload.decode((await future).value)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def buffer_updated(self, nbytes: int) -> None:
        for body, _ in self._reader.received(nbytes):
            message = messages.decode_to_parent(body)
            if isinstance(message, messages.Result):
                self._waiting.pop(message.id).set_result(message)


# --- the pools -------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def asyncpool_pool() -> AsyncIterator[Request]:
    async with asyncpool.Pool("cold_worker", min_size=WORKERS, max_size=WORKERS) as pool:
        yield functools.partial(pool.run, trivial)


@contextlib.asynccontextmanager
async def process_pool_executor() -> AsyncIterator[Request]:
    # Not forked: a fork would copy the event loop and the pool of asyncpool. Once running it makes no difference.
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context("spawn")) as executor:
        loop = asyncio.get_running_loop()
        yield lambda number: loop.run_in_executor(executor, trivial, number)


@contextlib.asynccontextmanager
async def anyio_to_process() -> AsyncIterator[Request]:
    limiter = anyio.CapacityLimiter(WORKERS)

    async def call(number: int) -> object:
        return await anyio.to_process.run_sync(trivial, number, limiter=limiter)

    yield call


# --- measuring -------------------------------------------------------------------------------------------------------


@dataclass
class Contender:
    """One way to make a call, and its batches by calls at a time."""

    name: str
    opened: Callable[[], AbstractAsyncContextManager[Request]]
    batches: dict[int, list[Batch]] = field(default_factory=lambda: {at_a_time: [] for at_a_time in CALLS})

    def p50s(self, at_a_time: int) -> list[float]:
        return [each.p50 for each in self.batches[at_a_time]]

    def rates(self, at_a_time: int) -> list[float]:
        return [each.per_second for each in self.batches[at_a_time]]


def contenders() -> list[Contender]:
    """The floor first, asyncpool second, then what it is held against."""
    return [
        Contender("floor, one child", functools.partial(floor, Floor, FLOOR_WORKER)),
        Contender("asyncpool", asyncpool_pool),
        Contender("floor, same codec", functools.partial(floor, CodecFloor, CODEC_WORKER)),
        Contender("ProcessPoolExecutor", process_pool_executor),
        Contender("anyio.to_process", anyio_to_process),
    ]


async def measure(todo: Sequence[Contender], rounds: int, calls: dict[int, int], advance: Callable[[], None]) -> None:
    """Fill in the batches; the contenders take turns."""
    async with AsyncExitStack() as stack:
        requests = [await stack.enter_async_context(contender.opened()) for contender in todo]
        for request in requests:
            await harness.batch(request, 200, at_a_time=20)  # every worker is started and warm
        for _ in range(rounds):
            for at_a_time, count in calls.items():
                for contender, request in zip(todo, requests, strict=True):
                    contender.batches[at_a_time].append(await harness.batch(request, count, at_a_time))
                    advance()


# --- results ---------------------------------------------------------------------------------------------------------


def table(measured: Sequence[Contender], loop: str) -> Table:
    """The results of one loop for the terminal."""
    title = f"A call that does nothing, {WORKERS} workers, {loop} loop"
    caption = "ratio: asyncpool over this one, median of the rounds"
    shown = Table(title=title, caption=caption, box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in ("", "1 at a time", "p99", "ratio", "100 at a time", "ratio"):
        shown.add_column(name, justify="right" if name else "left", no_wrap=True)
    for row in rows(measured):
        own = row["name"] == "asyncpool"
        shown.add_row(
            row["name"],
            harness.duration(row["one"]["p50"]),
            harness.duration(row["one"]["p99"]),
            "" if own else f"{row['p50_ratio']:.2f} x",
            f"{row['hundred']['per_second']:,.0f}/s",
            "" if own else f"{row['rate_ratio']:.2f} x",
            style="bold green" if own else None,
        )
    return shown


def rows(measured: Sequence[Contender]) -> list[dict[str, Any]]:
    """What table and JSON say."""
    ours = measured[1]
    return [
        {
            "name": each.name,
            "one": asdict(harness.summarize(each.batches[1])),
            "hundred": asdict(harness.summarize(each.batches[100])),
            "p50_ratio": harness.median_ratio(ours.p50s(1), each.p50s(1)),
            "rate_ratio": harness.median_ratio(ours.rates(100), each.rates(100)),
        }
        for each in measured
    ]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short rounds and few of them: a first impression")
    parser.add_argument("--rounds", type=int, help="rounds (default: 9; with --quick 3)")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), help="default: one after the other")
    parser.add_argument("--one-cpu", action="store_true", help="all on one processor: steadier, as it leaves no choice")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="default: benchmarks/results/")
    return parser.parse_args()


def main() -> None:
    chosen = options()
    console = Console()
    if chosen.one_cpu:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # the children inherit it
    rounds = chosen.rounds or (3 if chosen.quick else 9)
    calls = {at_a_time: count // 5 for at_a_time, count in CALLS.items()} if chosen.quick else CALLS
    results: dict[str, Any] = {"benchmark": "call_overhead", "one_cpu": chosen.one_cpu, "rounds": rounds, "loops": []}
    for loop in [chosen.loop] if chosen.loop else ["asyncio", "uvloop"]:
        machine, measured = harness.machine(loop), contenders()
        console.print(harness.machine_line(machine), style="dim", soft_wrap=True)
        with harness.progress(console, 2 * rounds * len(measured)) as advance:
            harness.run(functools.partial(measure, measured, rounds, calls, advance), loop)
        console.print("", table(measured, loop), "")
        results["loops"].append({"machine": machine, "contenders": rows(measured)})
    harness.write_json(chosen.json, results)
    console.print(f"Results: {chosen.json}", style="dim", soft_wrap=True)


if __name__ == "__main__":
    main()
