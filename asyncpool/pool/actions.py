"""What the scheduler decides: plain words for whoever does it."""

from __future__ import annotations

import msgspec

from asyncpool.pool.ranking import WorkerId
from asyncpool.pool.roster import Leave, Ticket


class Spawn(msgspec.Struct, frozen=True):
    """Start a worker under this id."""

    worker: WorkerId


class Assign(msgspec.Struct, frozen=True, gc=False):
    """Hand the ticket to the worker."""

    worker: WorkerId
    ticket: Ticket


class Probe(msgspec.Struct, frozen=True):
    """Ping the worker; say ``checked`` when it answers, or ``lost`` when it does not."""

    worker: WorkerId


class Retire(msgspec.Struct, frozen=True):
    """Ask the worker to end, for this cause; it may still be starting."""

    worker: WorkerId
    cause: Leave


class Reject(msgspec.Struct, frozen=True):
    """No worker can be started: fail the ticket with the last start error."""

    ticket: Ticket


class Strand(msgspec.Struct, frozen=True):
    """The worker takes no more tickets, or is gone: this one was bound to it, and no other may serve it."""

    worker: WorkerId
    ticket: Ticket


Action = Spawn | Assign | Probe | Retire | Reject | Strand
