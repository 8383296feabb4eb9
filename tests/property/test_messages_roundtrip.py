"""Messages: whatever is sent arrives, whatever arrives is a message, is skipped, or is a FrameError."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
from tests.support.often import often

texts = st.text(max_size=20)
ids = st.integers(0, 2**64 - 1)
seconds = st.none() | st.floats(0, allow_nan=False)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
raws = plain.map(lambda value: Raw(msgspec.msgpack.encode(value)))
lengths = st.lists(st.integers(0, 2**32), max_size=3)
alone = st.builds(ErrorInfo, texts, texts, texts, texts, texts, raws, raws)
errors = st.builds(
    ErrorInfo,
    *(texts, texts, texts, texts, texts, raws, raws),
    st.lists(texts, max_size=2),
    texts,
    st.none() | alone,
    st.none() | alone,
    st.booleans(),
    st.lists(alone, max_size=2),
)

to_worker = st.one_of(
    st.builds(
        Hello,
        st.lists(st.integers(1, 9), max_size=3),
        ids,
        ids,
        st.lists(texts, max_size=3),
        st.lists(texts, max_size=3),
        ids,
        raws,
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        Call,
        ids,
        texts | st.tuples(texts, texts),
        raws,
        raws,
        seconds,
        ids,
        st.dictionaries(texts, texts, max_size=3),
        lengths,
    ),
    st.builds(Cancel, ids),
    st.builds(Credit, ids, ids),
    st.builds(Ping, ids),
    st.just(Stop()),
)
to_parent = st.one_of(
    st.builds(Ready, ids, ids, texts, st.lists(st.builds(CommandInfo, texts, texts, texts, seconds), max_size=3), ids),
    st.builds(Result, ids, raws, lengths),
    st.builds(Failure, ids, errors),
    st.builds(Update, ids, raws, lengths),
    st.builds(Pong, ids),
    st.builds(Log, raws),
)
DIRECTIONS = {"to worker": messages.decode_to_worker, "to parent": messages.decode_to_parent}


def as_plain(message: object) -> list:
    return msgspec.msgpack.decode(messages.encode(message))


@settings(deadline=None)
@given(to_worker)
def test_every_message_to_the_worker_arrives(message):
    """What the parent encodes, the worker decodes to the same."""
    assert message == messages.decode_to_worker(messages.encode(message))


@settings(deadline=None)
@given(to_parent)
def test_every_message_to_the_parent_arrives(message):
    """What the worker encodes, the parent decodes to the same."""
    assert message == messages.decode_to_parent(messages.encode(message))


@settings(deadline=None)
@given(to_worker, st.lists(plain, min_size=1, max_size=3), st.data())
def test_the_worker_ignores_what_is_appended(message, more, data):
    """Unknown trailing elements change nothing; only a message that has all of its fields can have more."""
    body = msgspec.msgpack.encode([*as_plain(message), *more])
    assert message == messages.decode_to_worker(body)


@settings(deadline=None)
@given(to_parent, st.lists(plain, min_size=1, max_size=3))
def test_the_parent_ignores_what_is_appended(message, more):
    """Unknown trailing elements change nothing."""
    body = msgspec.msgpack.encode([*as_plain(message), *more])
    assert message == messages.decode_to_parent(body)


@pytest.mark.parametrize("direction", DIRECTIONS)
@settings(deadline=None)
@given(kind=st.integers(64, 2**64 - 1), rest=st.lists(plain, max_size=3))
def test_kinds_from_64_up_are_skipped(direction, kind, rest):
    """Whatever is in it, a message of a kind from 64 up is None."""
    assert None is DIRECTIONS[direction](msgspec.msgpack.encode([kind, *rest]))


@pytest.mark.parametrize(("direction", "known"), [("to worker", range(1, 7)), ("to parent", range(32, 38))], ids=str)
@settings(deadline=None)
@given(kind=st.integers(-(2**63), 63), rest=st.lists(plain, max_size=3))
def test_unknown_kinds_below_64_are_errors(direction, known, kind, rest):
    """A kind below 64 that this side does not know is never overlooked."""
    if kind in known:
        return
    with pytest.raises(FrameError):
        DIRECTIONS[direction](msgspec.msgpack.encode([kind, *rest]))


@pytest.mark.parametrize("direction", DIRECTIONS)
@settings(deadline=None, max_examples=often(300))
@given(
    body=st.one_of(
        st.binary(max_size=60),
        plain.map(msgspec.msgpack.encode),
        st.lists(plain, max_size=9).map(msgspec.msgpack.encode),
        st.tuples(st.integers(0, 70), st.lists(plain, max_size=8)).map(
            lambda parts: msgspec.msgpack.encode([parts[0], *parts[1]])
        ),
        st.tuples(to_worker | to_parent, st.integers(0, 60), st.binary(max_size=3)).map(
            lambda parts: messages.encode(parts[0])[: parts[1]] + parts[2]
        ),
    )
)
def test_arbitrary_bytes_raise_nothing_but_frame_error(direction, body):
    """Whatever a peer sends, it is a message, is skipped, or is refused in one way."""
    try:
        DIRECTIONS[direction](body)
    except FrameError:
        pass
