"""Commands that fork, and a lifespan that tells in which processes it was left."""

import asyncio
import contextlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpool

fork = multiprocessing.get_context("fork")


@asyncpool.lifespan
@contextlib.contextmanager
def lifespan(left: str) -> Iterator[None]:
    yield
    with open(left, "a") as file:
        file.write(f"{os.getpid()}\n")


@asyncpool.command
def nested(path: str) -> tuple[int | None, str]:
    """Fork a process that forks one, and then starts a program by a fork of its own."""
    outer = fork.Process(target=_outer, args=(path,))
    outer.start()
    outer.join()
    return outer.exitcode, Path(path).read_text()


def _outer(path: str) -> None:
    reads, writes = os.pipe()  # they get the numbers that the worker's own have left
    inner = fork.Process(target=_inner, args=(path, writes))
    inner.start()
    inner.join()
    heard = os.read(reads, 100).decode()
    subprocess.run(["sh", "-c", f"echo {heard} >> {path}"], check=True, preexec_fn=lambda: None)
    sys.exit(inner.exitcode)


def _inner(path: str, writes: int) -> None:
    Path(path).write_text("inner\n")
    os.write(writes, b"heard")


@asyncpool.command
def come_back(how: str) -> int | str:
    """Fork a process that does not end itself; returns its exit code."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if how == "exit":
        sys.exit(7)
    if how == "close":
        sys.stdout.close()
    if how == "raise":
        raise ValueError("in the child")
    return "child"


@asyncpool.command
async def come_back_later(how: str) -> int | str:
    await asyncio.sleep(0)
    return come_back(how)


@asyncpool.command
def fork_at(path: str, number: int) -> int:
    """Leave a trace; item 1 of a chunk forks a process that comes back."""
    with open(path, "a") as file:
        file.write(f"{number}\n")
    if number == 1 and (child := os.fork()):
        os.waitpid(child, 0)
    return number
