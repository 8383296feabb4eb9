"""What a worker's module imports: the ``@command`` mark. It costs nothing: no import of typing, no registry."""

from __future__ import annotations

TYPE_CHECKING = False  # mypy and pyright take the name for true; importing typing costs a worker 7 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, overload

    F = TypeVar("F", bound=Callable[..., Any])
else:

    def overload(stub):
        return stub


MARK = "__asyncpool_command__"


class Defaults:
    """What a ``@command`` says about itself; it travels to the parent when the worker is ready."""

    __slots__ = ("name", "retries", "timeout", "typed")

    def __init__(self, name: str, timeout: float | None, retries: int, typed: bool) -> None:
        self.name: str = name
        self.timeout: float | None = timeout
        self.retries: int = retries
        self.typed: bool = typed


@overload
def command(function: F, /) -> F: ...
@overload
def command(
    *, name: str | None = None, timeout: float | None = None, retries: int = 0, typed: bool = True
) -> Callable[[F], F]: ...
def command(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    typed: bool = True,
) -> Any:
    """Mark a function as a command and return the function itself.

    A worker offers the marked functions that its modules define, each under its name. Arguments are decoded by the
    function's annotations before it is called.

    Args:
        function: A module-level function.
        name: Name of the command. Default: the function's own.
        timeout: Seconds that one call may run, counted from its dispatch, unless the caller says otherwise.
            None: the pool's own limit.
        retries: Times that a call is run again after its worker crashed, unless the caller says otherwise; only for
            a command that may safely be run more than once.
        typed: False hands the arguments over as plain MessagePack values, whatever the annotations say.

    Raises:
        TypeError: What is marked is not a plain function, *name* is not a string, or *retries* not an integer.
        ValueError: *timeout* is not above 0, *retries* is below 0, or *name* is empty.
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(f"name= takes a string, not {name!r}")
    if name == "":
        raise ValueError("name= must not be empty")
    if timeout is not None and not 0 < timeout < float("inf"):
        raise ValueError(f"timeout= takes seconds above 0, or None for the pool's own limit, not {timeout!r}")
    _check_retries(retries)

    def mark(function: Any) -> Any:
        _check(function)
        setattr(function, MARK, Defaults(name or function.__name__, timeout, retries, typed))
        return function

    return mark if function is None else mark(function)


_COROUTINE, _GENERATOR, _ASYNC_GENERATOR = 0x80, 0x20, 0x200  # co_flags, as inspect names them


def _check_retries(retries: Any) -> None:
    if not isinstance(retries, int) or isinstance(retries, bool):
        raise TypeError(f"retries= takes an integer, not {retries!r}")
    if retries < 0:
        raise ValueError(f"retries= takes 0 or more, not {retries}")


def _check(function: Any) -> None:
    if isinstance(function, (staticmethod, classmethod, type)) or not callable(function):
        raise TypeError(f"@command marks plain functions, not {function!r}")
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & (_COROUTINE | _GENERATOR | _ASYNC_GENERATOR):
        raise TypeError(f"{function.__qualname__} is async or a generator: this version takes plain functions only")
