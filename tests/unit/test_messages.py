"""Messages: their bytes, which are the protocol, and how unknown and broken ones are taken."""

import msgspec
import pytest
from msgspec import Raw

from asyncpool.protocol import messages
from asyncpool.protocol.messages import (
    Call,
    Cancel,
    CommandInfo,
    Credit,
    ErrorInfo,
    Failure,
    Hello,
    Log,
    Ping,
    Pong,
    Ready,
    Result,
    Stop,
    Update,
)
from asyncpool.protocol.wire import FrameError

NIL = Raw(b"\xc0")
ONE = Raw(b"\x01")

# Each message with the plain values that stand for it on the wire. Foreign workers are written by this table.
TO_WORKER = {
    "hello": (
        Hello(
            versions=[1],
            max_message=1000,
            concurrency=2,
            modules=["kittens"],
            sys_path=["/app"],
            slot=3,
            config=ONE,
            registered_only=True,
            allow_pickle=True,
            main="/app/main.py",
            log_level=20,
        ),
        [1, [1], 1000, 2, ["kittens"], ["/app"], 3, 1, True, True, "/app/main.py", 20],
    ),
    "call by name": (
        Call(id=7, command="pet", args=Raw(b"\x90"), kwargs=Raw(b"\x80")),
        [2, 7, "pet", [], {}, None, 0, {}, []],
    ),
    "call by reference": (
        Call(
            id=7,
            command=("math", "gcd"),
            args=Raw(b"\x91\x01"),
            kwargs=Raw(b"\x80"),
            deadline=1.5,
            credit=16,
            meta={"a": "b"},
            buffers=[70_000],
        ),
        [2, 7, ["math", "gcd"], [1], {}, 1.5, 16, {"a": "b"}, [70_000]],
    ),
    "cancel": (Cancel(id=7), [3, 7]),
    "credit": (Credit(id=7, n=16), [4, 7, 16]),
    "ping": (Ping(nonce=7), [5, 7]),
    "stop": (Stop(), [6]),
}
TO_PARENT = {
    "ready": (
        Ready(
            version=1,
            pid=42,
            language="python 3.13",
            commands=[CommandInfo(name="pet", module="kittens", qualname="pet_kitten", timeout=2.5, retries=2)],
            capacity=4,
            lifespans=2,
            buffers=True,
        ),
        [32, 1, 42, "python 3.13", [["pet", "kittens", "pet_kitten", 2.5, 2, "plain", False, None, None]], 4, 2, True],
    ),
    "result": (Result(id=7, value=ONE, buffers=[5]), [33, 7, 1, [5]]),
    "failure": (
        Failure(
            id=7,
            error=ErrorInfo(
                origin="raised",
                module="builtins",
                qualname="ValueError",
                message="no",
                traceback="Traceback",
                args=Raw(b"\x91\x01"),
                attributes=Raw(b"\x80"),
                notes=["note"],
                frames="File",
                cause=ErrorInfo("raised", "builtins", "KeyError", "'a'"),
                context=ErrorInfo("raised", "builtins", "OSError", "b"),
                suppress_context=True,
                members=[ErrorInfo("raised", "builtins", "TypeError", "c")],
            ),
        ),
        [
            34,
            7,
            [
                *("raised", "builtins", "ValueError", "no", "Traceback", [1], {}, ["note"], "File"),
                ["raised", "builtins", "KeyError", "'a'", "", None, None, [], "", None, None, False, []],
                ["raised", "builtins", "OSError", "b", "", None, None, [], "", None, None, False, []],
                True,
                [["raised", "builtins", "TypeError", "c", "", None, None, [], "", None, None, False, []]],
            ],
        ],
    ),
    "update": (Update(id=7, value=ONE), [35, 7, 1, []]),
    "pong": (Pong(nonce=7), [36, 7]),
    "log": (Log(record=Raw(b"\x80")), [37, {}]),
}
DIRECTIONS = [messages.decode_to_worker, messages.decode_to_parent]


def plain(body: bytes) -> list:
    return msgspec.msgpack.decode(body)


@pytest.mark.parametrize(
    ("message", "expected"), [*TO_WORKER.values(), *TO_PARENT.values()], ids=[*TO_WORKER, *TO_PARENT]
)
def test_a_message_is_an_array_of_its_kind_and_its_fields(message, expected):
    """Kinds, fields and their order are the protocol: other languages speak it by its description."""
    assert expected == plain(messages.encode(message))


@pytest.mark.parametrize("name", TO_WORKER)
def test_the_worker_reads_what_the_parent_sends(name):
    """Every message from parent to worker arrives as it was."""
    message, _ = TO_WORKER[name]
    assert message == messages.decode_to_worker(messages.encode(message))


