"""The arrows of the package only point down: every import statement, also those inside functions, is checked."""

import ast
from pathlib import Path

import pytest

import asyncpool

ROOT = Path(asyncpool.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
CLOCKS = {
    "time",
    "monotonic",
    "perf_counter",
    "process_time",
    "now",
    "utcnow",
    "today",
    "call_later",
    "call_at",
    "sleep",
}
IO = {
    "anyio",
    "asyncio",
    "multiprocessing",
    "os",
    "select",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "time",
}


def module_of(path: Path) -> str:
    """Return the name that a file is imported by."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_type_checking(node: ast.stmt) -> bool:
    """Say whether *node* is a block that only type checkers read."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(path: Path) -> set[str]:
    """Return the full names of all modules, and of the names from them, that a file imports when it runs."""
    found = set()
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative imports hide where an arrow points"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        for child in ast.iter_child_nodes(node):
            if is_type_checking(child):
                pending += child.orelse
            else:
                pending.append(child)
    return found


def of_package(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] == "asyncpool"}


def top_level(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def house(name: str) -> list[Path]:
    files = sorted((ROOT / name).rglob("*.py"))
    assert len(files) > 1, f"{name} is not where the design has it"
    return files


def within(name: str, *allowed: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in allowed)


@pytest.mark.parametrize("path", house("protocol"), ids=module_of)
def test_the_protocol_knows_neither_side(path: Path):
    """What both sides share imports only itself, the errors and the users' types."""
    allowed = ("asyncpool.protocol", "asyncpool.errors", "asyncpool.types")
    assert set() == {name for name in of_package(path) if name != "asyncpool" and not within(name, *allowed)}


@pytest.mark.parametrize("path", house("protocol"), ids=module_of)
def test_the_protocol_does_no_io_and_reads_no_clock(path: Path):
    """Bytes, messages and values are made and taken apart without a socket, a loop or the time."""
    assert set() == top_level(path) & IO


@pytest.mark.parametrize("name", ["errors", "commands", "types"])
def test_what_a_workers_module_uses_imports_nothing_of_the_package(name: str):
    """They stand below everything: a worker's module imports them for free."""
    assert set() == of_package(ROOT / f"{name}.py")


@pytest.mark.parametrize("name", ["errors", "commands", "types"])
def test_what_a_workers_module_uses_imports_nothing_at_all(name: str):
    """Nor anything of the standard library, which a worker would have to load before its first command."""
    assert set() == imports(ROOT / f"{name}.py") - {"__future__", "__future__.annotations"}


@pytest.mark.parametrize("path", house("worker"), ids=module_of)
def test_the_worker_never_imports_the_pool(path: Path):
    """The child is a program of its own."""
    assert set() == {name for name in of_package(path) if within(name, "asyncpool.pool")}


@pytest.mark.parametrize("path", house("worker"), ids=module_of)
def test_the_worker_never_imports_the_lazy_names(path: Path):
    """``from asyncpool import Pool`` in the child would load the parent's half behind its back."""
    lazy = {f"asyncpool.{name}" for name in asyncpool.__all__}
    assert set() == of_package(path) & lazy


@pytest.mark.parametrize("path", house("pool"), ids=module_of)
def test_the_pool_never_imports_the_worker(path: Path):
    """The parent starts the child's program and imports nothing of it."""
    assert set() == {name for name in of_package(path) if within(name, "asyncpool.worker")}


DECISIONS = ["policy", "ranking", "roster", "actions", "succession", "scheduler"]


@pytest.mark.parametrize("name", DECISIONS)
def test_decisions_know_no_loop_no_clock_and_no_system(name: str):
    """What decides is plain data: it is asked and told, and does nothing by itself."""
    assert set() == top_level(ROOT / "pool" / f"{name}.py") & IO


@pytest.mark.parametrize("name", DECISIONS)
def test_decisions_depend_on_decisions_only(name: str):
    """No other room of the pool is needed to decide."""
    allowed = [f"asyncpool.pool.{each}" for each in DECISIONS]
    assert set() == {each for each in of_package(ROOT / "pool" / f"{name}.py") if not within(each, *allowed)}


@pytest.mark.parametrize("path", [*(ROOT / f"pool/{name}.py" for name in DECISIONS), *house("protocol")], ids=module_of)
def test_no_clock_is_called(path: Path):
    """The time is an argument: nothing that looks like a clock is called by name, nor is anything awaited."""
    tree = ast.parse(path.read_text())
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }
    assert set() == called & CLOCKS
    assert [node for node in ast.walk(tree) if isinstance(node, (ast.Await, ast.AsyncFunctionDef))] == []


def test_no_two_modules_import_each_other():
    """There is no circle among the modules of the package, at import time or inside functions."""
    modules = {module_of(path): path for path in FILES}
    arrows = {
        name: {each for each in of_package(path) if each in modules and each != "asyncpool"} - {name}
        for name, path in modules.items()
    }
    for house_name in ("asyncpool.protocol", "asyncpool.pool", "asyncpool.worker"):
        for targets in arrows.values():
            targets.discard(house_name)  # importing a module of a house imports the house, which is empty
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle: {' -> '.join([*path, name])}"
        if name not in done:
            for target in arrows[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in modules:
        visit(name, ())


def test_the_houses_are_empty():
    """The packages themselves hold no code: importing one module loads no other."""
    for name in ("protocol", "pool", "worker"):
        tree = ast.parse((ROOT / name / "__init__.py").read_text())
        assert [node for node in tree.body if not isinstance(node, ast.Expr)] == []
