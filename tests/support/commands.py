"""What the workers of the tests can do."""

import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import asyncpool

# --- plain answers ---------------------------------------------------------------------------------------------------


@asyncpool.command
def echo(value: Any = None) -> Any:
    return value


@asyncpool.command
def pid() -> int:
    return os.getpid()


@asyncpool.command
def pid_after(seconds: float) -> int:
    sleep(seconds)
    return os.getpid()


@asyncpool.command
def hold_memory(size: int) -> int:
    _state["held"] = b"x" * size
    return len(_state["held"])


@asyncpool.command
def whole(data: bytes) -> bytes:
    return data


@asyncpool.command
def big(size: int) -> bytes:
    return b"x" * size


@asyncpool.command
def length(data: bytes) -> int:
    return len(data)


@asyncpool.command(timeout=30.0)
def length_in_time(data: bytes) -> int:
    return len(data)


@asyncpool.command
def add(first: int, second: int = 1) -> int:
    return first + second


@asyncpool.command(name="renamed")
def some_name() -> str:
    return "renamed"


@asyncpool.command
def options(timeout: float, id: str, command: str, acquire_timeout: int = 0, self: str = "") -> list[Any]:
    return [timeout, id, command, acquire_timeout, self]


def unmarked(value: int) -> int:
    return value * 2


_state: dict[str, Any] = {}


@asyncpool.command
def remember(name: str, value: Any) -> None:
    _state[name] = value


@asyncpool.command
def recall(name: str) -> Any:
    return _state.get(name)


@asyncpool.command
def append(path: str, text: str) -> None:
    """Leave a trace that it ran."""
    with open(path, "a") as file:
        file.write(text + "\n")


@asyncpool.command
def append_and(path: str, text: str, then: str) -> None:
    """Leave a trace, then end as *then* says."""
    append(path, text)
    if then == "crash":
        crash(signal.SIGKILL)
    sleep(60)


@asyncpool.command
def crash_until(path: str, run: int, seconds: float = 0.0) -> int:
    """Leave a trace, and crash but in the run of that number."""
    append(path, "run")
    sleep(seconds)
    with open(path) as file:
        count = len(file.readlines())
    if count < run:
        crash()
    return count


@asyncpool.command(retries=2)
def patient(path: str, run: int) -> int:
    return crash_until(path, run)


@asyncpool.command
def append_and_raise(path: str, kind: str) -> None:
    append(path, kind)
    raise SystemExit("told to") if kind == "exit" else ValueError("told to")


# --- those that take their time --------------------------------------------------------------------------------------


@asyncpool.command
def sleep(seconds: float) -> float:
    """Sleep in naps: a worker that is a thread can only be stopped between two of them."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.02))
    return seconds


@asyncpool.command(timeout=0.2)
def impatient(seconds: float) -> float:
    return sleep(seconds)


@asyncpool.command
def spin(seconds: float) -> None:
    """Compute in Python."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@asyncpool.command
def regex(path: str) -> None:
    """Compute in C with the GIL held, for longer than any test; the file at *path* says that it began."""
    Path(path).write_text(str(os.getpid()))
    re.match(r"(a+)+$", "a" * 40 + "b")


@asyncpool.command
def wait_at(gate: str, value: Any = None) -> Any:
    """Say at the gate that it has come, and wait until it is open."""
    with open(f"{gate}.reached", "a") as file:
        file.write(f"{os.getpid()}\n")
    while not os.path.exists(gate):
        time.sleep(0.002)
    return value


