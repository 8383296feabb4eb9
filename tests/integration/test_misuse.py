"""What a user can get wrong, and the sentence that tells what to do about it."""

import asyncio
import functools
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pydantic
import pytest

from asyncpool import AsyncPoolError, PayloadError, Pool, PoolClosed, PoolError, WorkerStartError, command
from tests.support import commands, items
from tests.support.processes import children
from tests.support.scripts import PREAMBLE, ROOT, noise, run

AMBIGUOUS = """
import asyncpool, dataclasses
@dataclasses.dataclass
class A: x: int
@dataclasses.dataclass
class B: y: int
@asyncpool.command
def purr(cat: A | B): pass
"""

BAD_MODULES: dict[str, tuple[str, str]] = {
    "raises": ("raise ValueError('boom at import')", "ValueError: boom at import"),
    "misspelt": ("import asyncpool\n\ndef broken(:\n    pass", "SyntaxError"),
    "lacks": ("import no_such_dependency", "No module named 'no_such_dependency'"),
    "leaves": (
        "import sys; sys.exit('left at import')",
        r"the module 'leaves' called sys\.exit\(\) while it was imported\nleft at import",
    ),
    "exits": ("import os; os._exit(3)", "exited with code 3 before it was ready"),
    "twins": (
        "import asyncpool\n@asyncpool.command\ndef purr(): pass\n@asyncpool.command(name='purr')\ndef meow(): pass",
        r"two commands are named 'purr': twins\.purr and twins\.meow\. Give one of them @command\(name=",
    ),
    "unresolved": (
        "import asyncpool\n@asyncpool.command\ndef purr(cat: 'Cat'): pass",
        r"command purr: parameter 'cat' is annotated 'Cat', which cannot be used.*@command\(typed=False\)",
    ),
    "foreign": (
        "import asyncpool, threading\n@asyncpool.command\ndef purr(lock: threading.Thread): pass",
        r"command purr: parameter 'lock' .*cannot travel.*@command\(typed=False\)",
    ),
    "ambiguous": (
        AMBIGUOUS,
        r"command purr: parameter 'cat' .*cannot be used",
    ),
}


