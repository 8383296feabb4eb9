"""Large buffers are used again once nobody uses them, and not before; nothing is kept for long."""

import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpool.protocol import arrays, received
from asyncpool.protocol.pages import LEAST
from asyncpool.protocol.received import MOST, Caretaker, Received, Spares, room
from asyncpool.testing import thread


class Later:
    """Stands for an event loop: what is due on it."""

    def __init__(self) -> None:
        self.due: list[Any] = []

    def __call__(self, then: Any) -> Any:
        self.due.append(then)
        return SimpleNamespace(cancel=lambda: self.due.remove(then))


@pytest.fixture
def switches_often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def array_over(own: Spares, made: Received) -> Any:
    array = arrays.over(made, "|u1", [made.size], "C", imports=False)
    own.watch(made)
    return array


def test_the_memory_of_an_array_that_is_gone_is_used_again() -> None:
    """By the next buffer of its size."""
    own = Spares()
    first = own.room(LEAST)
    array = array_over(own, first)
    assert own.room(LEAST) is not first
    del array
    assert own.room(LEAST) is first
    assert own.room(LEAST) is not first  # nobody has made an array over it


@pytest.mark.parametrize(
    "view", [lambda array: array[10:20], memoryview, numpy.frombuffer], ids=["slice", "memoryview", "array"]
)
def test_what_has_a_view_is_in_use(view: Any) -> None:
    """Of whatever kind: a slice, a memoryview, another array."""
    own = Spares()
    first = own.room(LEAST)
    kept = view(array_over(own, first))
    assert own.room(LEAST) is not first
    del kept
    assert own.room(LEAST) is first


def test_what_came_out_as_bytes_is_never_used_again() -> None:
    """Their hash, if somebody asked for it, stays as it is."""
    own = Spares()
    first = own.room(LEAST)
    first.getvalue()
    assert own.room(LEAST) is not first


def test_another_size_lets_go_of_what_is_free() -> None:
    """Not of what is in use, which is watched on."""
    own = Spares()
    free, used = own.room(LEAST), own.room(LEAST)
    array = array_over(own, used)
    array_over(own, free)
    gone = weakref.ref(free)
    del free
    own.room(LEAST + 1)
    assert gone() is None
    del array
    assert own.room(LEAST) is used


def test_no_more_than_the_most_is_watched() -> None:
    """The oldest are forgotten; they are their arrays' own."""
    own = Spares()
    arrays_ = [array_over(own, own.room(MOST // 2)) for _ in range(3)]
    assert sum(each.size for each in own.kept) <= MOST
    gone = weakref.ref(own.kept[0])
    del arrays_
    own.forget_all()
    assert gone() is None


def test_nothing_is_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """If no more is wanted for a while; what is in use goes with its array then."""
    later = Later()
    caretaker = Caretaker(later)
    monkeypatch.setattr(received, "spares", own := Spares())
    caretaker.notice()
    assert later.due == []  # nothing was wanted
    used = own.room(LEAST)
    caretaker.notice()
    array = array_over(own, used)
    late = own.room(LEAST)
    caretaker.notice()
    later.due.pop(0)()
    assert own.kept == [used]  # one was wanted since
    later.due.pop(0)()
    assert later.due == []
    gone = weakref.ref(used)
    del used
    assert gone() is not None
    del array
    assert gone() is None
    array_over(own, late)
    assert own.kept == []  # nobody would forget it


def test_a_caretaker_that_leaves_has_everything_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """And waits for nothing any more, however many others want."""
    monkeypatch.setattr(received, "spares", own := Spares())
    later = Later()
    caretaker = Caretaker(later)
    array = array_over(own, own.room(LEAST))
    caretaker.notice()
    caretaker.leave()
    caretaker.leave()
    assert own.kept == later.due == []
    assert array[0] == 0


FORKING = """
import os
from asyncpool import Pool
from asyncpool.protocol import arrays, pages, received
import numpy
made = received.room(pages.LEAST)
array = arrays.over(made, "|u1", [made.size], "C", imports=False)
received.spares.watch(made)
assert received.spares.kept == [made]
child = os.fork()
if not child:
    os._exit(len(received.spares.kept))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_keeps_nothing() -> None:
    """Nobody would have it forgotten there."""
    ran = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, check=True)
    assert ran.stdout == "0\n"


def test_a_thread_of_an_inline_pool_keeps_nothing_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no caretaker."""
    monkeypatch.setattr(thread, "spares", own := Spares())
    array_over(own, own.room(LEAST))
    assert own.kept != []
    assert thread.InlineLeave().wait()
    assert own.kept == []


def test_small_buffers_are_not_watched() -> None:
    """The allocator uses their memory again by itself."""
    own = Spares()
    array_over(own, room(LEAST - 1))
    assert own.kept == []


@given(st.lists(st.tuples(st.sampled_from(["open", "bytes", "leave", "view", "delete"]), st.integers(0, 2))))
def test_no_value_changes_because_another_one_comes(steps: list[tuple[str, int]]) -> None:
    """Whatever becomes of each: an array, bytes, nothing; deleted sooner or later, or but for a view."""
    own = Spares()
    alive: list[tuple[Any, int]] = []  # values, and what each item of theirs is
    for number, (step, which) in enumerate(steps):
        if step == "delete" and alive:
            del alive[which % len(alive)]
            continue
        if step == "view" and alive:
            value, mark = alive.pop(which % len(alive))
            alive.append((memoryview(value)[:4], mark))
            continue
        mark = number % 256
        made = own.room(LEAST + which)
        made.getbuffer()[:8] = bytes([mark]) * 8  # the rest may be what it was
        if step != "leave":
            alive.append((made.getvalue()[:8] if step == "bytes" else array_over(own, made), mark))
    for value, mark in alive:
        assert set(bytes(memoryview(value)[:4])) == {mark}


def test_no_two_threads_get_the_same_buffer(switches_often: None) -> None:
    """Nor does one that another thread has taken change hands before its array is gone."""
    own = Spares()
    wrong: list[int] = []
    until = time.monotonic() + 1

    def work(mark: int) -> None:
        while time.monotonic() < until:
            made = own.room(LEAST)
            view = made.getbuffer()
            view[:4] = bytes([mark]) * 4
            del view
            array = array_over(own, made)
            if bytes(array[:4]) != bytes([mark]) * 4:
                wrong.append(mark)
            del array, made

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []
