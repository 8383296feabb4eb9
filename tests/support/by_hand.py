"""The parent's end of the wire, spoken by hand to a real worker process."""

import socket
import struct
import subprocess
import sys
from typing import Any

import msgspec


class Parent:
    """Starts a worker, and is ready when it is."""

    def __init__(self, *modules: str, concurrency: int = 4) -> None:
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(10)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asyncpool.worker"], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE
        )
        theirs.close()
        self.send(1, [1], 2**27, concurrency, list(modules), sys.path, 0)
        assert self.receive()[0] == 32

    def send(self, *message: Any) -> None:
        body = msgspec.msgpack.encode(message)
        self.ours.sendall(struct.pack("<II", len(body), len(body)) + body)

    def call(self, number: int, function: Any, *args: Any, credit: int = 0) -> None:
        self.send(2, number, [function.__module__, function.__qualname__], args, {}, None, credit)

    def receive(self) -> list[Any]:
        size = struct.unpack("<II", self._exactly(8))[0]
        message: list[Any] = msgspec.msgpack.decode(self._exactly(size))
        return message

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.ours.recv(size - len(data))
            assert piece, "the worker has ended"
            data += piece
        return data

    def shut(self) -> None:
        self.ours.shutdown(socket.SHUT_WR)

    def close(self) -> tuple[int, bytes]:
        self.ours.close()
        try:
            _, err = self.process.communicate(timeout=10)
        finally:
            self.process.kill()
        return self.process.returncode, err
