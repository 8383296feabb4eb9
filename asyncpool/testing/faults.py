"""Workers that crash, hang, talk nonsense or do not start, when a test wants it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from asyncpool.pool.config import count, seconds_or_none
from asyncpool.pool.worker import Worker
from asyncpool.testing import faulty
from asyncpool.testing.plan import NOTHING, Plan


class Faults:
    """Faults that all workers have which start within the block; of a ``Pool`` and of an ``InlinePool``.

    ``with Faults(crash_at=1): ...`` makes the first call of the block crash its worker. Calls and starts are counted
    over all pools and workers, from 1 on, in the order in which workers take them; a call that is run again counts
    again. Faults end with the block, also for workers that live on. The block may be used once.

    Args:
        crash_at: Number, or numbers, of the calls at which the worker dies by SIGKILL before the command begins. The
            caller gets WorkerCrashed with ``.started`` True: nobody can know that nothing ran.
        hang_at: Calls at which the worker hangs: it neither begins the command nor answers pings.
        garbage_at: Calls that are run and then answered with bytes that are no frame: ProtocolError.
        fail_starts: So many starts fail, the first ones: WorkerStartError.
        slow_start: Seconds that each start takes longer.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of its range.
        RuntimeError: Other faults are in force, or these were used before.
    """

    _active: ClassVar[Faults | None] = None

    def __init__(
        self,
        *,
        crash_at: int | Iterable[int] = (),
        hang_at: int | Iterable[int] = (),
        garbage_at: int | Iterable[int] = (),
        fail_starts: int = 0,
        slow_start: float | None = None,
    ) -> None:
        self._plan = Plan(
            crash_at=_numbers("crash_at", crash_at),
            hang_at=_numbers("hang_at", hang_at),
            garbage_at=_numbers("garbage_at", garbage_at),
            fail_starts=count("fail_starts", fail_starts, 0),
            slow_start=seconds_or_none("slow_start", slow_start) or 0.0,
        )
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._counts: dict[str, int] = {}

    @property
    def calls(self) -> int:
        """How many calls workers have taken within the block so far."""
        return self._count("calls")

    @property
    def starts(self) -> int:
        """How many workers were started within the block so far."""
        return self._count("starts")

    def __enter__(self) -> Faults:
        if Faults._active is not None:
            raise RuntimeError("other Faults are in force: give one Faults all that shall go wrong")
        if self._plan.folder:
            raise RuntimeError("these Faults were used before: make new ones, so that counting begins at 1")
        self._folder = tempfile.TemporaryDirectory(prefix="asyncpool-faults-")
        for name in ("calls", "starts"):
            Path(self._folder.name, name).touch()
        self._plan = Plan(**{**_fields(self._plan), "folder": self._folder.name})
        Faults._active = self
        Worker._argv = _faulty_argv  # type: ignore[method-assign, assignment]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        Faults._active = None
        Worker._argv = _argv  # type: ignore[method-assign]
        self._counts = {what: self._plan.count(what) for what in ("calls", "starts")}
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _count(self, what: str) -> int:
        return self._counts.get(what, 0) if self._folder is None else self._plan.count(what)


def current() -> Plan:
    """Return what goes wrong just now."""
    return NOTHING if Faults._active is None else Faults._active._plan


_argv = Worker._argv


def _faulty_argv(worker: Worker, dump: tuple[int, int] | None) -> list[str]:
    """Return the command line of a worker whose process fails as planned."""
    if worker._config.program is not None:
        raise ValueError("Faults are for Python workers, and this pool has a program=")
    return faulty.command_line(worker._config.argv(dump, faulty.__name__), current())


def _fields(plan: Plan) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in plan.__struct_fields__}


def _numbers(name: str, value: int | Iterable[int]) -> frozenset[int]:
    numbers = value if isinstance(value, Iterable) else [value]
    return frozenset(count(name, number, 1) for number in numbers)
