"""A module with lifespans, which do what the pool's config says and leave a trace of it."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from types import TracebackType

import msgspec

import asyncpool


class Plan(msgspec.Struct):
    """What the lifespans shall do."""

    trace: str  # file
    enter: str = ""  # fail, exit, hang or reset: how the second is entered
    leave: str = ""  # fail, exit, slow or hang: how it is left
    gate: str = ""  # one that is slow to leave waits until this file is there


held: list[str] = []  # what commands find


def write(plan: Plan, text: str) -> None:
    with open(plan.trace, "a") as file:
        file.write(text + "\n")


@asyncpool.lifespan
@contextlib.contextmanager
def first(plan: Plan) -> Iterator[str]:
    write(plan, "enter first")
    held.append("first")
    try:
        yield "nobody sees this"
    finally:
        write(plan, "leave first")


@asyncpool.lifespan
class Second:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def __enter__(self) -> None:
        do(self.plan.enter, self.plan)
        write(self.plan, "enter second")
        held.append("second")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        do(self.plan.leave, self.plan)
        write(self.plan, "leave second")


class Heir(Second):
    """Inherits from a lifespan and is none."""


def do(what: str, plan: Plan) -> None:
    match what:
        case "fail":
            raise ValueError("told to")
        case "reset":
            raise ConnectionResetError("a server's")
        case "exit":
            sys.exit(3)
        case "hang":
            write(plan, "hangs")
            time.sleep(60)
        case "slow":
            write(plan, "slow")
            while not os.path.exists(plan.gate):
                time.sleep(0.005)


@asyncpool.command
def what_is_held() -> list[str]:
    return held
