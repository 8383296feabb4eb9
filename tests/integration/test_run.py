"""What goes into ``pool.run`` and what comes out of it."""

import asyncio
import datetime
import functools
import math
import operator
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import asyncpool
from asyncpool import ArgumentError, CommandError, PayloadError, Pool, ResultError, UnknownCommand
from tests.support import commands, typed
from tests.support.typed import Cat, Colour, Point, Size

UTC = datetime.UTC
TOM = Cat("Tom", datetime.date(2020, 2, 29), Colour.RED, Point(1, -2))


@pytest_asyncio.fixture
async def typed_pool(pool_class: type[Pool]) -> AsyncIterator[Pool]:
    """A pool that has the commands with annotations of many kinds, too."""
    async with pool_class(commands, typed, min_size=2, max_size=2, stderr="discard") as pool:
        yield pool


SAME: list[tuple[Any, Any]] = [
    (typed.same_point, Point(3, -4)),
    (typed.same_cat, TOM),
    (typed.same_cat, Cat("no", datetime.date.min)),
    (typed.same_datetime, datetime.datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)),
    (
        typed.same_datetime,
        datetime.datetime(1, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone(datetime.timedelta(hours=5, minutes=30))),
    ),
    (typed.same_datetime, datetime.datetime(2024, 2, 29, 12, 30)),  # noqa: DTZ001 # a naive one
    (typed.same_timedelta, datetime.timedelta(days=-3, microseconds=7)),
    (typed.same_uuid, uuid.UUID(int=2**127 + 1)),
    (typed.same_enum, Colour.RED),
    (typed.same_size, Size.LARGE),
    (typed.same_path, Path("/tmp/ä/\udcff")),
    (typed.same_bytes, bytes(range(256))),
    (typed.same_bytearray, bytearray(b"abc")),
    (typed.same_int, 2**63),
    (typed.same_int, 2**64),
    (typed.same_int, -(2**63) - 1),
    (typed.same_int, -(10**400)),
    (typed.same_float, math.inf),
    (typed.same_float, -0.0),
    (typed.same_complex, 1.5 - 2j),
    (typed.same_tuple, (1, "one")),
    (typed.same_set, {1, 2, 2**70}),
    (typed.same_set, set()),
    (typed.same_frozenset, frozenset({"a", ""})),
    (typed.same_dict, {1: [Path("a")], -1: []}),
    (typed.same_union, None),
    (typed.same_union, 2**64),
    (typed.same_union, "text"),
]


@pytest.mark.contract
async def test_annotated_values_arrive_as_what_they_were(typed_pool: Pool, subtests: pytest.Subtests) -> None:
    """An annotated argument reaches the command in its own type, and the annotated result comes back in its own."""
    for command, value in SAME:
        with subtests.test(command=command.__name__, value=repr(value)[:60]):
            result = await typed_pool.run(command, value)
            assert result == value
            assert type(result) is type(value)


@pytest.mark.contract
async def test_a_float_that_is_no_number_stays_none(typed_pool: Pool) -> None:
    """NaN travels as NaN."""
    assert math.isnan(await typed_pool.run(typed.same_float, math.nan))


@pytest.mark.contract
async def test_containers_of_structs_arrive_whole(typed_pool: Pool) -> None:
    """Annotations are followed into containers, both ways."""
    assert await typed_pool.run(typed.same_cats, [TOM]) == {"Tom": TOM}


PLAIN: list[Any] = [
    *(None, True, 0, -1, 2**63, 2**64, -(2**63) - 1, 1.5, "text", "", b"\0\xff", 2j),
    *([1, [2]], [], {"a": {1: b"x"}}, {}),
]


@pytest.mark.contract
async def test_keys_travel_as_values_do(pool: Pool, subtests: pytest.Subtests) -> None:
    """An integer beyond 64 bits or a path arrives as what it was, also as the key of a dict."""
    for value in ({2**65: "large"}, {-(2**70): 2**70}, {Path("a"): 1}, {(2**65, 1): 2}, {1.5: 1, b"x": 2, None: 3}):
        with subtests.test(value=value):
            assert await pool.run("echo", value) == value


@pytest.mark.contract
async def test_values_without_annotation_arrive_as_plain_built_ins(pool: Pool, subtests: pytest.Subtests) -> None:
    """Nothing is annotated: what MessagePack or an ext code has a word for is still what it was."""
    for value in PLAIN:
        with subtests.test(value=value):
            result = await pool.run("echo", value)
            assert result == value
            assert type(result) is type(value)


@pytest.mark.contract
async def test_returns_decodes_the_result_of_a_command_called_by_name(typed_pool: Pool) -> None:
    """By name the parent knows no annotation; options(returns=...) gives it one."""
    assert isinstance(await typed_pool.run("same_cat", TOM), dict)
    assert await typed_pool.options(returns=Cat).run("same_cat", TOM) == TOM
    assert await typed_pool.options(returns=tuple[int, ...]).run("echo", [1, 2]) == (1, 2)
    with pytest.raises(ResultError, match="int"):
        await typed_pool.options(returns=int).run("echo", "text")


