"""What a worker's module imports: ``command``, ``lifespan``, ``emit``, ``call_context``.

It costs nothing: no import, no registry.
"""

from __future__ import annotations

TYPE_CHECKING = False  # mypy and pyright take the name for true; importing typing costs a worker 7 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import Any, Literal, TypeVar, overload

    F = TypeVar("F", bound=Callable[..., Any])
    M = TypeVar("M", bound=Callable[..., AbstractContextManager[Any, Any] | AbstractAsyncContextManager[Any, Any]])
    OnCancel = Literal["stop", "finish"]
else:

    def overload(stub):
        return stub


MARK = "__asyncpool_command__"
LIFESPAN_MARK = "__asyncpool_lifespan__"
UNFINISHED = 0x20 | 0x80 | 0x200  # code flags: calling it gives a generator, a coroutine or an async generator


class Defaults:
    """What a ``@command`` says about itself; it travels to the parent when the worker is ready."""

    __slots__ = ("cancel_grace", "cooperative", "name", "on_cancel", "retries", "timeout", "typed")

    def __init__(
        self,
        name: str,
        timeout: float | None,
        retries: int,
        cooperative: bool,
        cancel_grace: float | None,
        on_cancel: str | None,
        typed: bool,
    ) -> None:
        self.name: str = name
        self.timeout: float | None = timeout
        self.retries: int = retries
        self.cooperative: bool = cooperative
        self.cancel_grace: float | None = cancel_grace
        self.on_cancel: str | None = on_cancel
        self.typed: bool = typed


