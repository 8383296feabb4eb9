"""What two processes can do with a large value at all: the same bytes there and back by blocking calls."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

from harness import Request

from peers import Command

BUFFER = 2**22  # bytes asked for, as asyncpool does
HEADER = 8  # bytes that say how many will follow
ECHO = f"""
import socket, sys
end, fresh = socket.socket(fileno=0), sys.argv[1] == "True"
end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, {BUFFER})
memory = bytearray()
while header := end.recv({HEADER}, socket.MSG_WAITALL):
    size = int.from_bytes(header, "little")
    memory = bytearray(size) if fresh or len(memory) != size else memory
    rest = memoryview(memory)
    while rest:
        rest = rest[end.recv_into(rest):]
    end.sendall(memory)
"""


@contextlib.asynccontextmanager
async def _echo(*, fresh: bool) -> AsyncIterator[Request]:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    memory = bytearray()

    async def request(value: Any) -> bytearray:
        nonlocal memory
        sent = memoryview(value).cast("B")
        ours.sendall(len(sent).to_bytes(HEADER, "little"))
        ours.sendall(sent)
        if fresh or len(memory) != len(sent):
            memory = bytearray(len(sent))
        rest = memoryview(memory)
        while rest:
            rest = rest[ours.recv_into(rest) :]
        return memory

    with subprocess.Popen([sys.executable, "-Ic", ECHO, str(fresh)], stdin=theirs), ours:  # noqa: ASYNC220
        theirs.close()
        yield request
        ours.close()  # the end of its input is its end


def old_memory(_: Command) -> contextlib.AbstractAsyncContextManager[Request]:
    """Either side receives into memory that it uses again and again."""
    return _echo(fresh=False)


def new_memory(_: Command) -> contextlib.AbstractAsyncContextManager[Request]:
    """Either side receives into memory that it has just got, as who hands it over must."""
    return _echo(fresh=True)
