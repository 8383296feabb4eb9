"""The worker program: ``python -m asyncpool.worker``, with the wire on its stdin and stdout."""

from __future__ import annotations

import faulthandler
import os
import sys

from asyncpool.protocol import messages, wire
from asyncpool.protocol.messages import Hello, Ready
from asyncpool.protocol.payload import Codec
from asyncpool.worker import stdio
from asyncpool.worker.channel import Channel
from asyncpool.worker.registry import Registry, StartFailure
from asyncpool.worker.serve import serve


def main() -> None:
    """Greet the parent, import what it names, and serve until it says Stop or is gone."""
    faulthandler.enable()  # a segfault leaves the Python stack at the end of stderr
    channel = Channel(*stdio.protect(), wire.GREETING_LIMIT)
    try:
        hello = _greeting(channel)
        if hello is None:
            return
        registry = _prepare(hello)
    except (StartFailure, wire.FrameError) as error:
        sys.exit(f"asyncpool: {error}")
    ready = Ready(wire.VERSION, os.getpid(), f"python {sys.version.split()[0]}", registry.commands)
    try:
        channel.send(messages.encode(ready))
        serve(channel, registry)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone: nobody is left to tell


def _greeting(channel: Channel) -> Hello | None:
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
    return hello


def _prepare(hello: Hello) -> Registry:
    """Import the modules and collect their commands.

    An exception of a module passes: the interpreter prints it where it ends up in the parent's WorkerStartError.
    """
    import importlib

    sys.path[:] = hello.sys_path
    modules = []
    for name in hello.modules:
        try:
            modules.append(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise
            raise StartFailure(
                f"there is no module {name!r}; looked in {', '.join(hello.sys_path)} (the parent's sys.path)"
            ) from None
    codec = Codec(pickles=hello.allow_pickle, imports=True)
    return Registry(modules, registered_only=hello.registered_only, codec=codec)


if __name__ == "__main__":
    main()
