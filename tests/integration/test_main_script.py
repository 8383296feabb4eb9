"""Commands that are defined in the application's own script."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.scripts import LIMIT, ROOT, noise, run

KITTENS = """
    import asyncpool, contextlib, dataclasses, pickle

    def note(text):
        with open("imported", "a") as file:
            file.write(text + "\\n")

    note(__name__)

    @dataclasses.dataclass
    class Cat:
        name: str
        lives: "int" = 9

    class Hiss(Exception):
        pass

    @asyncpool.command(timeout=30)
    def purr(cat: Cat) -> Cat:
        if cat.name == "Grumpy":
            raise Hiss("no", cat.lives)
        return Cat(cat.name + " purrs", cat.lives - 1)

    assert purr.__annotations__["cat"] is Cat  # no future of ours is taken over

    def unpickle(data: bytes) -> bytes:
        cat = pickle.loads(data)
        assert type(cat) is Cat, type(cat)
        return pickle.dumps(cat)

    @asyncpool.lifespan
    @contextlib.contextmanager
    def life():
        note("entered")
        yield
"""
START = """
    async def main():
        async with Pool(max_size=1) as pool:
            cat = await pool.run(purr, Cat("Tom"))
            print(cat, type(cat) is Cat)
            try:
                await pool.run(purr, Cat("Grumpy"))
            except Hiss as error:
                print(error.args, isinstance(error, asyncpool.CommandError), error.type_name)
            back = pickle.loads(await pool.run(unpickle, pickle.dumps(Cat("Tom"))))
            print(back, type(back) is Cat)
"""
GUARDED = """
    if __name__ == "__main__":
        RUN(main())
"""
SAID = ["Cat(name='Tom purrs', lives=8) True", "('no', 9) True __main__.Hiss", "Cat(name='Tom', lives=9) True"]
LOOPS = ("asyncio", "uvloop")


def imported(folder: Path) -> list[str]:
    return (folder / "imported").read_text().split()


@pytest.mark.parametrize("loop", LOOPS)
def test_commands_of_the_script_itself_work(tmp_path: Path, loop: str) -> None:
    """Dataclasses, errors and pickles of the script arrive as its own; a worker imports it when it needs it, once."""
    ended = run(tmp_path / "app.py", KITTENS + START + GUARDED, cwd=tmp_path, LOOP=loop)
    assert (ended.code, noise(ended.err)) == (0, []), ended.err
    assert ended.out.splitlines() == SAID
    assert imported(tmp_path) == ["__main__", "__asyncpool_main__"]


@pytest.mark.parametrize("module", ["'__main__'", "sys.modules['__main__']"])
def test_the_script_may_be_one_of_the_modules(tmp_path: Path, module: str) -> None:
    """Then its commands have names, and its lifespans are entered."""
    start = f"""
    async def main():
        async with Pool({module}, max_size=1) as pool:
            assert pool.workers()[0].state == "idle"
            print(await pool.run("purr", Cat("Tom")), await pool.run(purr, Cat("Tom")))
            print(await pool.run(int, 5))
"""
    ended = run(tmp_path / "app.py", KITTENS + start + GUARDED, cwd=tmp_path)
    assert (ended.code, noise(ended.err)) == (0, []), ended.err
    assert ended.out.splitlines() == [
        "{'name': 'Tom purrs', 'lives': 8} Cat(name='Tom purrs', lives=8)",
        "5",
    ]
    assert imported(tmp_path) == ["__main__", "__asyncpool_main__", "entered"]


@pytest.mark.parametrize("loop", LOOPS)
def test_an_inline_pool_has_the_script_that_runs(tmp_path: Path, loop: str) -> None:
    """It is not imported again; its commands have names, its lifespans are entered, its functions can be called."""
    start = """
    from asyncpool.testing import InlinePool

    async def main():
        for modules in (["__main__"], []):
            async with InlinePool(*modules, max_size=1) as pool:
                if modules:
                    print(await pool.run("purr", Cat("Tom")))
                print(await pool.run(purr, Cat("Tom")))