@overload
def command(function: F, /) -> F: ...
@overload
def command(
    *,
    name: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    cooperative: bool = False,
    cancel_grace: float | None = None,
    on_cancel: OnCancel | None = None,
    typed: bool = True,
) -> Callable[[F], F]: ...
def command(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    cooperative: bool = False,
    cancel_grace: float | None = None,
    on_cancel: OnCancel | None = None,
    typed: bool = True,
) -> Any:
    """Mark a function as a command and return the function itself.

    A worker offers the marked functions that its modules define, each under its name. Arguments are decoded by the
    function's annotations before it is called. An ``async def`` runs on the worker's own event loop; a generator
    sends what it yields as updates, and its return value is the result.

    Args:
        function: A module-level function.
        name: Name of the command. Default: the function's own.
        timeout: Seconds that one call may run, counted from its dispatch, unless the caller says otherwise.
            None: the pool's own limit.
        retries: Times that a call is run again after its worker crashed, unless the caller says otherwise; only for
            a command that may safely be run more than once.
        cooperative: It calls ``emit()`` or ``call_context().cancelled()`` often enough to hear that it shall stop:
            its worker is not killed at once. Async and generator commands always are.
        cancel_grace: Seconds that it then gets before its worker is killed. None: the pool's own.
        on_cancel: "finish" lets it run to its end when its caller is cancelled: the caller leaves at once. "stop":
            stops it. None: what the caller says, else "stop".
        typed: False hands the arguments over as plain MessagePack values, whatever the annotations say.

    Raises:
        TypeError: What is marked is not a function, or an argument is of the wrong type.
        ValueError: An argument is out of its range.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name= takes a string, not {name!r}")
    if name == "":
        raise ValueError("name= must not be empty")
    if timeout is not None and not 0 < timeout < float("inf"):
        raise ValueError(f"timeout= takes seconds above 0, or None for the pool's own limit, not {timeout!r}")
    if cancel_grace is not None and not 0 < cancel_grace < float("inf"):
        raise ValueError(f"cancel_grace= takes seconds above 0, or None for the pool's own, not {cancel_grace!r}")
    if on_cancel not in (None, "stop", "finish"):
        raise ValueError(f"on_cancel= takes 'stop' or 'finish', not {on_cancel!r}")
    _check_retries(retries)

    def mark(function: Any) -> Any:
        _check(function)
        defaults = Defaults(name or function.__name__, timeout, retries, cooperative, cancel_grace, on_cancel, typed)
        try:
            setattr(function, MARK, defaults)
        except AttributeError:  # one that is written in C, or is bound to an object
            raise _no_function(function) from None
        return function

    return mark if function is None else mark(function)


def _check_retries(retries: Any) -> None:
    if not isinstance(retries, int) or isinstance(retries, bool):
        raise TypeError(f"retries= takes an integer, not {retries!r}")
    if retries < 0:
        raise ValueError(f"retries= takes 0 or more, not {retries}")


def _check(function: Any) -> None:
    """Raise where it is no function, nor wrapped as one: a worker would not find it by its module and its name."""
    if isinstance(function, (staticmethod, classmethod, type)) or not (
        callable(function) and hasattr(function, "__name__") and hasattr(function, "__qualname__")
    ):
        raise _no_function(function)


def _no_function(thing: Any) -> TypeError:
    return TypeError(
        f"@command marks plain functions, not {thing!r}: def a module-level function that calls it, and mark that"
    )


def lifespan(manager: M, /) -> M:
    """Mark a context manager that is entered before a worker says that it is ready, and left when it ends.

    ``@asyncpool.lifespan`` goes above ``@contextlib.contextmanager`` or ``@contextlib.asynccontextmanager``, or above
    a class that has ``__enter__`` and ``__exit__``, or ``__aenter__`` and ``__aexit__``; with both, the async ones
    count. Those that a pool's modules define are entered in their order, and left in reverse. What one yields goes
    nowhere: commands find what it has set up in the module's own globals. An async one is entered, and left, on the
    event loop that the worker's async commands run on.

    One that fails, or takes longer than ``start_timeout``, fails the start of the worker. What fails at the end is
    written to the worker's stderr. A worker that is killed leaves nothing.

    Args:
        manager: Takes no argument, or one: ``Pool(config=...)``, decoded by the parameter's annotation. Without a
            config, a default of the parameter holds.

    Raises:
        TypeError: What is marked gives no context manager.
    """
    if not _gives_manager(manager):
        raise TypeError(
            f"@lifespan marks context managers, not {manager!r}: put it above @contextlib.contextmanager or "
            "@contextlib.asynccontextmanager, or above a class with __enter__ or __aenter__"
        )
    setattr(manager, LIFESPAN_MARK, manager)
    return manager


def _gives_manager(maker: Any) -> bool:
    """Say whether calling *maker* may give a context manager."""
    if isinstance(maker, type):
        return hasattr(maker, "__enter__") or hasattr(maker, "__aenter__")
    code = getattr(maker, "__code__", None)
    return code is not None and not code.co_flags & UNFINISHED


# --- below a running command -----------------------------------------------------------------------------------------


class Cancelled(BaseException):
    """Raised by ``emit`` below a cooperative command that shall stop: let it pass, as you would KeyboardInterrupt."""


class CallContext:
    """What a running command may know of its call; outside a worker, of none.

    Attributes:
        id: Number of the call; 0 outside a worker.
        meta: What the caller passed as ``options(meta=...)``.
        slot: Number of the worker's place in its pool: 0, 1, ...
    """

    def __init__(self) -> None:
        self.id: int = 0
        self.meta: dict[str, str] = {}
        self.slot: int = 0

    @property
    def deadline(self) -> float | None:
        """Seconds that are left of its timeout; None: it has none."""
        return None

    def cancelled(self) -> bool:
        """Say whether the command shall stop, because its caller is gone or its time is over."""
        return False


class Runtime:
    """What stands behind ``emit`` and ``call_context``: nothing here; a worker puts its own in place."""

    def emit(self, update: Any) -> None:
        """Send an update to the caller."""

    def context(self) -> CallContext:
        """Return what is known of the running call."""
        return CallContext()


runtime: Runtime = Runtime()
importing_in: set[int] = set()  # the threads in which a worker imports a module: they must start nothing
UNGUARDED = (
    "a worker imports this module for the commands in it, and must not start the application again: "
    'put what starts it under `if __name__ == "__main__":`, or the commands into a module of their own'
)


def emit(update: Any) -> None:
    """Send an update to the caller of the running command, from anywhere below it, its threads included.

    Waits while the caller has enough updates that it has not taken yet. Does nothing when nobody listens (a plain
    ``run``), or outside a worker. An async command rather yields: while ``emit`` waits, so does the whole event loop.

    Args:
        update: Anything that could be a result.

    Raises:
        TypeError, ValueError: *update* cannot travel.
        asyncpool.Cancelled: The command shall stop.
    """
    runtime.emit(update)


def call_context() -> CallContext:
    """Return what is known of the running call: its ``id``, ``deadline``, ``meta``, ``slot`` and ``cancelled()``."""
    return runtime.context()