@pytest.mark.parametrize("name", BAD_MODULES)
async def test_a_module_that_cannot_serve_is_told_by_start(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """start() raises WorkerStartError with the reason and the end of stderr; nothing is left."""
    text, expected = BAD_MODULES[name]
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    pool = Pool(name, min_size=2, stderr="discard")
    with pytest.raises(WorkerStartError, match=f"(?s)before it was ready.*{expected}|{expected}") as caught:
        await pool.start()
    assert caught.value.started is False
    assert caught.value.exit_code not in (0, None)
    assert children() == {}


async def test_two_modules_with_one_command_name_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also across modules, the start error names both functions."""
    for name in ("first_cats", "second_cats"):
        (tmp_path / f"{name}.py").write_text("import asyncpool\n@asyncpool.command\ndef purr(): pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WorkerStartError, match=r"first_cats\.purr and second_cats\.purr"):
        await Pool("first_cats", "second_cats", stderr="discard").start()


async def test_one_command_imported_by_two_modules_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command belongs to the module that defines it; who imports it does not offer it a second time."""
    (tmp_path / "home_of_purr.py").write_text("import asyncpool\n@asyncpool.command\ndef purr(): return 'purr'")
    (tmp_path / "guest_of_purr.py").write_text("from home_of_purr import purr\nalias = purr")
    monkeypatch.syspath_prepend(str(tmp_path))
    async with Pool("home_of_purr", "guest_of_purr", max_size=1, stderr="discard") as pool:
        assert await pool.run("purr") == "purr"


@pytest.mark.parametrize("name", ["no_such_module", "no_such.module", "tests.support.no_such"])
async def test_a_module_that_is_not_there_is_named_with_where_was_looked(name: str) -> None:
    """The error has the module's name and the folders of sys.path."""
    with pytest.raises(WorkerStartError, match=f"there is no module '{name}'; looked in .*sys.path") as caught:
        await Pool(name, stderr="discard").start()
    assert str(Path(__file__).parents[2]) in str(caught.value)


async def test_untyped_commands_take_what_their_annotations_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the error advises works: @command(typed=False)."""
    (tmp_path / "untyped_cats.py").write_text(
        "import asyncpool\n@asyncpool.command(typed=False)\ndef purr(cat: 'Cat'): return cat"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    async with Pool("untyped_cats", max_size=1, stderr="discard") as pool:
        assert await pool.run("purr", ["Tom"]) == ["Tom"]


def _decorated(function: Any) -> Any:
    def inner() -> None: ...

    inner.__qualname__ = function.__qualname__
    inner.__module__ = function.__module__
    return inner


def replaced() -> None: ...


original = replaced
replaced = _decorated(replaced)


class Bound:
    def method(self) -> None: ...

    def __call__(self) -> None: ...


async def test_what_cannot_be_a_command_is_refused_with_advice(pool: Pool, subtests: pytest.Subtests) -> None:
    """PayloadError says why a worker could not find it, and what to do instead; no worker is touched."""

    def closure() -> None: ...

    for what, advice in [
        (lambda: None, "def it in a module"),
        (closure, "move it to the top of its module"),
        (functools.partial(closure), "move it to the top of its module"),
        (Bound().method, "pass a module-level function, and what it needs as arguments"),
        ([].append, "pass a module-level function"),
        (original, "Use functools.wraps in the decorator, or give the function its own name"),
        (Bound(), "no module and name|a worker could find"),
        (None, "a function or the name of one"),
        (3, "a function or the name of one"),
        (b"echo", "a function or the name of one"),
        (["echo"], "a function or the name of one"),
    ]:
        with subtests.test(what=repr(what)[:50]):
            with pytest.raises(PayloadError, match=advice) as caught:
                await pool.run(what)  # type: ignore[arg-type]
            assert caught.value.started is False
    assert pool.stats().attempts == 0


async def test_a_command_that_cannot_be_hashed_is_one(pool: Pool) -> None:
    """A decorator may be a class that compares."""
    assert [await pool.run(items.comparing, number) for number in range(3)] == [0, 1, 2]


class Unspeakable(pydantic.BaseModel):
    """Raises what cannot even be printed."""

    def model_dump(self, **_options: Any) -> Any:
        raise Unprintable


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError


async def test_an_argument_that_fails_in_unspeakable_ways_is_refused(pool: Pool) -> None:
    """Its exception has no text: it is the argument that cannot travel, whatever that says."""
    with pytest.raises(PayloadError, match=r"argument number 1: <its str\(\) raised ValueError>"):
        await pool.run("echo", Unspeakable())
    async with pool.options(return_exceptions=True).map("echo", [Unspeakable(), 2], chunk=2) as echoed:
        assert [each if isinstance(each, int) else type(each) async for each in echoed] == [PayloadError, 2]


async def test_submitting_from_a_thread_without_a_loop_says_what_to_do(pool: Pool) -> None:
    """As from another loop."""
    with pytest.raises(PoolError, match="run_coroutine_threadsafe"):
        await asyncio.to_thread(pool.submit, "echo", 1)


async def test_keys_of_a_call_must_be_what_python_takes(pool: Pool) -> None:
    """A call without a command is an ordinary TypeError."""
    with pytest.raises(TypeError):
        await pool.run()  # type: ignore[call-overload]


async def test_a_pool_that_is_not_started_says_how_to_start_it() -> None:
    """Before start: PoolClosed with the two ways to start."""
    pool = Pool(commands)
    for use in (pool.run("echo"), pool.acquire(), pool.options(timeout=1).run("echo")):
        with pytest.raises(PoolClosed, match=r"not started yet: use `async with pool:` or `await pool.start\(\)`"):
            await use
    assert pool.workers() == []
    assert pool.stats().spawned == 0
    assert "new" in repr(pool)


async def test_a_closed_pool_says_so() -> None:
    """After close: PoolClosed, for calls, leases, and for another start."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        held = pool.options(timeout=1)
    for use in (pool.run("echo"), pool.acquire(), held.run("echo")):
        with pytest.raises(PoolClosed, match="it is closed; make a new one") as caught:
            await use
        assert caught.value.started is False
    with pytest.raises(PoolError, match="it is closed; make a new one"):
        await pool.start()
    await pool.aclose()


async def test_a_pool_starts_once(pool: Pool) -> None:
    """start() of a pool that runs is refused, and does it no harm."""
    with pytest.raises(PoolError, match="cannot be started: it is open"):
        await pool.start()
    with pytest.raises(PoolError, match="cannot be started: it is open"):
        async with pool:
            pass
    assert await pool.run("echo", 1) == 1


async def test_closing_what_never_started_closes_it() -> None:
    """aclose() before start(): nothing to do, and nothing can be started afterwards."""
    pool = Pool(commands)
    await pool.aclose()
    await pool.aclose()
    with pytest.raises(PoolError, match="closed"):
        await pool.start()


async def test_another_event_loop_is_told_what_to_do(pool: Pool) -> None:
    """A pool serves the loop that started it; the other one learns of run_coroutine_threadsafe, which works."""
    found: list[Any] = []

    def elsewhere() -> None:
        async def main() -> None:
            for use in (lambda: pool.run("echo", 1), lambda: pool.acquire().__aenter__(), pool.aclose):
                try:
                    found.append(await use())
                except AsyncPoolError as error:
                    found.append(error)

        asyncio.run(main())
        found.append(asyncio.run_coroutine_threadsafe(pool.run("echo", "handed over"), loop).result(5))

    loop = asyncio.get_running_loop()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    await loop.run_in_executor(None, thread.join)
    await loop.shutdown_default_executor()
    assert [type(error) for error in found] == [PoolError, PoolError, PoolError, str]
    assert "belongs to another event loop" in str(found[0])
    assert "run_coroutine_threadsafe" in str(found[0])
    assert "only be closed from the event loop that started it" in str(found[2])
    assert found[3] == "handed over"
    assert await pool.run("echo", 2) == 2


BAD_ARGUMENTS: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((), {"min_size": -1}, ValueError, "min_size must be at least 0"),
    ((), {"min_size": 1.5}, TypeError, "min_size takes an integer"),
    ((), {"min_size": True}, TypeError, "min_size takes an integer"),
    ((), {"max_size": 0}, ValueError, "max_size must be at least 1"),
    ((), {"min_size": 3, "max_size": 2}, ValueError, "min_size=3 is above max_size=2"),
    ((), {"surge": -1}, ValueError, "surge must be at least 0"),
    ((), {"max_waiting": -1}, ValueError, "max_waiting must be at least 0"),
    ((), {"timeout": 0}, ValueError, r"timeout must be above 0 seconds, not 0 \(None: no limit\)"),
    ((), {"timeout": float("nan")}, ValueError, "timeout must be above 0"),
    ((), {"timeout": "5"}, TypeError, "timeout takes seconds as a number, or None"),
    ((), {"acquire_timeout": -1}, ValueError, "acquire_timeout must be above 0"),
    ((), {"start_timeout": None}, TypeError, "start_timeout takes seconds as a number, not None"),
    ((), {"cancel_grace": -0.5}, ValueError, "cancel_grace must be above 0"),
    ((), {"idle_timeout": 0}, ValueError, "idle_timeout must be above 0"),
    ((), {"max_message": 100}, ValueError, "max_message must be at least"),
    ((), {"max_message": 2**32}, ValueError, "max_message must be below"),
    ((), {"stderr": "ignore"}, ValueError, "stderr= takes 'forward', 'log' or 'discard'"),
    ((), {"program": "worker"}, TypeError, "program= takes a list of strings"),
    ((), {"program": []}, TypeError, "program= takes a list of strings"),
    ((), {"program": ["a", 1]}, TypeError, "program= takes a list of strings"),
    (("kittens",), {"program": ["worker"]}, ValueError, "exclude each other"),
    (("kittens.py",), {}, ValueError, r"without \.py"),
    (("./kittens",), {}, ValueError, "not the name of a module"),
    (("",), {}, ValueError, "not the name of a module"),
    ((), {"config": print}, TypeError, "config= cannot travel"),
    ((), {"logs": 1}, TypeError, "logs= takes True or False"),
    ((3,), {}, TypeError, "takes modules or their names, not 3"),
    ((commands.echo,), {}, TypeError, "takes modules or their names"),
    ((), {"unknown": 1}, TypeError, "unknown"),
    ((), {"on_event": 3}, TypeError, "on_event"),
    ((), {"name": 3}, TypeError, "name"),
    ((), {"env": ["A=1"]}, (TypeError, ValueError), "env"),
    ((), {"env": {"A": 1}}, TypeError, "env"),
    ((), {"check_on_acquire": "no"}, TypeError, "check_on_acquire"),
    ((), {"executable": 3}, TypeError, "executable"),
    ((), {"cwd": 3}, TypeError, "cwd"),
]


