"""What is imported, and what is not: a worker starts often, and each import costs milliseconds."""

import os
import subprocess
import sys
from pathlib import Path

from asyncpool import Pool

ROOT = Path(__file__).parents[2]
HEAVY = {
    "asyncio",
    "anyio",
    "logging",
    "socket",
    "ssl",
    "concurrent.futures",
    "multiprocessing",
    "subprocess",
    "pathlib",
    "pickle",
    "ctypes",
    "signal",  # needs enum
    "typing_extensions",  # msgspec would have it
}


def imported_by(statement: str) -> set[str]:
    """Return the modules that a fresh interpreter has after *statement*."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {statement}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_importing_the_package_costs_nothing() -> None:
    """`import asyncpool` brings no module of the standard library along, least of all typing and asyncio."""
    new = imported_by("import asyncpool") - imported_by("pass")
    assert new == {"asyncpool"}


def test_marking_commands_costs_nothing() -> None:
    """A worker's module that marks a command needs one more small module."""
    new = imported_by("import asyncpool; asyncpool.command(lambda: None)") - imported_by("pass")
    assert new == {"__future__", "asyncpool", "asyncpool.commands"}


def test_registering_a_type_costs_nothing() -> None:
    """A module that registers its types needs one more small module, too."""
    register = "asyncpool.register_type(type('A', (), {}), encode=repr, decode=repr, code=64)"
    new = imported_by(f"import asyncpool; {register}") - imported_by("pass")
    assert new == {"__future__", "asyncpool", "asyncpool.types"}


def test_what_a_worker_does_without_is_there_for_others() -> None:
    """A command may import typing_extensions, and has msgspec as it is elsewhere."""
    assert "typing_extensions" not in imported_by("import asyncpool.worker.lean")
    assert {"typing_extensions", "msgspec"} <= imported_by("import asyncpool.worker.lean, typing_extensions")


async def test_a_worker_without_modules_has_imported_nothing_heavy() -> None:
    """No asyncio, no anyio, no logging, no pickle, and nothing of the parent's half of the package."""
    async with Pool(max_size=1, stderr="discard") as pool:
        modules = set(await pool.run(_modules_of_a_worker_command()))
    assert modules & HEAVY == set()
    assert not [name for name in modules if name.startswith("asyncpool.pool")]


async def test_a_path_travels_to_a_worker_that_has_imported_no_pathlib() -> None:
    """It arrives as a path, and comes back as one, with bytes that are no text, and among larger integers, too."""
    path = Path(os.fsdecode(b"a\xff"))
    async with Pool(max_size=1, stderr="discard") as pool:
        assert await pool.run(repr, path) == repr(path)
        assert await pool.run(list, (path, 2**70)) == [path, 2**70]


def _modules_of_a_worker_command() -> object:
    from tests.support import bare

    return bare.modules


async def test_a_worker_with_plain_commands_has_imported_nothing_heavy() -> None:
    """Marking and running commands brings in nothing more."""
    async with Pool("tests.support.bare", max_size=1, stderr="discard") as pool:
        modules = set(await pool.run("modules"))
    assert modules & HEAVY == set()


TROUBLE = """
import asyncio, sys
from asyncpool import AsyncPoolError, Pool
from tests.support import commands
async def main():
    async with Pool(commands, min_size=2, stderr="discard") as pool:
        assert await pool.run("echo", 1) == 1
        before = set(sys.modules)
        call = asyncio.create_task(pool.run("sleep", 60))
        while not pool.stats().running:
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        for command, *arguments in (("crash",), ("fail", "ValueError"), ("sleep", 60)):
            try:
                await pool.options(timeout=1).run(command, *arguments)
            except AsyncPoolError as error:
                print(type(error).__name__)
        await pool.aclose(0)
        print(*sorted(set(sys.modules) - before))
asyncio.run(main())
"""


ERRORS = ["WorkerCrashed", "ValueError", "CommandTimeout"]


def test_trouble_imports_nothing() -> None:
    """A first cancel, crash or timeout holds up the event loop for no import: a pool that has started has all."""
    program = [sys.executable, "-c", TROUBLE]
    assert subprocess.run(program, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split() == ERRORS
