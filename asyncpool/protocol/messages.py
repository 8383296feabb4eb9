"""Every message, on one page, for both sides.

A message is a MessagePack array: the kind, then the fields in the order in which they stand here.

Law 1: fields are only ever appended, with a default; a receiver ignores elements that it does not know.
Law 2: kinds from 64 up may be skipped by a receiver; an unknown kind below is an error.
Law 3: the ``buffers`` of a message are their lengths on the wire; who has received it puts the buffers in their place.
Law 4: each Call ends with exactly one Result or Failure. Ids are u64 and never reused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from asyncpool.protocol.received import Received
from asyncpool.protocol.wire import Buffer, FrameError, quote

FIRST_SKIPPABLE_KIND = 64
MOST_BYTES = 2**20  # of updates that the caller has not taken; while there are fewer, one more of any size may go
MAIN = "__asyncpool_main__"  # what the application's script, its __main__, is called in a worker
NOTHING = Raw(b"\xc0")  # nil
NO_META: Mapping[str, str] = {}
CHUNK = ("asyncpool", "chunk")  # a Call of it runs one command on many arguments: see the wire protocol's page
UNREADABLE = (msgspec.DecodeError, ValueError, RecursionError)  # ValueError: text that is no UTF-8


class Message(Struct, array_like=True, tag_field="kind", gc=False):
    """Base of all messages: shares the field that tells them apart."""


# --- parent to worker: kinds 1 to 31 ---------------------------------------------------------------------------------


class Hello(Message, tag=1):
    """The first frame on every connection."""

    versions: list[int]  # protocol versions that the parent speaks
    max_message: int  # bytes of body and buffers, both directions
    concurrency: int  # calls that the parent would send at a time
    modules: list[str]  # to import before Ready
    sys_path: list[str]
    slot: int  # number of the worker's place in the pool, reused: 0, 1, ...
    config: Raw = NOTHING  # for lifespans
    registered_only: bool = False  # refuse functions that are not marked as commands
    allow_pickle: bool = False  # what cannot travel otherwise is pickled, in both directions
    main: str = ""  # the application's script, for its functions: an absolute path, or a module's name after python -m
    log_level: int | None = None  # the least level of records that the parent takes; nil: it takes none


class Call(Message, tag=2):
    """Run a command. The worker starts nothing before the frame's last byte."""

    id: int
    command: str | tuple[str, str]  # a registered name, or (module, qualified name)
    args: Raw  # array
    kwargs: Raw  # map with string keys
    deadline: float | None = None  # seconds that the command may run
    credit: int = 0  # updates that may be sent; 0: nobody listens
    meta: dict[str, str] = {}
    buffers: list[Any] = []  # law 3: of the large arguments, behind the body


class Cancel(Message, tag=3):
    """Stop the call with this id; ignored when it is settled."""

    id: int


class Credit(Message, tag=4):
    """*n* more updates may be sent for the call with this id; ignored when it is settled."""

    id: int
    n: int


class Ping(Message, tag=5):
    """Answer with a Pong of the same nonce."""

    nonce: int


class Stop(Message, tag=6):
    """Finish what runs and exit with code 0, as at the end of input."""


# --- worker to parent: kinds 32 to 63 --------------------------------------------------------------------------------


class CommandInfo(Struct, array_like=True, gc=False):
    """One command that a worker offers, with its defaults."""

    name: str
    module: str
    qualname: str
    timeout: float | None = None  # seconds
    retries: int = 0  # runs beyond the first, after crashes
    kind: str = "plain"  # or "async", "generator", "async generator"
    cooperative: bool = False  # it heeds Cancel
    cancel_grace: float | None = None  # seconds that it gets to do so
    on_cancel: str | None = None  # "stop" or "finish"


class Ready(Message, tag=32):
    """The answer to Hello: the worker takes calls from now on."""

    version: int  # the one that the worker chose
    pid: int
    language: str
    commands: list[CommandInfo]
    capacity: int = 1  # calls that the worker can take at a time; the lesser of this and Hello's counts
    lifespans: int = 0  # it needs time to leave them when it ends
    buffers: bool = False  # it takes calls with buffers


class Result(Message, tag=33):
    """The command returned."""

    id: int
    value: Raw
    buffers: list[Any] = []  # law 3