def test_bad_arguments_are_refused_by_the_constructor(subtests: pytest.Subtests) -> None:
    """Before any process or loop: the error names the argument and what it takes."""
    for args, kwargs, kind, text in BAD_ARGUMENTS:
        with subtests.test(args=args, kwargs=kwargs), pytest.raises(kind, match=text):
            Pool(*args, **kwargs)


def test_bad_options_are_refused_at_once(subtests: pytest.Subtests) -> None:
    """options() checks what it takes when it is called, not when a call is made."""
    pool = Pool(commands)
    for kwargs, kind, text in [
        ({"timeout": 0}, ValueError, "timeout must be above 0"),
        ({"timeout": "1"}, TypeError, "timeout takes seconds"),
        ({"acquire_timeout": -1}, ValueError, "acquire_timeout must be above 0"),
        ({"returns": threading.Thread}, TypeError, "cannot travel"),
        ({"unknown": 1}, TypeError, "unknown"),
    ]:
        with subtests.test(kwargs=kwargs), pytest.raises(kind, match=text):
            pool.options(**kwargs)


def test_bad_marks_are_refused_where_they_stand() -> None:
    """@command takes functions, a name that is a text, times above 0, and retries that can be counted."""

    def function() -> None: ...

    for thing in (Bound, staticmethod(function), 3):
        with pytest.raises(TypeError, match="@command marks plain functions"):
            command(thing)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="name= takes a string"):
        command(name=3)  # type: ignore[call-overload]
    for name in ("timeout", "cancel_grace"):
        with pytest.raises(ValueError, match=f"{name}= takes seconds above 0"):
            command(**{name: 0})  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="on_cancel= takes 'stop' or 'finish'"):
        command(on_cancel="go on")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="retries= takes 0 or more"):
        command(retries=-1)


