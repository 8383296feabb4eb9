"""A pool's settings: checked once, then passed on whole."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

import asyncpool
from asyncpool.errors import PayloadError
from asyncpool.pool.cpus import usable_cpus
from asyncpool.pool.events import Event
from asyncpool.pool.policy import Limits
from asyncpool.pool.reference import NO_SCRIPT, absolute, main_script
from asyncpool.pool.stderr import Mode
from asyncpool.protocol import payload
from asyncpool.protocol.messages import MAIN

# `-m` would import runpy, 3 ms.
BOOT = (
    "import sys; sys.path[:0] = {first}; sys.path += {last}; import asyncpool.worker.lean; from {main} import main; "
    "main(stack={stack}, parent={parent}, linger={linger}, own_path={own_path})"
)
STANDARD = str(Path(os.__file__).parent)  # the standard library's entry of sys.path
ZIPPED = f"python{sys.version_info.major}{sys.version_info.minor}"  # the same, where it is in a .zip
SMALLEST_MESSAGE = 64 * 1024  # bytes
LARGEST_CONFIG = 512 * 1024  # bytes; Hello must fit into what a worker takes as its first frame


@dataclass(frozen=True, kw_only=True)
class Config:
    """See ``Pool`` for what each means.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A value is out of its range, or two contradict each other.
    """

    modules: tuple[str, ...]
    program: tuple[str, ...] | None
    executable: str
    own_path: bool  # it is another Python than this one, with libraries of its own
    cpus: int
    limits: Limits
    acquire_timeout: float | None
    timeout: float | None
    cancel_grace: float
    start_timeout: float
    health_timeout: float
    max_message: int
    registered_only: bool
    config: bytes
    logs: bool
    concurrency: int
    allow_pickle: bool
    env: dict[str, str] | None
    cwd: str | os.PathLike[str] | None
    stderr: Mode
    on_event: Callable[[Event], None] | None
    name: str

    def argv(self, stack: tuple[int, int] | None = None, main: str = "asyncpool.worker.__main__") -> list[str]:
        """Return the command line of a worker.

        Args:
            stack: Descriptor that a Python worker writes its stacks to, and the signal at which it does.
            main: Module whose ``main`` a Python worker runs.
        """
        if self.program is not None:
            return list(self.program)
        first, last = ([], []) if self.own_path else _roots()
        how = {"main": main, "stack": stack, "parent": _parent(), "linger": self.cpus > 1, "own_path": self.own_path}
        boot = BOOT.format(first=first, last=last, **how)
        return [self.executable, *_interpreter_flags(), "-P", "-c", boot]

    def sys_path(self) -> list[str]:
        """Return what a worker shall find modules by: all that this process does, made absolute.

        Another Python gets only the application's own folders, ahead of what it has itself: the libraries of this one
        are not made for it.
        """
        paths = [path for entry in sys.path if (path := absolute(entry))]
        return [path for path in paths if not _is_of_python(path)] if self.own_path else paths


def configure(
    modules: tuple[str | ModuleType, ...],
    *,
    program: Sequence[str] | None,
    executable: str | None,
    min_size: int,
    max_size: int | None,
    surge: int,
    idle_timeout: float | None,
    max_waiting: int | None,
    health_interval: float | None,
    check_on_acquire: bool,
    max_calls: int | None,
    max_lifetime: float | None,
    max_memory: int | None,
    config: Any,
    **rest: Any,
) -> Config:
    """Check everything that a pool is given."""
    cpus = usable_cpus()
    limits = Limits(
        min_size=count("min_size", min_size, 0),
        max_size=max(cpus, min_size) if max_size is None else count("max_size", max_size, 1),
        surge=count("surge", surge, 0),
        idle_timeout=_seconds("idle_timeout", idle_timeout, optional=True),
        max_waiting=None if max_waiting is None else count("max_waiting", max_waiting, 0),
        health_interval=_seconds("health_interval", health_interval, optional=True),
        check_on_acquire=check_on_acquire,
        starts_at_once=max(2, cpus),
        max_calls=None if max_calls is None else count("max_calls", max_calls, 1),
        max_lifetime=_seconds("max_lifetime", max_lifetime, optional=True),
        max_memory=None if max_memory is None else count("max_memory", max_memory, 1),
    )
    check_sizes(limits)
    _check_program(program, modules)
    for name in ("acquire_timeout", "timeout"):
        _seconds(name, rest[name], optional=True)
    for name in ("cancel_grace", "start_timeout", "health_timeout"):
        _seconds(name, rest[name])
    count("concurrency", rest["concurrency"], 1)
    count("max_message", rest["max_message"], SMALLEST_MESSAGE)
    if rest["max_message"] >= 2**32:
        raise ValueError("max_message must be below 2**32: the wire has 32 bits for a length")
    if rest["allow_pickle"] and program is not None:
        raise ValueError("allow_pickle and program= exclude each other: only the Python workers of a pool load pickles")
    if rest["stderr"] not in ("forward", "log", "discard"):
        raise ValueError(f"stderr= takes 'forward', 'log' or 'discard', not {rest['stderr']!r}")
    _check_types(executable=executable, check_on_acquire=check_on_acquire, **rest)
    rest["env"] = None if rest["env"] is None else dict(rest["env"])
    python = executable if executable is not None else sys.executable
    if not python and program is None:
        raise ValueError("sys.executable is empty in this process: pass executable=, the Python of the workers")
    return Config(
        modules=tuple(_module_name(module) for module in modules),
        program=None if program is None else tuple(program),
        executable=python,
        own_path=not _is_this_python(python),
        cpus=cpus,
        limits=limits,
        config=_encoded(config, rest["allow_pickle"]),
        **rest,
    )


def _encoded(config: Any, allow_pickle: bool) -> bytes:
    try:
        encoded = payload.Codec(pickles=allow_pickle).encode(config)
    except Exception as error:  # encoding runs the user's own properties
        raise PayloadError(f"config= cannot travel to the workers: {error}") from None
    if len(encoded) > LARGEST_CONFIG:
        raise PayloadError(
            f"config= takes {len(encoded):,} bytes, above {LARGEST_CONFIG:,}: pass the name of a file that holds it"
        )
    return encoded


def seconds_or_none(name: str, value: Any) -> float | None:
    """Check a time limit that may be None."""
    return _seconds(name, value, optional=True)


def check_sizes(limits: Limits) -> None:
    """Check that the sizes fit together."""
    if limits.min_size > limits.max_size:
        raise ValueError(f"min_size={limits.min_size} is above max_size={limits.max_size}")


def check_key(key: Hashable) -> Hashable:
    """Return *key* if it can be one.

    Raises:
        TypeError: It cannot be hashed.
    """
    try:
        hash(key)
    except TypeError:
        raise TypeError(f"key= takes what can be hashed, as a key of a dict, not {key!r}") from None
    return key


def check_meta(value: Any) -> Mapping[str, str]:
    """Check what travels with a call beside its arguments."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(part, str) for item in value.items() for part in item):
        raise TypeError(f"meta= takes a mapping of strings to strings, not {value!r}")
    return dict(value)