class ErrorInfo(Struct, array_like=True, gc=False):
    """An exception as plain data, with those that it came from and those that it holds."""

    origin: str  # "raised", "unknown_command", "argument" or "result": see asyncpool.errors
    module: str
    qualname: str
    message: str
    traceback: str = ""
    args: Raw = NOTHING  # array, where all of them can travel
    attributes: Raw = NOTHING  # map of the instance attributes that can travel
    notes: list[str] = []  # what was added with add_note()
    frames: str = ""  # the traceback of this exception alone, where the other one tells of more
    cause: ErrorInfo | None = None  # what it was raised from
    context: ErrorInfo | None = None  # what was being handled when it was raised, where that is not the cause
    suppress_context: bool = False  # the context is not shown
    members: list[ErrorInfo] = []  # of a group


class Failure(Message, tag=34):
    """The command failed, or never ran."""

    id: int
    error: ErrorInfo


class Update(Message, tag=35):
    """Something that a running command wants its caller to know; costs one credit."""

    id: int
    value: Raw
    buffers: list[Any] = []  # law 3

    @property
    def size(self) -> int:
        """Bytes of its value, in the body and behind it."""
        size = len(memoryview(self.value))
        if self.buffers:
            size += sum(each.getbuffer().nbytes for each in self.buffers)
        return size


class Pong(Message, tag=36):
    """The answer to a Ping."""

    nonce: int


class Log(Message, tag=37):
    """A record of the worker's logging."""

    record: Raw  # map


def with_deadline(body: bytes, deadline: float | None) -> bytes:
    """Return an encoded Call with another deadline."""
    message = _to_worker.decode(body)
    assert isinstance(message, Call)
    message.deadline = deadline
    return encode(message)


# A Call that is still to be encoded, with values: of them the encoder makes what a Raw holds. Id, command, args,
# kwargs, deadline, credit, meta and the lengths of the buffers, in this order.
call: Callable[..., Call] = Call

ToWorker = Hello | Call | Cancel | Credit | Ping | Stop
ToParent = Ready | Result | Failure | Update | Pong | Log

encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_to_parent: msgspec.msgpack.Decoder[ToParent] = msgspec.msgpack.Decoder(ToParent)
_either: msgspec.msgpack.Decoder[ToWorker | ToParent] = msgspec.msgpack.Decoder(ToWorker | ToParent)
_any_kind = msgspec.msgpack.Decoder(list[Raw])


def decode_to_worker(body: Buffer) -> ToWorker | None:
    """Return the parent's message, or None for one that may be skipped.

    Raises:
        FrameError: *body* is not a message.
    """
    try:
        return _to_worker.decode(body)
    except UNREADABLE as error:
        _raise_unless_skippable(body, error)
        return None


def decode_to_parent(body: Buffer) -> ToParent | None:
    """Return the worker's message, or None for one that may be skipped.

    Raises:
        FrameError: *body* is not a message.
    """
    try:
        return _to_parent.decode(body)
    except UNREADABLE as error:
        _raise_unless_skippable(body, error)
        return None


def lengths(body: Buffer, size: int) -> list[int]:
    """Return how long each of the buffers is that take *size* bytes behind *body*.

    Raises:
        FrameError: *body* is not a message, or not one of so many bytes of buffers.
    """
    try:
        listed = getattr(_either.decode(body), "buffers", None)
    except UNREADABLE as error:
        _raise_unless_skippable(body, error)
        return [size]  # of a message that is skipped
    if (
        not isinstance(listed, list)
        or not all(type(each) is int and each > 0 for each in listed)
        or sum(listed) != size
    ):
        raise FrameError(f"{size:,} bytes behind a message that tells of buffers of {listed or 0} bytes{quote(body)}")
    return listed


def attach(message: ToWorker | ToParent | None, buffers: Sequence[Received]) -> None:
    """Put the received *buffers* into their message, in the place of their lengths.

    Raises:
        FrameError: There are none, and the message tells of some.
    """
    if isinstance(message, (Call, Result, Update)):
        if message.buffers and not buffers:
            raise FrameError(f"0 bytes behind a message that tells of buffers of {message.buffers} bytes")
        message.buffers = list(buffers)


def _raise_unless_skippable(body: Buffer, error: Exception) -> None:
    kind: Any = None
    try:
        kind = msgspec.msgpack.decode(_any_kind.decode(body)[0])
    except (*UNREADABLE, IndexError):
        pass
    if not isinstance(kind, int) or kind < FIRST_SKIPPABLE_KIND:
        raise FrameError(f"not a message ({error}){quote(body)}") from None
