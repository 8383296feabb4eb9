"""What one writes by hand for one child: frames over a socketpair, and nothing that a pool adds."""

import asyncio
import contextlib
import functools
import socket
import struct
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from harness import Request

from asyncpool.protocol import messages, payload, wire

EXACTLY = """
import os, struct, sys
sys.path[:] = sys.argv[1:]
from cold_worker import trivial

def exactly(size):
    data = os.read(0, size)
    while data and len(data) < size:
        more = os.read(0, size - len(data))
        data = data + more if more else b""
    return data

commands = {"trivial": trivial}
"""

HEADER = struct.Struct("<I")
BARE_WORKER = f"""{EXACTLY}
import msgspec
encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(tuple[int, str, list]).decode
while header := exactly(4):
    number, name, args = decode(exactly(struct.unpack("<I", header)[0]))
    body = encode((number, commands[name](*args)))
    os.write(1, struct.pack("<I", len(body)) + body)
"""


class Bare(asyncio.BufferedProtocol):
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


# --- the same, with asyncpool's own frames and messages --------------------------------------------------------------

CODEC_WORKER = f"""{EXACTLY}
from asyncpool.protocol import messages, payload, wire
while header := exactly(8):
    call = messages.decode_to_worker(exactly(wire.HEADER.unpack(header)[0]))
    result = commands[call.command](*payload.decode(call.args), **payload.decode(call.kwargs))
    os.write(1, wire.frame(payload.encode(messages.Result(call.id, result))))
"""


class Codec(asyncio.BufferedProtocol):
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


# --- both ------------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _opened(protocol_class: type[Any], worker: str) -> AsyncIterator[Request]:
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


def bare() -> contextlib.AbstractAsyncContextManager[Request]:
    return _opened(Bare, BARE_WORKER)


def codec() -> contextlib.AbstractAsyncContextManager[Request]:
    return _opened(Codec, CODEC_WORKER)