def check_grace(value: Any) -> None:
    """Check the time that closing may take."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"grace takes seconds as a number, not {value!r}")
    if not value >= 0:
        raise ValueError(f"grace must be 0 seconds or more, not {value}")


def _check_program(program: Sequence[str] | None, modules: tuple[Any, ...]) -> None:
    if program is None:
        return
    if isinstance(program, (str, bytes)) or not program or not all(isinstance(part, str) for part in program):
        raise TypeError(f"program= takes a list of strings, the program and its arguments, not {program!r}")
    if modules:
        raise ValueError("program= and modules exclude each other: another program imports its own modules")


def _check_types(**given: Any) -> None:
    checks: tuple[tuple[str, Any, str], ...] = (
        ("name", (str,), "a string"),
        ("executable", (str, type(None)), "the path of a Python as a string"),
        ("cwd", (str, os.PathLike, type(None)), "a path"),
        ("env", (Mapping, type(None)), "a mapping of strings, as os.environ is"),
        ("check_on_acquire", (bool,), "True or False"),
        ("registered_only", (bool,), "True or False"),
        ("logs", (bool,), "True or False"),
        ("allow_pickle", (bool,), "True or False"),
        ("on_event", (Callable, type(None)), "a function of one Event"),
    )
    for name, kinds, title in checks:
        if not isinstance(given[name], kinds):
            raise TypeError(f"{name}= takes {title}, not {given[name]!r}")
    for item in (given["env"] or {}).items():
        if not all(isinstance(part, str) for part in item):
            raise TypeError(f"env= takes a mapping of strings, not one with {item!r}")


def _module_name(module: Any) -> str:
    name = module.__name__ if isinstance(module, ModuleType) else module
    if not isinstance(name, str):
        raise TypeError(f"Pool takes modules or their names, not {module!r}")
    if name in ("__main__", MAIN):
        if not main_script():
            raise ValueError(f"the commands are defined in {NO_SCRIPT}")
        return "__main__"
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(f"{name!r} is not the name of a module, such as 'kittens' or 'app.kittens' (without .py)")
    return name


def count(name: str, value: Any, least: int) -> int:
    """Check a number of something."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} takes an integer, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return value


