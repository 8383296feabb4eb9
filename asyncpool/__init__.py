"""A pool of warm subprocesses for asyncio applications."""

__version__ = "0.1.0"

TYPE_CHECKING = False  # mypy and pyright take the name for true; importing typing would cost every worker 7 ms
if TYPE_CHECKING:
    from asyncpool.commands import CallContext, Cancelled, call_context, command, emit, lifespan
    from asyncpool.errors import (
        AcquireTimeout,
        ArgumentError,
        AsyncPoolError,
        CommandError,
        CommandTimeout,
        PayloadError,
        PoolClosed,
        PoolError,
        PoolFull,
        ProtocolError,
        ResultError,
        UnknownCommand,
        WorkerCrashed,
        WorkerError,
        WorkerStartError,
    )
    from asyncpool.pool.events import Event
    from asyncpool.pool.lease import Lease
    from asyncpool.pool.pool import Pool
    from asyncpool.pool.results import Results
    from asyncpool.pool.shutdown import graceful_shutdown
    from asyncpool.pool.stats import PoolStats, WorkerInfo
    from asyncpool.pool.stream import Stream
    from asyncpool.types import register_type

__all__ = [
    "AcquireTimeout",
    "ArgumentError",
    "AsyncPoolError",
    "CallContext",
    "Cancelled",
    "CommandError",
    "CommandTimeout",
    "Event",
    "Lease",
    "PayloadError",
    "Pool",
    "PoolClosed",
    "PoolError",
    "PoolFull",
    "PoolStats",
    "ProtocolError",
    "ResultError",
    "Results",
    "Stream",
    "UnknownCommand",
    "WorkerCrashed",
    "WorkerError",
    "WorkerInfo",
    "WorkerStartError",
    "call_context",
    "command",
    "emit",
    "graceful_shutdown",
    "lifespan",
    "register_type",
]

if not TYPE_CHECKING:  # hidden from the checkers, to which every misspelt name would else be right
    _HOMES = {
        "CallContext": "commands",
        "Cancelled": "commands",
        "call_context": "commands",
        "command": "commands",
        "emit": "commands",
        "lifespan": "commands",
        "Event": "pool.events",
        "Lease": "pool.lease",
        "Pool": "pool.pool",
        "PoolStats": "pool.stats",
        "Results": "pool.results",
        "Stream": "pool.stream",
        "WorkerInfo": "pool.stats",
        "graceful_shutdown": "pool.shutdown",
        "register_type": "types",
    }

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = __import__(f"{__name__}.{_HOMES.get(name, 'errors')}", fromlist=[name])  # importlib costs 0.7 ms
        value = globals()[name] = getattr(home, name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
