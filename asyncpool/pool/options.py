"""What calls ask for beyond their arguments."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asyncpool.pool.call import INHERIT, OnCancel, Retries, Timeout
from asyncpool.protocol import payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """See ``Pool.options``."""

    timeout: Timeout = INHERIT
    acquire_timeout: float | None = None
    retries: Retries = INHERIT
    on_cancel: OnCancel | None = None
    returns: payload.Decodes | None = None
    on_update: Callable[[Any], Any] | None = None
    meta: Mapping[str, str] = field(default_factory=dict)
    key: Hashable = None
    return_exceptions: bool = False


AS_DECLARED = Options()  # whatever the command and the pool say
