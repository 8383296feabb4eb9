"""What the benchmarks call, and what a process per request looks like: started, one frame in, one frame out, ended.

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


def slow_import(number: int) -> int:
    import cold_import

    return number + cold_import.ONE


def usage() -> tuple[float, int]:
    """Processor seconds of this process until now, and the pages of memory that it has touched for the first time."""
    import resource
    import time

    return time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def peak() -> int:
    """Bytes of resident memory of this process, at its most."""
    with open("/proc/self/status") as status:
        kib = next(line.split()[1] for line in status if line.startswith("VmHWM:"))
    return int(kib) * 1024


def nap(seconds: float) -> None:
    import time

    time.sleep(seconds)


def same(value: object) -> object:
    return value


if __name__ == "__main__":
    sys.path.append(__file__.rpartition("/")[0])  # -I leaves it out, and cold_import lies there
    (size,) = struct.unpack("<I", sys.stdin.buffer.read(4))
    name, number = msgspec.msgpack.decode(sys.stdin.buffer.read(size))
    body = msgspec.msgpack.encode({each.__name__: each for each in (trivial, with_numpy, slow_import)}[name](number))
    sys.stdout.buffer.write(struct.pack("<I", len(body)) + body)
    if sys.argv[1:] == ["--resident"]:  # its own: what the kernel tells its parent has the parent's in it
        print(peak(), file=sys.stderr)