"""
    ended = run(tmp_path / "app.py", KITTENS + start + GUARDED, cwd=tmp_path, LOOP=loop)
    assert (ended.code, noise(ended.err)) == (0, []), ended.err
    cat = "Cat(name='Tom purrs', lives=8)"
    assert ended.out.splitlines() == ["{'name': 'Tom purrs', 'lives': 8}", cat, cat]
    assert imported(tmp_path) == ["__main__", "entered"]


def test_workers_that_need_no_script_import_none(tmp_path: Path) -> None:
    """Whoever calls other functions only is not asked to guard anything."""
    start = """
    async def main():
        async with Pool(max_size=1) as pool:
            print(await pool.run(int, 5))
    RUN(main())
"""
    ended = run(tmp_path / "app.py", KITTENS + start, cwd=tmp_path, dev=False)
    assert (ended.code, ended.out, ended.err) == (0, "5\n", "")
    assert imported(tmp_path) == ["__main__"]


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("listed", [False, True], ids=["called", "listed"])
def test_a_script_without_a_guard_is_not_started_again(tmp_path: Path, loop: str, listed: bool) -> None:
    """The worker refuses to start anything, and the error says how to guard; no process starts another."""
    start = START.replace("Pool(", "Pool('__main__', " if listed else "Pool(") + "    RUN(main())\n"
    start = start.replace("async with", "note('main'); await asyncio.sleep(0)\n        async with", 1)
    ended = run(tmp_path / "app.py", KITTENS + start, cwd=tmp_path, LOOP=loop)
    assert ended.code == 1
    assert 'put what starts it under `if __name__ == "__main__":`' in ended.err
    assert ("UnknownCommand" in ended.err) is not listed
    assert ("WorkerStartError" in ended.err) is listed
    assert noise(ended.err) == []
    assert loop == "uvloop" or "never awaited" not in ended.err  # uvloop wraps the coroutine into one of its own
    assert imported(tmp_path) == ["__main__", "main", "__asyncpool_main__"]


OTHER_WAYS = {
    "exits": "sys.exit(RUN(main()))",
    "by hand": "asyncio.new_event_loop().run_until_complete(main())",
    "runner": "with asyncio.Runner() as runner: runner.run(main())",
    "anyio": "import anyio; anyio.run(main)",
}


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_other_ways_to_start_are_refused_as_well(tmp_path: Path, way: str) -> None:
    """Whichever way its loop is run: at the latest the pool itself is not started."""
    text = KITTENS + START + f"    {OTHER_WAYS[way]}\n"
    ended = run(tmp_path / "app.py", text, cwd=tmp_path)
    assert ended.code == 1
    assert 'under `if __name__ == "__main__":`' in ended.err
    assert imported(tmp_path) == ["__main__", "__asyncpool_main__"]


def test_a_script_that_fails_to_import_is_imported_once(tmp_path: Path) -> None:
    """The call says why; the next one too, without running it again; the worker stays."""
    start = """
    if __name__ != "__main__":
        sys.exit("not here")
    async def main():
        async with Pool(max_size=1) as pool:
            for _ in range(2):
                try:
                    await pool.run(purr, Cat("Tom"))
                except asyncpool.UnknownCommand as error:
                    print(error)
            print(pool.stats().spawned)
    RUN(main())
"""
    ended = run(tmp_path / "app.py", KITTENS + start, cwd=tmp_path)
    first, second, spawned = ended.out.splitlines()
    assert "cannot find __main__:purr in the worker: SystemExit: not here" in first
    assert "could not be imported: SystemExit('not here')" in second
    assert spawned == "1"
    assert imported(tmp_path) == ["__main__", "__asyncpool_main__"]


def test_a_command_under_the_guard_says_where_it_belongs(tmp_path: Path) -> None:
    """What is defined only in the application is not there in a worker."""
    start = """
    if __name__ == "__main__":
        def late(): return 1
        async def main():
            async with Pool(max_size=1) as pool:
                await pool.run(late)
        RUN(main())
"""
    ended = run(tmp_path / "app.py", KITTENS + start, cwd=tmp_path)
    assert ended.code == 1
    assert 'what stands under `if __name__ == "__main__":` is not there: define it above' in ended.err


def python(*arguments: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=LIMIT,
        check=False,
    )


TOOL = """
import asyncio
import asyncpool
from .food import FISH

