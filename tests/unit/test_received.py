"""Large buffers are used again once nobody uses them, and not before; nothing is kept for long."""

import weakref
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncpool.protocol import arrays
from asyncpool.protocol.pages import LEAST
from asyncpool.protocol.received import MOST, Received, Spares, room, spares


def array_over(received: Received) -> Any:
    return arrays.over(received, "|u1", [received.size], "C", imports=False)


def test_the_memory_of_an_array_that_is_gone_is_used_again() -> None:
    """By the next buffer of its size."""
    own = Spares()
    first = own.room(LEAST)
    array = array_over(first)
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
    kept = view(array_over(first))
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
    array = array_over(used)
    array_over(free)
    gone = weakref.ref(free)
    del free
    own.room(LEAST + 1)
    assert gone() is None
    del array
    assert own.room(LEAST) is used


def test_no_more_than_the_most_is_watched() -> None:
    """The oldest are forgotten; they are their arrays' own."""
    own = Spares()
    arrays_ = [array_over(own.room(MOST // 2)) for _ in range(3)]
    assert sum(each.size for each in own.kept) <= MOST
    gone = weakref.ref(own.kept[0])
    del arrays_
    own.drop()
    assert gone() is None


def test_nothing_is_kept_for_long() -> None:
    """If no more is wanted for a while; what is in use goes with its array then."""
    own = Spares()
    used = own.room(LEAST)
    array = array_over(used)
    before = own.wanted
    array_over(own.room(LEAST))
    own.drop_unless_wanted(before)
    assert own.kept
    own.drop_unless_wanted(own.wanted)
    gone = weakref.ref(used)
    del used
    assert gone() is not None
    del array
    assert gone() is None


def test_small_buffers_are_not_watched() -> None:
    """The allocator uses their memory again by itself."""
    array_over(room(LEAST - 1))
    assert not [each for each in spares.kept if each.size < LEAST]


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
        received = own.room(8 + which)
        received.getbuffer()[:] = bytes([mark]) * received.size
        if step != "leave":
            alive.append((received.getvalue() if step == "bytes" else array_over(received), mark))
    for value, mark in alive:
        assert set(bytes(value)) == {mark}
