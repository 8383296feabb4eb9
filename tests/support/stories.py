"""Commands that raise errors with a story: chains, groups, notes, and what went through a pool of their own."""

from typing import Any

import asyncpool
from tests.support import commands


class Shared(Exception):
    """An error of the application."""


class Hidden(Exception):
    """One that the application does not find by its name."""


Hidden.__qualname__ = "Nowhere"


@asyncpool.command
def tell(kind: str) -> None:
    """Raise something with a story."""
    match kind:
        case "notes":
            error = Shared("noted")
            error.add_note("the first note")
            raise error
        case "chain":
            try:
                commands.fail("ValueError")
            except ValueError as error:
                raise Shared("outer") from error
        case "context":
            try:
                commands.fail("os")
            except OSError:
                raise Shared("while handling")  # noqa: B904 # that is the point
        case "circle":
            first, second = Shared("first"), Shared("second")
            first.__context__, second.__context__ = second, first
            raise first
        case "group":
            raise ExceptionGroup("all", [_raised("ValueError"), ExceptionGroup("inner", [_raised("os"), Shared("x")])])
        case "base group":
            raise BaseExceptionGroup("all", [KeyboardInterrupt("k"), SystemExit(3), ValueError("v")])
        case "cancelled":
            import asyncio

            raise asyncio.CancelledError("by itself")
        case "stop async":
            raise StopAsyncIteration
        case "generator exit":
            raise GeneratorExit
        case "unencodable":
            raise Shared(object(), lambda: None)
        case "wide":
            raise ExceptionGroup("wide", [Shared("x" * 100_000) for _ in range(500)])
        case "deep":
            error = Shared("deep")
            for number in range(2000):
                error = Shared(number) if number % 2 else ExceptionGroup(str(number), [error])
                error.__cause__ = Shared("why")
            raise error
    raise AssertionError(kind)


def _raised(kind: str) -> Exception:
    try:
        commands.fail(kind)
    except Exception as error:
        return error
    raise AssertionError(kind)


@asyncpool.command
def through_another_pool(kind: str) -> Any:
    """Run a command in a pool of this worker, and let its error pass."""

    async def run() -> Any:
        async with asyncpool.Pool("tests.support.stories", max_size=1, stderr="discard") as pool:
            return await pool.run("hidden" if kind == "hidden" else "tell", kind)

    import asyncio

    return asyncio.run(run())


@asyncpool.command
def hidden(kind: str) -> None:
    raise Hidden(kind)
