"""Memory for large values is asked for in huge pages."""

import ctypes
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from asyncpool.protocol import pages, received

linux = pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux alone")


def flags_at(address: int) -> list[str]:
    """Return the flags of the mapping of this process in which an address lies."""
    found: list[str] = []
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            found = line.split()[1:]
    return found


def middle(made: received.Received) -> int:
    """Return the address of the middle of a buffer."""
    view = made.getbuffer()
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) + len(view) // 2


@linux
@pytest.mark.parametrize("size", [pages.LEAST, 2**24 + 12_345])
def test_room_for_a_large_value_is_in_huge_pages(size: int) -> None:
    """Where the kernel has them; "hg" is MADV_HUGEPAGE, proc_pid_smaps(5)."""
    if not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists():
        pytest.skip("this kernel has no transparent huge pages")
    assert "hg" in flags_at(middle(received.room(size)))


def test_room_for_a_small_value_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What such memory has for flags says nothing: it may have been part of a large value before."""
    asked: list[int] = []
    monkeypatch.setattr(pages, "prefer_huge", lambda memory: asked.append(len(memory)))
    for size in (1, pages.LEAST - 1, pages.LEAST):
        received.room(size)
    assert asked == [pages.LEAST]


@linux
@pytest.mark.parametrize(("size", "loaded"), [(pages.WORTH_CTYPES - 1, False), (pages.WORTH_CTYPES, True)])
def test_ctypes_is_imported_only_where_it_is_worth_its_time(size: int, loaded: bool) -> None:
    """A worker without numpy has not imported it."""
    program = (
        f"import sys; from asyncpool.protocol import received; received.room({size}); print('ctypes' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{loaded}\n"


@pytest.mark.parametrize("size", [1, pages.LEAST - 1, pages.LEAST, pages.LEAST + 1])
def test_room_holds_what_is_written_and_nothing_else(size: int) -> None:
    """Whatever is asked for."""
    made = received.room(size)
    with made.getbuffer() as view:
        assert len(view) == size
        view[-1:] = b"x"
    assert made.getvalue() == bytes(size - 1) + b"x"


@pytest.mark.parametrize("madvise", [None, lambda: lambda *_: 1 / 0])
def test_what_cannot_be_asked_for_does_no_harm(madvise: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some Pythons are built without ctypes, or may load nothing, or something else is wrong with it."""
    monkeypatch.setattr(pages, "_madvise", madvise)
    if madvise is None:
        monkeypatch.setitem(sys.modules, "ctypes", None)
    assert len(received.room(pages.LEAST).getbuffer()) == pages.LEAST
