"""What the application says to a worker first, and what is wrong with a worker's answer to it."""

from __future__ import annotations

import math

import msgspec

from asyncpool.pool.config import Config
from asyncpool.pool.journal import log_level
from asyncpool.pool.reference import main_script
from asyncpool.protocol import wire
from asyncpool.protocol.messages import Hello, Ready


def hello(config: Config, slot: int) -> Hello:
    """Return the first message to a worker of this slot."""
    return Hello(
        [wire.VERSION],
        config.max_message,
        config.concurrency,
        list(config.modules),
        config.sys_path(),
        slot,
        msgspec.Raw(config.config),
        config.registered_only,
        config.allow_pickle,
        main_script(),
        log_level() if config.logs else None,
    )


def wrong_with(ready: Ready) -> str | None:
    """Say why a worker with this answer cannot be used; None: it can."""
    if ready.version != wire.VERSION:
        return f"Ready for version {ready.version} of the protocol, which it was not offered"
    for info in ready.commands:
        for what, seconds in (("timeout", info.timeout), ("cancel_grace", info.cancel_grace)):
            if seconds is not None and not 0 < seconds < math.inf:
                return f"Ready with a {what} of {seconds} s for its command {info.name!r}"
        if info.retries < 0:
            return f"Ready with {info.retries} retries for its command {info.name!r}"
    return None