@pytest.mark.contract
async def test_a_command_is_named_in_every_way(pool: Pool) -> None:
    """By its function, by its name, by the name that its mark gives it, and any other importable function."""
    assert await pool.run(commands.add, 1, second=2) == 3
    assert await pool.run("add", 1, second=2) == 3
    assert await pool.run("renamed") == "renamed"
    assert await pool.run(commands.some_name) == "renamed"
    assert await pool.run(commands.unmarked, 21) == 42
    assert await pool.run(math.factorial, 25) == math.factorial(25)
    assert await pool.run(operator.add, [1], [2]) == [1, 2]
    assert await pool.run(os.path.join, "a", "b") == "a/b"
    assert await pool.run(dict.fromkeys, ["a"], 1) == {"a": 1}


@pytest.mark.contract
async def test_a_partial_is_unrolled(pool: Pool) -> None:
    """Its function travels by name, its arguments with those of the call."""
    assert await pool.run(functools.partial(commands.add, 1), 2) == 3
    twice = functools.partial(functools.partial(commands.add, 1), second=5)
    assert await pool.run(twice) == 6
    assert await pool.run(twice, second=7) == 8
    assert await pool.run(functools.partial(math.factorial), 5) == 120


@pytest.mark.contract
async def test_a_commands_own_keywords_are_never_taken_for_options(pool: Pool) -> None:
    """Parameters called timeout, id, command or self belong to the command."""
    result = await pool.run("options", timeout=0.001, id="i", command="c", acquire_timeout=0, self="me")
    assert result == [0.001, "i", "c", 0, "me"]


MISFITS: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("add", ["x"], {}, r"add\(\): argument 'first': Expected `int`, got `str`"),
    ("add", [1], {"second": None}, "argument 'second'"),
    ("add", [], {}, "missing a required argument: 'first'"),
    ("add", [1, 2, 3], {}, "too many positional arguments"),
    ("add", [1], {"third": 3}, "unexpected keyword argument 'third'"),
    ("add", [1], {"first": 2}, "multiple values for argument 'first'"),
    ("same_point", [{"x": "no"}], {}, r"argument 'value': .*\$\.x"),
    ("same_uuid", ["no uuid"], {}, "argument 'value'"),
    ("same_enum", ["blue"], {}, "argument 'value'"),
    ("same_path", [7], {}, "argument 'value'"),
    ("append", ["{path}", 5], {}, "argument 'text'"),
]


async def test_arguments_are_checked_before_anything_runs(
    typed_pool: Pool, tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """ArgumentError names the command and the argument, is a TypeError, and nothing ran."""
    trace = tmp_path / "trace"
    before = await _pids(typed_pool)
    for command, args, kwargs, text in MISFITS:
        with subtests.test(command=command, args=args, kwargs=kwargs):
            with pytest.raises(ArgumentError, match=text) as caught:
                await typed_pool.run(command, *[str(trace) if each == "{path}" else each for each in args], **kwargs)
            assert isinstance(caught.value, TypeError)
            assert caught.value.started is False
            assert command in str(caught.value)
            assert not trace.exists()
    assert await _pids(typed_pool) == before


async def _pids(pool: Pool) -> set[int]:
    """Return the process ids of all workers, asked one by one."""
    async with pool.acquire() as first, pool.acquire() as second:
        return {await first.run("pid"), await second.run("pid")}


@pytest.mark.contract
@pytest.mark.parametrize("kind", ["lambda", "file", "object"])
async def test_a_result_that_cannot_travel_is_the_callers_error(pool: Pool, kind: str) -> None:
    """ResultError says what cannot travel; the command ran; the worker serves on."""
    with pytest.raises(ResultError, match="cannot travel") as caught:
        await pool.run("untravelling", kind)
    assert caught.value.started is True
    assert caught.value.worker_pid in {info.pid for info in pool.workers()}


@pytest.mark.contract
async def test_a_result_that_belies_its_annotation_is_refused(pool: Pool) -> None:
    """Called by its function, a command's result is decoded by its annotation."""
    with pytest.raises(ResultError, match=r"wrong_result.*Expected `int`, got `str`"):
        await pool.run(commands.wrong_result)
    assert await pool.run("wrong_result") == "not a number"


@pytest.mark.contract
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (object(), "object"),
        (lambda: None, "function"),
        ("half \ud800", "surrogates"),
        ([[object()]], "object"),
        ({"a": {1, object()}}, "object"),
    ],
    ids=["object", "function", "surrogate", "in a list", "in a set"],
)
async def test_an_argument_that_cannot_travel_touches_no_worker(pool: Pool, value: Any, text: str) -> None:
    """PayloadError names the argument before a worker is touched, by position or by name."""
    with pytest.raises(PayloadError, match=f"argument number 1: .*{text}") as caught:
        await pool.run("echo", value)
    assert isinstance(caught.value, TypeError)
    assert caught.value.started is False
    with pytest.raises(PayloadError, match=f"argument 'value': .*{text}"):
        await pool.run("echo", value=value)
    assert pool.stats().attempts == 0
    assert pool.stats().idle == 2