@pytest.mark.parametrize("name", TO_PARENT)
def test_the_parent_reads_what_the_worker_sends(name):
    """Every message from worker to parent arrives as it was."""
    message, _ = TO_PARENT[name]
    assert message == messages.decode_to_parent(messages.encode(message))


@pytest.mark.parametrize(
    ("short", "expected"),
    [
        ([32, 1, 42, "c", []], Ready(1, 42, "c", [], 1)),
        ([32, 1, 42, "c", [["a", "b", "c"]]], Ready(1, 42, "c", [CommandInfo("a", "b", "c", None)])),
        ([33, 7, 1], Result(7, ONE, [])),
        ([34, 7, ["raised", "m", "E", "no"]], Failure(7, ErrorInfo("raised", "m", "E", "no", "", NIL, NIL))),
    ],
)
def test_trailing_fields_may_be_left_out(short, expected):
    """A simple foreign worker sends the required fields only; the others have their defaults."""
    assert expected == messages.decode_to_parent(msgspec.msgpack.encode(short))


def test_a_call_needs_no_more_than_its_first_four_fields():
    """Deadline, credit, meta and buffers have defaults, so that a later version can append more."""
    body = msgspec.msgpack.encode([2, 7, "pet", [], {}])
    assert Call(7, "pet", Raw(b"\x90"), Raw(b"\x80")) == messages.decode_to_worker(body)


def test_unknown_trailing_elements_are_ignored():
    """A newer peer may append fields; this one reads those that it knows."""
    assert Pong(7) == messages.decode_to_parent(msgspec.msgpack.encode([36, 7, "new", {"and": ["more"]}]))
    assert Ping(7) == messages.decode_to_worker(msgspec.msgpack.encode([5, 7, None]))


@pytest.mark.parametrize("decode", DIRECTIONS)
@pytest.mark.parametrize("kind", [64, 65, 1000, 2**63])
def test_kinds_from_64_up_are_skipped(decode, kind):
    """A peer may send messages that this version need not understand."""
    assert None is decode(msgspec.msgpack.encode([kind, "whatever", {"is": b"in it"}]))


@pytest.mark.parametrize("decode", DIRECTIONS)
@pytest.mark.parametrize("kind", [0, 31, 38, 63, -1, -64, True, "ping", None, 64.0, [64]])
def test_other_unknown_kinds_are_errors(decode, kind):
    """Below 64, or not a number at all, an unknown kind is something that must not be overlooked."""
    with pytest.raises(FrameError):
        decode(msgspec.msgpack.encode([kind, 1]))


@pytest.mark.parametrize("name", TO_PARENT)
def test_the_worker_refuses_the_workers_messages(name):
    """A message in the wrong direction is an error."""
    with pytest.raises(FrameError):
        messages.decode_to_worker(messages.encode(TO_PARENT[name][0]))


@pytest.mark.parametrize("name", TO_WORKER)
def test_the_parent_refuses_the_parents_messages(name):
    """A message in the wrong direction is an error."""
    with pytest.raises(FrameError):
        messages.decode_to_parent(messages.encode(TO_WORKER[name][0]))


@pytest.mark.parametrize("decode", DIRECTIONS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",  # never used by MessagePack
        b"\x90",  # an empty array
        b"\x80",  # a map
        b"\x05",  # a number
        b"\x92\x05",  # cut off
        b"\x92\x24\x07rest",  # more behind it
        b"\x92\x05\xa1x",  # a nonce that is a string
        b"\x91" * 5000,  # nested deeply
        b"Hello, world\n",
    ],
)
def test_what_is_no_message_is_a_frame_error(decode, body):
    """Nothing but FrameError comes out of a broken body, and it quotes the body."""
    with pytest.raises(FrameError, match="not a message") as caught:
        decode(body)
    assert repr(body[:20])[2:-1] in str(caught.value)


@pytest.mark.parametrize(
    "body", [[33], [33, 7], [33, "7", 1], [34, 7], [34, 7, "error"], [32, 1, 42, "c", "no list"], [35, 7]]
)
def test_missing_and_mistyped_fields_are_frame_errors(body):
    """A known kind with wrong fields is not guessed at."""
    with pytest.raises(FrameError):
        messages.decode_to_parent(msgspec.msgpack.encode(body))


def test_ids_reach_64_bits():
    """Ids are u64: the greatest passes both ways."""
    top = 2**64 - 1
    assert Cancel(top) == messages.decode_to_worker(messages.encode(Cancel(top)))
    assert Result(top, NIL) == messages.decode_to_parent(messages.encode(Result(top, NIL)))


def test_values_are_left_encoded():
    """A result's value is taken in as bytes: it is decoded later, by its annotation, once the worker is free."""
    message = messages.decode_to_parent(msgspec.msgpack.encode([33, 7, {"a": [1]}]))
    assert isinstance(message, Result)
    assert msgspec.msgpack.decode(message.value) == {"a": [1]}
