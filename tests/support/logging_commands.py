"""A module whose commands log."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpool

logger = logging.getLogger("tests.kittens")
logger.warning("imported")  # before anybody can have seen that logging is there


@asyncpool.command
def log(level: int, text: str, *args: Any) -> int:
    logger.log(
        level,
        text,
        *args,
        extra={"cat": "Tom", "lives": 9, "bed": Path("/basket"), "self": object(), "name_of": {"a": [1]}},
    )
    return os.getpid()


@asyncpool.command
def log_exception() -> None:
    try:
        raise KeyError("lost")
    except KeyError:
        logger.exception("not %s", "found", stack_info=True)


@asyncpool.command
def log_many(count: int, size: int = 10) -> float:
    """Return how long it took, in seconds."""
    began = time.monotonic()
    for number in range(count):
        logger.error("line %d %s", number, "x" * size)
    return time.monotonic() - began


@asyncpool.command
def log_and_yield(count: int) -> Iterator[int]:
    for number in range(count):
        logger.error("line %d", number)
        yield number


@asyncpool.command
async def log_slowly(text: str) -> int:
    await asyncio.sleep(0.01)
    await asyncio.to_thread(logger.warning, text)
    return asyncpool.call_context().id


@asyncpool.command
def log_from_a_thread(text: str) -> int:
    thread = threading.Thread(target=logger.warning, args=(text,), name="helper")
    thread.start()
    thread.join()
    return asyncpool.call_context().id


@asyncpool.command
def log_hostile() -> None:
    """What cannot be put into words, or is too long, or half a character."""
    logger.error("needs %d", "a number")
    logger.error("half of \ud800 it %s", "y" * 100_000)
    logger.error("long", extra={"long": "z" * 100_000, "short": 1})


@asyncpool.command
def log_from_odd_places() -> None:
    """Half characters and far too many, where nobody expects them."""
    for odd in ("half \udcff", "y" * 100_000):
        thread = threading.Thread(target=logger.error, args=("thread",), name=odd)
        thread.start()
        thread.join()
        logging.getLogger(odd).error("name")
        for name in ("pathname", "funcName"):
            logger.handle(
                logging.makeLogRecord({"msg": name, "name": logger.name, "levelno": logging.ERROR, name: odd})
            )
        logger.error("key", extra={odd: 1, "other": 2})


@asyncpool.command
def log_integers() -> None:
    """What MessagePack has no word for."""
    logger.error("large", extra={"large": 2**70, "below": [-(2**70)], "huge": 10**5000, "small": 2**60})


@asyncpool.command
def log_item(item: int) -> None:
    logger.warning("item %d", item)


class LogsInItsEnd:
    def __del__(self) -> None:
        logger.error("from a finalizer")


@asyncpool.command
def log_in_a_finalizer() -> bytes:
    """Leave a circle that the collector meets while the answer is written, or elsewhere."""
    for _ in range(200):
        circle: list[Any] = [LogsInItsEnd()]
        circle.append(circle)
    return b"x" * 3_000_000


@asyncpool.command
def log_in_a_fork() -> int:
    child = os.fork()
    if child == 0:
        logger.error("from a fork")
        os._exit(len(logging.getLogger().handlers))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@asyncpool.command
def configure(how: str) -> list[str]:
    """Set logging up, as users do; returns the root logger's handlers."""
    import logging.config

    if how == "dictConfig":
        handlers = {"null": {"class": "logging.NullHandler"}}
        root = {"level": "INFO", "handlers": ["null"]}
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "handlers": handlers, "root": root})
    return [type(handler).__name__ for handler in logging.getLogger().handlers]


@asyncpool.command
def level_and_handlers() -> list[Any]:
    root = logging.getLogger()
    return [root.level, logger.getEffectiveLevel(), [type(handler).__name__ for handler in root.handlers]]


@asyncpool.command
async def nested(text: str) -> None:
    """A pool in this worker: its workers' records go up through this one."""
    async with asyncpool.Pool(__name__, max_size=1, stderr="discard", name="inner") as pool:
        await pool.run("log", logging.ERROR, text)