def _seconds(name: str, value: Any, *, optional: bool = False) -> float | None:
    if value is None and optional:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} takes seconds as a number{', or None' if optional else ''}, not {value!r}")
    if not 0 < value <= sys.float_info.max:  # of an integer: it may be larger
        raise ValueError(f"{name} must be above 0 seconds, not {value}{' (None: no limit)' if optional else ''}")
    return float(value)


def _roots() -> tuple[list[str], list[str]]:
    """Return where this process found asyncpool and msgspec: ahead of the standard library, and behind it.

    The worker finds them in the same order; ahead of the standard library, site-packages could hide parts of it.
    """
    standard = sys.path.index(STANDARD) if STANDARD in sys.path else 0
    roots = dict.fromkeys(str(Path(str(module.__file__)).parents[1]) for module in (asyncpool, msgspec))
    before = [os.path.abspath(entry) for entry in sys.path[:standard]]
    ahead = [root for root in roots if root in before]
    return ahead, [root for root in roots if root not in ahead]


def _is_this_python(executable: str) -> bool:
    """Return whether it is the interpreter of this environment, maybe by another of its names.

    Only names of one folder: that of a virtual environment may be a link to one that has other libraries.
    """
    here, there = Path(sys.executable), Path(shutil.which(executable) or executable).absolute()
    if here == there:
        return True
    try:
        return here.parent == there.parent and here.samefile(there)
    except OSError:  # there is none: the worker's start will tell
        return False


def _is_of_python(path: str) -> bool:
    """Return whether an entry of sys.path belongs to the interpreter and what is installed there."""
    entry = Path(path)
    packages = {"site-packages", "dist-packages"} & set(entry.parts)
    return bool(packages) or entry.is_relative_to(STANDARD) or (entry.suffix == ".zip" and entry.stem == ZIPPED)


def _parent() -> int:
    """Return the process id with which a worker that is spawned here and now shall die; 0: with none.

    The kernel ties it to the thread that spawns, and a helper thread may end long before the application does.
    """
    return os.getpid() if threading.get_native_id() == os.getpid() else 0


def _interpreter_flags() -> list[str]:
    """Return this interpreter's own flags (-X dev, -W error, -O, ...), as multiprocessing passes them on."""
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    flags: list[str] = _args_from_interpreter_flags()
    return [flag for flag in flags if flag != "-P"]