def feed() -> str:
    return f"{FISH} {__package__} {__spec__.name}"

async def main():
    async with asyncpool.Pool(max_size=1) as pool:
        print(await pool.run(feed))

if __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["cats.tool", "cats"])
def test_a_module_that_is_started_with_m_works(tmp_path: Path, name: str) -> None:
    """With its relative imports; a package's __main__.py too."""
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "__init__.py").touch()
    (tmp_path / "cats" / "food.py").write_text("FISH = 'herring'")
    (tmp_path / "cats" / ("tool.py" if name == "cats.tool" else "__main__.py")).write_text(TOOL)
    ended = python("-m", name, cwd=tmp_path)
    full = name if name == "cats.tool" else "cats.__main__"
    assert (ended.stdout, ended.stderr) == (f"herring cats {full}\n", "")


def test_a_script_without_the_suffix_and_a_folder_work(tmp_path: Path) -> None:
    """Whatever Python can start that has a file."""
    text = TOOL.replace("from .food import FISH", "FISH = 'herring'").replace(" {__package__} {__spec__.name}", "")
    (tmp_path / "tool").write_text(text)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(text)
    for name in ("tool", "folder"):
        ended = python(name, cwd=tmp_path)
        assert (ended.stdout, ended.stderr) == ("herring\n", "")


WITHOUT_FILE = """
import asyncio, asyncpool
def feed(): return 1
async def main():
    for modules in ((), ("__main__",)):
        try:
            async with asyncpool.Pool(*modules, max_size=1) as pool:
                await pool.run(feed)
        except (asyncpool.PayloadError, ValueError) as error:
            print(error)

asyncio.run(main())
"""


@pytest.mark.parametrize("way", ["-c", "-", "-i"])
def test_where_there_is_no_file_the_error_says_what_to_do(tmp_path: Path, way: str) -> None:
    """At a prompt, with -c, from standard input, and so in a notebook."""
    if way == "-c":
        ended = python("-c", WITHOUT_FILE, cwd=tmp_path)
    elif way == "-":
        ended = python("-", cwd=tmp_path, stdin=WITHOUT_FILE)
    else:
        ended = python("-i", "-q", cwd=tmp_path, stdin=f"exec({WITHOUT_FILE!r})\n")
    called, listed = ended.stdout.splitlines()
    assert called.startswith("feed is defined in a prompt, a notebook")
    assert listed.startswith("the commands are defined in a prompt, a notebook")
    for line in (called, listed):
        assert "%%writefile kittens.py" in line
        assert "pass Pool(...) that module" in line


def test_a_pool_in_a_worker_finds_the_script_too(tmp_path: Path) -> None:
    """A command of the script may itself run commands of the script in workers of its own."""
    start = """
    async def inner(name: str) -> str:
        async with Pool(max_size=1) as pool:
            cat = await pool.run(purr, Cat(name))
            try:
                await pool.run(purr, Cat("Grumpy"))
            except Hiss:
                return cat.name + " twice"

    async def main():
        async with Pool(max_size=1) as pool:
            print(await pool.run(inner, "Tom"))
"""
    ended = run(tmp_path / "app.py", KITTENS + start + GUARDED, cwd=tmp_path)
    assert (ended.code, noise(ended.err)) == (0, []), ended.err
    assert ended.out == "Tom purrs twice\n"


SELF = """\
import asyncio, asyncpool

@asyncpool.command
def purr(name: str) -> str:
    return name

async def main():
    async with asyncpool.Pool("selfpool", max_size=1, stderr="discard") as pool:
        print(await pool.run(purr, "Tom"))

asyncio.run(main())
"""


def test_a_module_that_is_the_script_itself_starts_nothing_in_a_worker(tmp_path: Path) -> None:
    """Else each worker would start the application, and with it a worker, and so on."""
    (tmp_path / "selfpool.py").write_text(SELF)
    ended = subprocess.run(
        [sys.executable, "selfpool.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        text=True,
        timeout=20,
    )
    assert ended.returncode == 1
    assert "must not start the application again" in ended.stderr
    assert '`if __name__ == "__main__":`' in ended.stderr
