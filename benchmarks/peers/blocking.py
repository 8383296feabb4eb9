"""The least that a message there and back can cost: blocking reads and writes, no loop, nothing decoded."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

from harness import Request

MESSAGE = bytes(40)  # about as much as a small call and its frame
ECHO = "import os\nwhile data := os.read(0, 4096): os.write(1, data)"


@contextlib.contextmanager
def _child(stdin: int, stdout: int, *theirs: int) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", ECHO], stdin=stdin, stdout=stdout):
        for descriptor in theirs:
            os.close(descriptor)
        yield


def _exchange(write: int, read: int) -> Request:
    async def request(number: int) -> int:
        os.write(write, MESSAGE)
        os.read(read, 4096)
        return number + 1

    return request


@contextlib.asynccontextmanager
async def pipe() -> AsyncIterator[Request]:
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    with _child(their_in, their_out, their_in, their_out):
        yield _exchange(our_out, our_in)
        os.close(our_out)  # the end of its input is its end
    os.close(our_in)


@contextlib.asynccontextmanager
async def socketpair() -> AsyncIterator[Request]:
    ours, theirs = (end.detach() for end in socket.socketpair())
    with _child(theirs, theirs, theirs):
        yield _exchange(ours, ours)
        os.close(ours)
