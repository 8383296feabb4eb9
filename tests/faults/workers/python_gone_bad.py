"""A module of commands for a Python worker: "bad" does what it is told, "echo" is as good as any."""

import ctypes
import os
import re
import resource
import signal
import sys
import time
from typing import Any

import asyncpool

_leaked: list[Any] = []
_MB = 2**20


@asyncpool.command
def echo(value: Any = None) -> Any:
    return value


@asyncpool.command
def bad(way: str) -> str:
    match way:
        case "raises BaseException":
            raise BaseException("base")
        case "exits by sys.exit":
            sys.exit(3)
        case "exits 0":
            os._exit(0)
        case "segfaults":
            ctypes.string_at(0)
        case "spins in C":
            re.match(r"(a+)+$", "a" * 40 + "b")
        case "ignores every signal":
            for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
            time.sleep(60)
        case "leaks memory":
            _leaked.append(b"x" * (50 * _MB))
        case "runs out of memory":
            resource.setrlimit(resource.RLIMIT_AS, (1000 * _MB, resource.RLIM_INFINITY))
            bytearray(2000 * _MB)
        case "leaks descriptors":
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            while True:
                _leaked.append(open(os.devnull))  # noqa: SIM115 # leaked, as intended
        case "forks one that holds all":
            if os.fork() == 0:
                time.sleep(60)
            os._exit(3)
        case "floods stdout":
            for _ in range(20):
                os.write(1, b"x" * _MB)
    return way