async def test_a_program_that_is_not_there_is_told() -> None:
    """The start error has the program's name and the system's words."""
    for program, text in [
        (["/does/not/exist"], "(?i)no such file.*/does/not/exist|/does/not/exist.*no such file"),
        (["/"], "(?i)permission denied"),
        ([sys.executable, "/does/not/exist.py"], "can't open file '/does/not/exist.py'"),
    ]:
        with pytest.raises(WorkerStartError, match=text):
            await Pool(program=program, stderr="discard").start()
    with pytest.raises(
        WorkerStartError, match=r"(?i)no such file or directory: '/does/not/exist' \(the pool's cwd=\)$"
    ):
        await Pool(cwd="/does/not/exist", stderr="discard").start()
    with pytest.raises(WorkerStartError, match=r"(?i)no such file"):
        await Pool(executable="/does/not/exist", stderr="discard").start()


LOOPS = ("asyncio", "uvloop")

MAIN = """
    import asyncpool
    import no_such_name_is_needed as kittens

    @asyncpool.command
    def purr():
        return "purr"

    async def main():
        async with Pool(kittens, max_size=1, stderr="discard") as pool:
            print(await pool.run(purr))
            print(await pool.run("meow"), await pool.run(kittens.meow))
    if __name__ == "__main__":
        RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_script_started_from_elsewhere_finds_its_own_modules(tmp_path: Path, loop: str) -> None:
    """Modules beside the script, and the script itself, work wherever it is started."""
    (tmp_path / "app").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "app" / "kittens.py").write_text("import asyncpool\n@asyncpool.command\ndef meow(): return 'meow'")
    text = MAIN.replace("no_such_name_is_needed as ", "")
    ended = run(tmp_path / "app" / "script.py", text, cwd=tmp_path / "elsewhere", LOOP=loop)
    assert (ended.code, noise(ended.err)) == (0, []), ended.err
    assert ended.out.splitlines() == ["purr", "meow meow"]


RELATIVE = """
    sys.path.insert(0, "lib")
    async def main():
        async with Pool("relative_kittens", max_size=1, cwd="/", stderr="discard") as pool:
            import relative_kittens
            print(await pool.run("meow"), await pool.run(relative_kittens.meow), await pool.run(os.getcwd))
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_relative_sys_path_holds_in_workers_that_live_elsewhere(tmp_path: Path, loop: str) -> None:
    """Entries of sys.path are the parent's, whatever the workers' working directory is."""
    (tmp_path / "lib").mkdir()
    text = "import asyncpool\n@asyncpool.command\ndef meow(): return 'meow'"
    (tmp_path / "lib" / "relative_kittens.py").write_text(text)
    ended = run(tmp_path / "script.py", RELATIVE, cwd=tmp_path, LOOP=loop)
    assert (ended.code, ended.out, noise(ended.err)) == (0, "meow meow /\n", []), ended.err


VENDORED = """
    import asyncpool
    from asyncpool_file import where

    async def main():
        async with Pool(max_size=1, stderr="discard", env={"PATH": os.environ["PATH"]}) as pool:
            print(asyncpool.__file__, await pool.run(where))
    RUN(main())
"""


