"""A pool's settings: what is refused, and in which words."""

import sys
import types
from pathlib import Path

import pytest

from asyncpool.pool import config
from tests.support.settings import configure


def test_the_defaults_are_good():
    """A pool without arguments can be made."""
    made = configure()
    assert made.limits.min_size == 1
    assert made.limits.max_size >= 1
    assert sys.executable == made.executable


def test_max_size_is_the_processors_or_min_size(monkeypatch: pytest.MonkeyPatch):
    """Without max_size there are as many workers as usable processors, and never fewer than min_size."""
    monkeypatch.setattr(config, "usable_cpus", lambda: 4)
    assert configure().limits.max_size == 4
    assert configure(min_size=9).limits.max_size == 9
    assert configure(max_size=2).limits.max_size == 2


def test_modules_may_be_given_as_modules():
    """``Pool(kittens)`` and ``Pool("kittens")`` are the same."""
    module = types.ModuleType("app.kittens")
    assert configure(module, "app.dogs").modules == ("app.kittens", "app.dogs")


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"min_size": -1}, ValueError, "min_size must be at least 0, not -1"),
        ({"min_size": 1.5}, TypeError, "min_size takes an integer, not 1.5"),
        ({"min_size": True}, TypeError, "min_size takes an integer, not True"),
        ({"min_size": None}, TypeError, "min_size takes an integer, not None"),
        ({"max_size": 0}, ValueError, "max_size must be at least 1, not 0"),
        ({"max_size": "4"}, TypeError, "max_size takes an integer, not '4'"),
        ({"min_size": 5, "max_size": 2}, ValueError, "min_size=5 is above max_size=2"),
        ({"surge": -1}, ValueError, "surge must be at least 0"),
        ({"max_waiting": -1}, ValueError, "max_waiting must be at least 0"),
        ({"idle_timeout": 0}, ValueError, "idle_timeout must be above 0 seconds, not 0 (None: no limit)"),
        ({"idle_timeout": "60"}, TypeError, "idle_timeout takes seconds as a number, or None, not '60'"),
        ({"health_interval": -5.0}, ValueError, "health_interval must be above 0 seconds"),
        ({"timeout": 0}, ValueError, "timeout must be above 0 seconds"),
        ({"timeout": float("nan")}, ValueError, "timeout must be above 0 seconds"),
        ({"timeout": float("inf")}, ValueError, "None: no limit"),
        ({"timeout": True}, TypeError, "timeout takes seconds as a number"),
        ({"acquire_timeout": -1}, ValueError, "acquire_timeout must be above 0 seconds"),
        ({"start_timeout": None}, TypeError, "start_timeout takes seconds as a number, not None"),
        ({"start_timeout": 0}, ValueError, "start_timeout must be above 0 seconds"),
        ({"cancel_grace": None}, TypeError, "cancel_grace takes seconds as a number"),
        ({"health_timeout": 0}, ValueError, "health_timeout must be above 0 seconds"),
        ({"max_message": 1000}, ValueError, "max_message must be at least 65536"),
        ({"max_message": 2**32}, ValueError, "max_message must be below 2**32"),
        ({"max_message": 1e6}, TypeError, "max_message takes an integer"),
        ({"stderr": "pipe"}, ValueError, "stderr= takes 'forward', 'log' or 'discard', not 'pipe'"),
        ({"program": "worker --fast"}, TypeError, "program= takes a list of strings"),
        ({"program": []}, TypeError, "program= takes a list of strings"),
        ({"program": ["worker", 7]}, TypeError, "program= takes a list of strings"),
        ({"program": b"worker"}, TypeError, "program= takes a list of strings"),
        ({"name": 7}, TypeError, "name= takes a string, not 7"),
        ({"executable": Path("/opt/python")}, TypeError, "executable= takes the path of a Python as a string"),
        ({"cwd": 7}, TypeError, "cwd= takes a path, not 7"),
        ({"env": [("A", "1")]}, TypeError, "env= takes a mapping of strings"),
        ({"env": {"A": 1}}, TypeError, "('A', 1)"),
        ({"check_on_acquire": "yes"}, TypeError, "check_on_acquire= takes True or False, not 'yes'"),
        ({"registered_only": 1}, TypeError, "registered_only= takes True or False, not 1"),
        ({"allow_pickle": 1}, TypeError, "allow_pickle= takes True or False, not 1"),
        ({"allow_pickle": True, "program": ["w"]}, ValueError, "allow_pickle and program= exclude each other"),
        ({"on_event": "print"}, TypeError, "on_event= takes a function of one Event, not 'print'"),
    ],
    ids=str,
)
def test_a_wrong_setting_says_which_and_why(changes, kind, said):
    """The error names the argument, what it takes, and what it was given."""
    with pytest.raises(kind) as caught:
        configure(**changes)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("module", "kind", "said"),
    [
        (7, TypeError, "modules or their names, not 7"),
        (["kittens"], TypeError, "modules or their names, not ['kittens']"),
        ("kittens.py", ValueError, "without .py"),
        ("app/kittens", ValueError, "without .py"),
        ("", ValueError, "not the name of a module"),
        ("app..kittens", ValueError, "not the name of a module"),
        (".kittens", ValueError, "not the name of a module"),
        ("my-kittens", ValueError, "not the name of a module"),
        (Path("kittens"), TypeError, "modules or their names"),
    ],
)
def test_a_wrong_module_says_what_to_do(module, kind, said):
    """What is no name of an importable module is refused before a process is started."""
    with pytest.raises(kind) as caught:
        configure(module)
    assert said in str(caught.value)


