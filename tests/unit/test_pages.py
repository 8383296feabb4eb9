"""Memory for large values is asked for in huge pages."""

import ctypes
import re
import sys
from pathlib import Path

import pytest

from asyncpool.protocol import pages, wire

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


def middle(received: wire.Received) -> int:
    """Return the address of the middle of a buffer."""
    view = received.getbuffer()
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) + len(view) // 2


@linux
@pytest.mark.parametrize("size", [pages.LEAST, 2**24 + 12_345])
def test_room_for_a_large_value_is_in_huge_pages(size: int) -> None:
    """Where the kernel has them; "hg" is MADV_HUGEPAGE, proc_pid_smaps(5)."""
    if not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists():
        pytest.skip("this kernel has no transparent huge pages")
    assert "hg" in flags_at(middle(wire.room(size)))
    assert "hg" not in flags_at(middle(wire.room(pages.LEAST - 1)))


@pytest.mark.parametrize("size", [1, pages.LEAST - 1, pages.LEAST, pages.LEAST + 1])
def test_room_holds_what_is_written_and_nothing_else(size: int) -> None:
    """Whatever is asked for."""
    received = wire.room(size)
    with received.getbuffer() as view:
        assert len(view) == size
        view[-1:] = b"x"
    assert received.getvalue() == bytes(size - 1) + b"x"


def test_without_ctypes_there_are_no_huge_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some Pythons are built without it."""
    monkeypatch.setitem(sys.modules, "ctypes", None)
    assert len(wire.room(pages.LEAST).getbuffer()) == pages.LEAST
