"""Large memory that is about to be filled, in huge pages.

Memory that was never touched is given page by page as it is filled, each cleared first: for 64 MiB that is more work
than to copy them. Linux gives 2 MiB at a time where it is asked to (madvise(2), MADV_HUGEPAGE), as numpy asks for its
own arrays; it does as it likes, and nothing depends on it. A range of addresses keeps the mark when its memory is freed
and used again.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

LEAST = 2 * 2**21  # bytes: there is a huge page in it, wherever it begins
WORTH_CTYPES = 2**24  # bytes; for less it is not worth to import ctypes, which takes 3 ms where numpy has not done it
HUGEPAGE = 14  # MADV_HUGEPAGE in Linux


def prefer_huge(memory: memoryview) -> None:
    """Ask for huge pages below writable *memory*, best before anybody has touched it."""
    least = LEAST if "ctypes" in sys.modules else WORTH_CTYPES
    if memory.nbytes < least or sys.platform != "linux":
        return
    try:
        import ctypes
        import mmap

        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        start = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
        size = address + memory.nbytes - start
        _madvise()(ctypes.c_void_p(start), ctypes.c_size_t(size), HUGEPAGE)
    except Exception:
        pass  # without ctypes, where it may load nothing, with another libc: then the pages are small


@functools.cache  # each CDLL makes classes anew
def _madvise() -> Callable[[Any, Any, int], int]:
    import ctypes

    return ctypes.CDLL(None).madvise
