"""What /proc tells about this process, its children, and theirs."""

import os
import signal
from collections.abc import Iterable
from pathlib import Path

TAG = "ASYNCPOOL_TEST_TAG"  # in the environment of every process that a test starts


def tagged(tag: str) -> dict[int, str]:
    """Return the processes that have *tag* in their environment, with their command lines; zombies have none."""
    mark = f"{TAG}={tag}".encode()
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and int(place.name) != os.getpid():
            try:
                if mark in (place / "environ").read_bytes():
                    found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
            except OSError:
                pass  # it ended meanwhile, or is not ours
    return found


def children() -> dict[int, str]:
    """Return the child processes of this one with their states, zombies too."""
    found = {}
    for thread in Path("/proc/self/task").iterdir():
        try:
            pids = (thread / "children").read_text().split()
        except OSError:
            continue
        found.update({int(pid): state(int(pid)) or "gone" for pid in pids})
    return found


def descriptors() -> dict[int, str]:
    """Return the open descriptors of this process and what they lead to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the one that lists the folder
    return found


def state(pid: int) -> str | None:
    """Return the state letter of a process (R, S, T, Z, ...), None when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return None


def parent(pid: int) -> int:
    """Return the process id of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    """Tell whether a process is there and not a zombie."""
    return state(pid) not in (None, "Z", "X")


def there(pid: int) -> bool:
    """Tell whether a process is there, be it as a zombie."""
    return state(pid) is not None


def memory(pid: int | None = None) -> int:
    """Return how many bytes of a process are resident; of this one, when none is named."""
    return int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def end(pids: Iterable[int]) -> None:
    """Kill processes that a test started."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
