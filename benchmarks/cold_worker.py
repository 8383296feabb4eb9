"""What the benchmark calls, and what a process per request looks like: started, one frame in, one frame out, ended.

The pool imports the same functions from this file, so both sides run the same commands.
"""

import struct
import sys

import msgspec


def trivial(number: int) -> int:
    return number + 1


def with_numpy(number: int) -> float:
    import numpy as np

    return float(np.linspace(0, number, 100).sum())


def same(value: object) -> object:
    return value


if __name__ == "__main__":
    (size,) = struct.unpack("<I", sys.stdin.buffer.read(4))
    name, number = msgspec.msgpack.decode(sys.stdin.buffer.read(size))
    body = msgspec.msgpack.encode({"trivial": trivial, "with_numpy": with_numpy}[name](number))
    sys.stdout.buffer.write(struct.pack("<I", len(body)) + body)