@asyncpool.command
def stop_at(gate: str) -> None:
    """Say at the gate that it has come, and stop as by SIGSTOP."""
    with open(f"{gate}.reached", "a") as file:
        file.write(f"{os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGSTOP)


@asyncpool.command
def deaf() -> None:
    """Block every signal that can be blocked, and sleep."""
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    time.sleep(60)


@asyncpool.command
def wait_for_thread() -> None:
    """Let a thread do the work, and wait for it."""
    worker = threading.Thread(target=_work_in_thread)
    worker.start()
    worker.join()


def _work_in_thread() -> None:
    time.sleep(60)


# --- those that go wrong ---------------------------------------------------------------------------------------------


class OwnError(Exception):
    """Takes other arguments than it keeps."""

    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.hint = hint


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@asyncpool.command
def fail(kind: str) -> None:
    """Raise something."""
    match kind:
        case "ValueError":
            raise ValueError("bad value", 7)
        case "OwnError":
            raise OwnError(7, hint="try 8")
        case "Unprintable":
            raise Unprintable
        case "surrogates":
            raise ValueError("half of \ud800 it")
        case "long":
            raise ValueError("x" * 10_000_000)
        case "recursion":
            fail("recursion")
        case "memory":
            raise MemoryError
        case "stop":
            raise StopIteration(3)
        case "keyboard":
            raise KeyboardInterrupt
        case "exit":
            sys.exit(3)
        case "group":
            raise ExceptionGroup("two", [ValueError("one"), OSError(2, "other")])
        case "os":
            os.stat("/does/not/exist")
        case "chained":
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise ValueError("outer") from error
        case "pool":
            raise asyncpool.PoolFull("not really")
        case "base":
            raise Base("basic")
    raise AssertionError(kind)


class Base(BaseException):
    pass


@asyncpool.command
def crash(number: int = signal.SIGKILL) -> None:
    """Die by a signal, as by one's own hand or by the kernel's."""
    signal.signal(number, signal.SIG_DFL) if number != signal.SIGKILL else None
    os.kill(os.getpid(), number)
    time.sleep(60)


@asyncpool.command
def exit_now(code: int) -> None:
    os._exit(code)


@asyncpool.command
def say_and_crash(text: str, number: int) -> None:
    print(text, end="", file=sys.stderr, flush=True)
    crash(number)


@asyncpool.command
def untravelling(kind: str) -> Any:
    """Return what cannot travel."""
    return {"lambda": lambda: None, "file": sys.stderr, "object": object()}[kind]


@asyncpool.command
def wrong_result() -> int:
    return "not a number"  # type: ignore[return-value]


@asyncpool.command
def ignore_term() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@asyncpool.command
def stop_myself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@asyncpool.command
def close_wire() -> None:
    """Close every descriptor but the first three, the wire among them, and live on."""
    os.closerange(3, 1000)
    time.sleep(60)


@asyncpool.command
def babble() -> None:
    """Write to the wire what is no frame."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                os.write(int(name), b"\xff" * 8)
        except OSError:
            pass  # the one that lists the folder


# --- processes -------------------------------------------------------------------------------------------------------


@asyncpool.command
def spawn(seconds: float) -> int:
    """Start a process that holds every descriptor which it inherits, and outlives the worker."""
    import subprocess  # here and below: what few commands need, not every worker shall import

    return subprocess.Popen(["sleep", str(seconds)], close_fds=False).pid


@asyncpool.command
def links_of_a_child() -> list[str]:
    """Return what the descriptors lead to that a child process inherits."""
    import subprocess

    listing = subprocess.run(["ls", "-l", "/proc/self/fd"], close_fds=False, stdout=subprocess.PIPE, check=True)
    return [line.partition(" -> ")[2] for line in listing.stdout.decode().splitlines()]


@asyncpool.command
def fork(seconds: float) -> int:
    """Fork without exec: a child with everything that this process has."""
    child = os.fork()
    if child == 0:
        time.sleep(seconds)
        os._exit(0)
    return child


@asyncpool.command
def fork_and_escape() -> int:
    """Fork as C code does, past the hooks of Python; the child leaves the group and keeps all that this process has."""
    import ctypes

    libc = ctypes.PyDLL(None)
    child: int = libc.fork()
    if child == 0:
        libc.setsid()
        while True:
            libc.pause()
    return child


@asyncpool.command
def spawn_and(seconds: float, path: str, then: str) -> None:
    """Start a process, leave its id in a file, and end as *then* says."""
    Path(path).write_text(str(spawn(seconds)))
    if then == "crash":
        crash(signal.SIGKILL)
    time.sleep(60)


# --- what is printed and read ----------------------------------------------------------------------------------------


@asyncpool.command
def say(how: str, text: str) -> str:
    """Write *text* where results would be written, if nobody saw to it."""
    import ctypes
    import subprocess

    match how:
        case "print":
            print(text)
        case "print without newline":
            print(text, end="")
        case "os.write":
            os.write(1, text.encode())
        case "os.system":
            os.system(f"echo {text}")
        case "subprocess":
            subprocess.run(["echo", text], check=True)
        case "C":
            libc = ctypes.CDLL(None)
            libc.puts(text.encode())
            libc.fflush(None)
        case "C without newline":
            libc = ctypes.CDLL(None)
            libc.printf(b"%s", text.encode())
        case "sys.__stdout__":
            sys.__stdout__.write(text + "\n")
        case "stdout.buffer":
            sys.stdout.buffer.write(text.encode() + b"\n")
            sys.stdout.buffer.flush()
        case "stderr":
            sys.stderr.write(text + "\n")
        case _:
            raise AssertionError(how)
    return f"said {text}"


@asyncpool.command
def say_stderr(data: bytes) -> None:
    os.write(2, data)


@asyncpool.command
def flood(size: int, *, newline: bool = True) -> int:
    """Write *size* bytes to stderr."""
    piece = b"x" * 1023 + (b"\n" if newline else b"x")
    for _ in range(size // len(piece)):
        os.write(2, piece)
    return size


@asyncpool.command
def read(how: str) -> str:
    """Read from standard input, where nothing must come from."""
    import subprocess

    match how:
        case "cat":
            return subprocess.run(["cat"], stdout=subprocess.PIPE, check=True).stdout.decode()
        case "shell":
            return str(subprocess.run("read line; echo $?", shell=True, stdout=subprocess.PIPE, check=True).stdout)
        case "input":
            try:
                return input()
            except EOFError:
                return ""
        case "os.read":
            return os.read(0, 100).decode()
    raise AssertionError(how)


@asyncpool.command
def close_stdout() -> None:
    sys.stdout.close()


@asyncpool.command
def close_descriptors() -> None:
    os.close(0)
    os.close(1)


@asyncpool.command
def modules() -> list[str]:
    return sorted(sys.modules)


@asyncpool.command
def environment() -> list[str]:
    return [os.getcwd(), *(f"{name}={value}" for name, value in os.environ.items())]


@asyncpool.command
def session() -> list[int]:
    return [os.getpid(), os.getsid(0), os.getpgid(0)]


@asyncpool.command
def escape_and_crash() -> None:
    """Leave a process behind that is out of the worker's group and writes to stderr without end; die."""
    import subprocess

    for _ in range(3):
        subprocess.Popen(["setsid", "yes", "x" * 1000], stdout=2)
    time.sleep(0.2)
    crash(signal.SIGKILL)


@asyncpool.command
def raise_long(size: int) -> None:
    raise ValueError("x" * size)
