"""The public face as it was designed, line by line: what stands in the blocks below runs as it stands.

What the type checkers make of the same lines is pinned in ``tests/typing/api.py``.
"""

import ast
import asyncio
import contextlib
import inspect
import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import asyncpool

# --- the worker's side -----------------------------------------------------------------------------------------------

KITTENS = """\
# kittens.py
import contextlib
from collections.abc import Generator, Iterator
import asyncpool

@asyncpool.command
def pet_kitten(name: str, strokes: int = 1) -> str:
    return f"{name} purrs" + "!" * strokes

@asyncpool.command
async def fetch_food(brand: str) -> bytes:               # runs on the worker's own event loop
    return brand.encode()

@asyncpool.command(timeout=60, retries=2)                # defaults that travel with the command
def groom(names: list[str]) -> Generator[str, None, int]:   # a generator streams: each yield is an update,
    for name in names:                                   # its return value is the result
        yield name
    return len(names)

@asyncpool.lifespan                                      # around the worker's life: entered before it says it is ready
@contextlib.contextmanager
def model() -> Iterator[None]:
    yield
"""

# --- the application's side ------------------------------------------------------------------------------------------

APPLICATION = """\
async with asyncpool.Pool("kittens", min_size=2, max_size=5) as pool:
    purr = await pool.run(kittens.pet_kitten, "Tom", strokes=3)      # typed: purr is str for mypy and pyright
    purr = await pool.run("pet_kitten", "Tom")                       # by name: the parent need not import the module
    async with asyncio.timeout(5):                                   # cancelling the await stops the work
        await pool.run(math.factorial, 20_000)                       # any importable function is a command

    async with pool.stream(kittens.groom, ["Tom", "Fluffy"]) as updates:
        async for name in updates:
            print(name)
        groomed = updates.result
    async with pool.map(kittens.pet_kitten, names) as purrs:         # lazy, bounded window, ordered or as completed
        async for purr in purrs:
            print(purr)
    task = pool.submit(kittens.pet_kitten, "Tom")                    # asyncio.Task; a failure nobody awaits is logged
    async with pool.acquire() as worker:                             # a lease: several calls on the same worker
        await worker.run("load", "model.bin")
        await worker.run("predict", x)
    await pool.options(timeout=2, retries=1, key=user_id).run("pet_kitten", "Tom")   # per-call options
"""

POOL = """\
class Pool:
    def __init__(
        self, *modules: str | ModuleType,
        program: Sequence[str] | None = None,
        executable: str | None = None,
        min_size: int = 1, max_size: int | None = None,
        surge: int = 1,
        idle_timeout: float | None = 120.0,
        max_waiting: int | None = None,
        acquire_timeout: float | None = None,
        timeout: float | None = None,
        cancel_grace: float = 1.0,
        start_timeout: float = 30.0,
        max_calls: int | None = None, max_lifetime: float | None = None,
        max_memory: int | None = None,
        health_interval: float | None = 30.0,
        health_timeout: float = 5.0, check_on_acquire: bool = False,
        concurrency: int = 1,
        max_message: int = 128 * 2**20,
        registered_only: bool = False,
        config: Any = None,
        env: Mapping[str, str] | None = None, cwd: str | os.PathLike[str] | None = None,
        stderr: Literal["forward", "log", "discard"] = "forward",
        on_event: Callable[[Event], None] | None = None, name: str = "pool",
    ) -> None: ...
    async def start(self) -> None: ...
    async def aclose(self, grace: float = 10.0) -> None: ...
    async def restart(self) -> None: ...
    async def resize(self, *, min_size=None, max_size=None) -> None: ...
    def stats(self) -> PoolStats: ...
    def workers(self) -> list[WorkerInfo]: ...
"""

ERRORS = """\
AsyncPoolError
    PoolError
        PoolClosed
        PoolFull
        AcquireTimeout TimeoutError
        CommandTimeout TimeoutError
        PayloadError TypeError
    WorkerError
        WorkerStartError
        WorkerCrashed
        ProtocolError
    CommandError
        UnknownCommand TypeError
        ArgumentError TypeError
        ResultError TypeError
"""

# Beside the block: commands that it calls and does not define, and a look at the lifespan.
MODEL = """
def _entered():
    global entered
    entered = True
    with _model() as value:
        yield value

_model, entered, loaded = model, False, None
model = asyncpool.lifespan(contextlib.contextmanager(_entered))

@asyncpool.command
def load(path: str) -> None:
    global loaded
    loaded = path

@asyncpool.command
def predict(x: int) -> list[object]:
    return [loaded, x, entered]
"""


@pytest.fixture
def kittens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The worker's module, imported here too."""
    (tmp_path / "kittens.py").write_text(KITTENS + MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "kittens", raising=False)
    yield __import__("kittens")
    sys.modules.pop("kittens", None)


def application(kittens: ModuleType) -> Callable[..., Any]:
    """Return the block as an async function that returns what its names stand for at its end."""
    body = APPLICATION + "return locals()\n"
    scope = {"asyncio": asyncio, "asyncpool": asyncpool, "kittens": kittens, "math": math}
    exec("async def application(names, x, user_id):\n" + textwrap.indent(body, "    "), scope)
    return scope["application"]