@pytest.mark.contract
async def test_a_value_that_contains_itself_cannot_travel(pool: Pool) -> None:
    """Endless nesting is a PayloadError, not a crash."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(PayloadError, match="nested too deeply, or contain themselves"):
        await pool.run("echo", endless)
    assert await pool.run("echo", 1) == 1


async def test_every_size_comes_back(pool: Pool, subtests: pytest.Subtests) -> None:
    """Sizes around the ring of 64 KiB, around the piece of 1 MiB, header and all, and large ones: there and back."""
    small = (0, 1, 2, 127, 128, *range(2**16 - 60, 2**16 + 2), *range(2**20 - 60, 2**20 + 2))
    for size in (*small, 2**24 - 1, 2**24, 2**24 + 1):
        with subtests.test(size=size):
            data = os.urandom(size)
            assert await pool.run("whole", data) == data


async def test_64_megabytes_go_there_and_back(pool: Pool) -> None:
    """A large payload in both directions is what it was."""
    data = os.urandom(2**20) * 64
    assert await pool.run("whole", data) == data


@pytest.mark.contract
async def test_large_calls_on_all_workers_at_once_do_not_mix(pool: Pool) -> None:
    """Frames that are written and read in pieces stay with their own worker."""
    data = [bytes([number]) * (3 * 2**20 + number) for number in range(6)]
    assert await asyncio.gather(*(pool.run("whole", each) for each in data)) == data


@pytest.mark.contract
async def test_max_message_is_checked_in_both_directions() -> None:
    """What is too large is refused where it is made, says so, and the same worker serves on."""
    limit = 2**20
    async with Pool(commands, max_size=1, max_message=limit, stderr="discard") as pool:
        pid = await pool.run("pid")
        assert await pool.run("length", b"x" * (limit - 2048)) == limit - 2048
        assert len(await pool.run("big", limit - 2048)) == limit - 2048
        with pytest.raises(PayloadError, match=r"max_message of 1,048,576") as sent:
            await pool.run("length", b"x" * limit)
        assert sent.value.started is False
        with pytest.raises(ResultError, match=r"above max_message of 1,048,576") as returned:
            await pool.run("big", limit)
        assert returned.value.started is True
        for size in range(limit - 1100, limit + 20, 7):
            try:
                assert await pool.run("length", b"x" * size) == size
            except PayloadError:
                pass
            try:
                assert len(await pool.run("big", size)) == size
            except ResultError:
                pass
        assert await pool.run("pid") == pid


async def test_a_call_that_just_fits_does_not_grow_by_the_commands_own_timeout() -> None:
    """That is only known once a worker is ready, when the call is encoded already: it costs no worker."""
    limit = 2**16
    for size in range(limit - 37, limit):
        async with Pool(commands, min_size=0, max_size=1, max_message=limit, stderr="discard") as pool:
            try:
                assert await pool.run("length_in_time", b"x" * size) == size
            except PayloadError:
                return
            assert pool.stats().spawned == 1
    raise AssertionError("every size fits")


@pytest.mark.contract
async def test_a_failure_larger_than_max_message_is_still_told() -> None:
    """An error with 10 MB of text is shortened; the worker survives it."""
    async with Pool(commands, max_size=1, max_message=2**16, stderr="discard") as pool:
        pid = await pool.run("pid")
        with pytest.raises(CommandError) as caught:
            await pool.run("fail", "long")
        assert caught.value.started is True
        assert await pool.run("pid") == pid


@pytest.mark.contract
async def test_an_unknown_name_is_told_with_those_that_there_are(pool: Pool) -> None:
    """UnknownCommand lists the commands; a name reaches no function that is not marked."""
    for name in ("purr", "unmarked", "os.system", "os:system", "tests.support.commands:echo", "some_name", ""):
        with pytest.raises(UnknownCommand, match="this worker has add, ") as caught:
            await pool.run(name)
        assert caught.value.started is False


@pytest.mark.contract
async def test_registered_only_takes_no_other_function() -> None:
    """Only marked functions run, by name or as themselves."""
    async with Pool(commands, registered_only=True, max_size=1, stderr="discard") as pool:
        assert await pool.run(commands.add, 1) == 2
        for function in (math.factorial, commands.unmarked, os.getcwd):
            with pytest.raises(UnknownCommand, match="registered_only"):
                await pool.run(function, 3)


@pytest.mark.contract
async def test_calls_from_many_tasks_get_their_own_answers(pool: Pool) -> None:
    """2,000 calls at a time: each gets the answer to its own question."""
    answers = await asyncio.gather(*(pool.run("echo", number) for number in range(2000)))
    assert answers == list(range(2000))


@pytest.mark.contract
async def test_a_pool_without_modules_runs_any_importable_function() -> None:
    """Modules are for commands by name; functions need none."""
    async with asyncpool.Pool(max_size=1, stderr="discard") as pool:
        assert await pool.run(commands.add, 1) == 2
        assert await pool.run(math.gcd, 12, 18) == 6
        with pytest.raises(UnknownCommand, match="no commands: mark them"):
            await pool.run("add", 1)
