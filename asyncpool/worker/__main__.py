"""The worker program: ``python -m asyncpool.worker``, with the wire on its stdin and stdout."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # `signal` takes a millisecond for its enums
import faulthandler
import gc
import os
import sys
import types
from collections.abc import Callable

from asyncpool.protocol import messages, wire
from asyncpool.protocol.messages import Hello, Ready
from asyncpool.protocol.payload import Codec
from asyncpool.worker import orphan, script, stdio
from asyncpool.worker.channel import Channel
from asyncpool.worker.leave import Leave
from asyncpool.worker.lifespan import Lifespan
from asyncpool.worker.registry import Registry, StartFailure
from asyncpool.worker.serve import live
from asyncpool.worker.session import Session


def main(
    *,
    stack: tuple[int, int] | None = None,
    parent: int = 0,
    linger: bool = False,
    own_path: bool = False,
    make_channel: Callable[[int, int, int], Channel] = Channel,
) -> None:
    """Greet the parent, import what it names, and serve until it says Stop, is gone, or SIGTERM has come.

    Args:
        stack: Descriptor to write the stacks of all threads to, and the signal at which that is done.
        parent: Process id of the parent, to die with it; 0: only the parent sees to that.
        linger: It may linger for the next frame; see ``asyncpool.worker.linger``.
        own_path: This is another Python than the parent's: it keeps its own ``sys.path``, behind what the parent names.
        make_channel: Makes the channel of two descriptors and a limit.
    """
    faulthandler.enable()  # a segfault leaves the Python stack at the end of stderr
    if stack is not None:
        _dump_at_signal(*stack)
    reads, writes = stdio.protect()
    channel = make_channel(reads, writes, wire.GREETING_LIMIT)
    # Before the modules are imported: a worker that starts when SIGTERM comes has not failed.
    leave = Leave(reads, linger=linger)
    try:
        hello = greeting(channel)
        if hello is None:
            return
        # What is there by now stays to the end. To look for cycles in it would be most of that end, which a program
        # waits for; what the application's own modules make is collected and finalized as ever.
        gc.freeze()
        script.known_as = hello.main
        sys.path[:] = dict.fromkeys([*hello.sys_path, *sys.path]) if own_path else hello.sys_path
        registry, lifespan = prepare(hello)
    except (StartFailure, wire.FrameError) as error:
        sys.exit(f"asyncpool: {error}")
    session = Session(channel, registry, hello.slot, hello.log_level)
    os.register_at_fork(after_in_child=session.fall_silent)
    answer(session, hello, lifespan, leave, parent)


def answer(session: Session, hello: Hello, lifespan: Lifespan, leave: Leave, parent: int = 0) -> None:
    """Enter the lifespans, say that the worker is ready, answer calls, and leave them."""
    session.announce(session)
    session.logs.look()

    def say_ready() -> None:
        session.logs.look()
        language, commands = f"python {sys.version.split()[0]}", session.registry.commands
        ready = Ready(wire.VERSION, os.getpid(), language, commands, hello.concurrency, lifespan.count, buffers=True)
        session.send(ready)
        if parent:
            orphan.follow(parent)

    live(session, leave, lifespan, say_ready)


def _dump_at_signal(descriptor: int, number: int) -> None:
    """Write the stacks at a signal, and die of it: also while C code holds the GIL."""
    os.set_inheritable(descriptor, False)
    # What the application ignores or blocks is inherited.
    _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [number])
    faulthandler.register(number, file=descriptor, all_threads=True, chain=True)


def greeting(channel: Channel) -> Hello | None:
    """Take the first frame; None at the end of input."""
    body = channel.receive()
    if body is None:
        return None
    hello = messages.decode_to_worker(body)
    if not isinstance(hello, Hello):
        raise StartFailure("the first frame must be Hello; a worker is started by a pool, not by hand")
    if wire.VERSION not in hello.versions:
        raise StartFailure(
            f"the parent speaks protocol versions {hello.versions}, this worker speaks {wire.VERSION}: "
            f"install the same asyncpool for both (this one is in {sys.prefix})"
        )
    channel.limit = hello.max_message
    if hello.concurrency == 1:
        channel.read_ahead()
    return hello


def prepare(hello: Hello) -> tuple[Registry, Lifespan]:
    """Import the modules and collect their commands and lifespans."""
    modules = _import(hello)
    codec = Codec(pickles=hello.allow_pickle, imports=True)
    registry = Registry(modules, registered_only=hello.registered_only, codec=codec)
    return registry, Lifespan(modules, codec, hello.config)


def _import(hello: Hello) -> list[types.ModuleType]:
    """Import the modules.

    An exception of a module passes: the interpreter prints it where it ends up in the parent's WorkerStartError.
    """
    modules = []
    for name in hello.modules:
        try:
            modules.append(script.module(name))
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise
            raise StartFailure(f"there is no module {name!r}; looked in {', '.join(sys.path)} (its sys.path)") from None
        except SystemExit:
            sys.stderr.write(f"asyncpool: the module {name!r} called sys.exit() while it was imported\n")
            raise
    return modules


if __name__ == "__main__":
    main()