def test_the_script_itself_can_be_a_module_where_it_has_a_file(monkeypatch: pytest.MonkeyPatch):
    """``Pool(sys.modules["__main__"])`` is the first thing that a beginner tries, and maybe in a notebook."""
    script = types.ModuleType("__main__")
    script.__file__ = __file__
    monkeypatch.setitem(sys.modules, "__main__", script)
    assert configure(script).modules == ("__main__",)
    assert configure(types.ModuleType("__asyncpool_main__")).modules == ("__main__",)
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    with pytest.raises(ValueError, match="%%writefile"):
        configure("__main__")


def test_a_program_imports_its_own_modules():
    """program= and modules contradict each other."""
    with pytest.raises(ValueError, match="exclude each other"):
        configure("kittens", program=["worker"])


def test_a_program_is_started_as_it_was_given():
    """Neither flags nor arguments are added to a foreign program."""
    assert configure(program=("worker", "--fast")).argv() == ["worker", "--fast"]


def test_a_python_worker_is_started_with_this_pythons_executable():
    """Or with the one that was named."""
    assert sys.executable == configure().argv()[0]
    assert configure(executable="/opt/python").argv()[0] == "/opt/python"


def test_without_an_executable_it_says_what_to_pass(monkeypatch: pytest.MonkeyPatch):
    """An embedded interpreter has no sys.executable."""
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(ValueError, match="pass executable="):
        configure()


def test_the_parents_path_is_made_absolute(monkeypatch: pytest.MonkeyPatch):
    """What this process can import the worker can, wherever it is started."""
    monkeypatch.setattr(sys, "path", ["", "relative", "/absolute"])
    here = Path.cwd()
    assert [str(here), str(here / "relative"), "/absolute"] == configure().sys_path()


def test_what_no_worker_could_use_is_left_out_of_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """As Python's own imports pass over it: no text, no UTF-8, or relative to a folder that is gone."""
    monkeypatch.setattr(sys, "path", [None, 7, b"/bytes", "/caf\udce9", Path("/path"), "relative", "/absolute"])
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert configure().sys_path() == ["/absolute"]


def test_another_python_gets_only_the_applications_folders(monkeypatch: pytest.MonkeyPatch):
    """The libraries of this Python are not made for another one."""
    libraries = [
        f"{sys.prefix}/lib/site-packages",
        config.STANDARD,
        f"{config.STANDARD}/lib-dynload",
        "/usr/lib/python313.zip",
    ]
    monkeypatch.setattr("asyncpool.pool.config.ZIPPED", "python313")
    monkeypatch.setattr(sys, "path", ["/app", *libraries, f"{sys.base_prefix}/src/app", sys.prefix])
    assert configure(executable="/opt/python").sys_path() == ["/app", f"{sys.base_prefix}/src/app", sys.prefix]


def test_another_name_of_this_python_is_no_other_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A link beside it is the same environment; one elsewhere may be that of another."""
    python, beside, elsewhere = tmp_path / "bin/python", tmp_path / "bin/python3", tmp_path / "other/bin/python"
    for name in (python, elsewhere):
        name.parent.mkdir(parents=True)
    python.touch()
    python.chmod(0o755)
    beside.symlink_to(python)
    elsewhere.symlink_to(python)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "path", ["/app", config.STANDARD])
    assert configure(executable=str(beside)).sys_path() == ["/app", config.STANDARD]
    assert configure(executable=str(elsewhere)).sys_path() == ["/app"]


def test_the_environment_is_copied():
    """Changing the mapping later changes nothing for workers that start later."""
    env = {"A": "1"}
    made = configure(env=env)
    env["A"] = "2"
    assert made.env == {"A": "1"}


def test_settings_cannot_be_changed():
    """They were checked once."""
    made = configure()
    with pytest.raises(AttributeError):
        made.timeout = 3.0


@pytest.mark.parametrize(
    "changes", [{"timeout": 5}, {"min_size": 0}, {"max_waiting": 0}, {"surge": 0}, {"stderr": "log"}]
)
def test_good_settings_are_taken(changes):
    """Zero is a good number of workers at rest, of waiting calls and of surplus processes; seconds may be integers."""
    configure(**changes)