async def test_the_application_runs_as_it_stands(kittens: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line of the block, and what each of its names is at the end."""
    here = await application(kittens)(["Tom", "Fluffy", "Minka"], 7, ("user", 1))
    assert capsys.readouterr().out.splitlines() == ["Tom", "Fluffy", "Tom purrs!", "Fluffy purrs!", "Minka purrs!"]
    assert (here["purr"], here["groomed"]) == ("Minka purrs!", 2)
    assert isinstance(here["task"], asyncio.Task)
    assert await here["task"] == "Tom purrs!"
    stats = here["pool"].stats()
    assert stats.outcomes == {"ok": 11}
    assert here["pool"].workers() == []


async def test_what_the_comments_beside_the_lines_say(kittens: ModuleType) -> None:
    """Results, the lifespan before readiness, defaults that travel, the worker's own loop."""
    async with asyncpool.Pool("kittens", max_size=1) as pool:
        assert await pool.run(kittens.pet_kitten, "Tom", strokes=3) == "Tom purrs!!!"
        assert await pool.run(math.factorial, 20_000) == math.factorial(20_000)
        assert await pool.run(kittens.fetch_food, "Whiskas") == b"Whiskas"
        async with pool.acquire() as worker:
            await worker.run("load", "model.bin")
            assert await worker.run("predict", 7) == ["model.bin", 7, True]
        assert await pool.run("groom", ["Tom"]) == 1
    assert kittens.entered is False  # it is the worker's lifespan
    assert kittens.pet_kitten("Tom") == "Tom purrs!"  # the mark returns the function itself
    assert list(kittens.groom(["Tom"])) == ["Tom"]


def test_the_pool_takes_what_was_designed() -> None:
    """Each parameter of the blocks is there, with its name, its kind, its default and its annotation."""
    designed = ast.parse(POOL).body[0]
    assert isinstance(designed, ast.ClassDef)
    for method in designed.body:
        assert isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
        real = _definition(getattr(asyncpool.Pool, method.name))
        assert type(real) is type(method)
        assert ast.dump(method.args.args[0]) == ast.dump(real.args.args[0])
        missing = _parameters(method) - _parameters(real)
        if method.name == "resize":  # the design leaves its annotations out
            missing = {name for name, *_ in missing} - {name for name, *_ in _parameters(real)}
        assert not missing


def _definition(function: Any) -> ast.FunctionDef | ast.AsyncFunctionDef:
    found = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef)
    return found


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[tuple[str, str, str]]:
    """Return the name, the annotation and the default of each parameter that is not positional-only."""
    args = function.args
    named = [(arg, default) for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    usual = args.args[1:]
    named += zip(usual, [None] * (len(usual) - len(args.defaults)) + args.defaults, strict=True)
    named += [(args.vararg, None)] if args.vararg else []
    return {
        (arg.arg, ast.unparse(arg.annotation) if arg.annotation else "", ast.unparse(default) if default else "")
        for arg, default in named
    }


def test_the_errors_are_the_designed_tree() -> None:
    """Each class, its place and its other base."""
    tree, above = [], [Exception]
    for line in ERRORS.splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        name, *other = line.split()
        kind = getattr(asyncpool, name)
        bases = [above[depth], *(getattr(__import__("builtins"), each) for each in other)]
        assert list(kind.__bases__) == bases
        above[depth + 1 :] = [kind]
        tree.append(name)
    public = [getattr(asyncpool, name) for name in asyncpool.__all__]
    errors = [each for each in public if isinstance(each, type) and issubclass(each, asyncpool.AsyncPoolError)]
    assert sorted(tree) == sorted(each.__name__ for each in errors)
    assert all(isinstance(each.started, bool) for each in errors)


async def test_numbers_and_names_are_as_designed(kittens: ModuleType) -> None:
    """The fields of stats and workers, the options, the repr, and the two forms of acquire."""
    async with asyncpool.Pool("kittens", min_size=2, max_size=2) as pool:
        assert repr(pool) == "<Pool 'pool' 2 idle, 0 busy, 0 starting, 0 waiting>"
        lease = await pool.acquire()
        assert sorted(each.state for each in pool.workers()) == ["busy", "idle"]
        await pool.release(lease)
        for field in ("starting", "idle", "busy", "retiring", "waiting", "running"):
            assert isinstance(getattr(pool.stats(), field), int)
        for field in ("id", "pid", "state", "calls", "age", "rss", "command"):
            assert hasattr(pool.workers()[0], field)
        with contextlib.suppress(AttributeError):
            pool.stats().idle = 0  # type: ignore[misc]
        assert pool.stats().idle == 2
        designed = {"timeout", "acquire_timeout", "retries", "on_cancel", "key", "returns", "on_update", "meta"}
        assert designed <= set(inspect.signature(pool.options).parameters)
        view = pool.options(timeout=1)
        assert all(callable(getattr(view, name)) for name in ("run", "stream", "submit", "map"))
        assert await pool.broadcast("pet_kitten", "Tom") == ["Tom purrs!"] * 2