def test_workers_have_the_asyncpool_of_their_parent(tmp_path: Path) -> None:
    """Found by a sys.path that the script changed itself, with no environment to help: both have the same package."""
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "asyncpool").symlink_to(ROOT / "asyncpool")
    (tmp_path / "asyncpool_file.py").write_text("import asyncpool\ndef where(): return asyncpool.__file__")
    text = f"import sys\nsys.path.insert(0, {str(tmp_path / 'vendor')!r})\n{PREAMBLE}{textwrap.dedent(VENDORED)}"
    (tmp_path / "script.py").write_text(text)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        env=environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )
    assert ended.returncode == 0, ended.stderr
    ours, theirs = ended.stdout.split()
    assert ours == theirs == str(tmp_path / "vendor" / "asyncpool" / "__init__.py")


FORK = """
    import asyncpool, warnings
    warnings.simplefilter("ignore", DeprecationWarning)

    async def main():
        async with Pool("tests.support.commands", max_size=2, min_size=2, stderr="discard") as pool:
            pids = [info.pid for info in pool.workers()]
            child = os.fork()
            if child == 0:
                for use in (lambda: pool.run("echo", 1), lambda: pool.acquire().__aenter__(), pool.aclose, pool.start):
                    try:
                        await use()
                        print("nothing", flush=True)
                    except asyncpool.PoolError as error:
                        print(type(error).__name__, "forked" in str(error), "make a new one" in str(error), flush=True)
                print(repr(pool), flush=True)
                del pool
                import gc
                gc.collect()
                os._exit(0)
            os.waitpid(child, 0)
            assert await asyncio.gather(*(pool.run("echo", number) for number in range(50))) == list(range(50))
            assert pids == [info.pid for info in pool.workers()]
            print("parent serves", pool.stats().spawned)
    RUN(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_forked_child_can_neither_use_nor_harm_the_pool(tmp_path: Path, loop: str) -> None:
    """In the child every use is refused with advice; the parent's workers do not notice."""
    ended = run(tmp_path / "script.py", FORK, dev=False, LOOP=loop)
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[:4] == ["PoolClosed True True", "PoolClosed True True", "nothing", "PoolError True True"]
    assert lines[-1] == "parent serves 2"


FORK_AND_POOL = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)

    async def one(number):
        async with Pool("tests.support.commands", max_size=1, stderr="discard") as pool:
            return await pool.run("echo", number)

    async def main():
        async with Pool("tests.support.commands", max_size=1, stderr="discard") as pool:
            assert await pool.run("echo", 1) == 1
            child = os.fork()
            if child == 0:
                asyncio._set_running_loop(None)
                try:
                    code = asyncio.new_event_loop().run_until_complete(one(42))
                finally:
                    os._exit(code)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            print(os.waitstatus_to_exitcode(status), await pool.run("echo", 2))
    RUN(main())
"""


def test_a_forked_child_makes_a_pool_of_its_own(tmp_path: Path) -> None:
    """The advice works: a new pool on a new loop in the child; the parent's is not harmed."""
    ended = run(tmp_path / "script.py", FORK_AND_POOL, dev=False)
    assert (ended.code, ended.out) == (0, "42 2\n"), ended.err


AT_IMPORT = """
    import threading, warnings
    warnings.simplefilter("error", DeprecationWarning)  # of os.fork() in a program that has threads
    pool = Pool("tests.support.commands", min_size=1, max_size=2, stderr="discard")
    done = threading.Event()
    for _ in range(4):
        threading.Thread(target=done.wait).start()

    async def use():
        if sys.argv[1] == "closed":
            async with pool:
                return await pool.run("echo", 1)
        await pool.start()
        return await pool.run("echo", 1)

    async def use_again():
        for attempt in (pool.run("echo", 2), pool.start()):
            try:
                await attempt
            except Exception as error:
                print(type(error).__name__, "make a new one" in str(error), flush=True)
    try:
        print(RUN(use()), flush=True)
        RUN(use_again())
    finally:
        done.set()
"""


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("end", ["closed", "forgotten"])
def test_a_pool_made_at_import_serves_one_loop(tmp_path: Path, loop: str, end: str) -> None:
    """Before any loop is there, with threads around: the first asyncio.run is served, the second told what to do."""
    ended = run(tmp_path / "script.py", AT_IMPORT, end, LOOP=loop)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["1", "PoolClosed True", "PoolError True"]
    assert noise(ended.err) == []
