"""What type checkers must see of the public face. Read by mypy and pyright, never run.

Each line with an ignore is an error that must be found: both checkers complain about an ignore without one.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=error

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Any, assert_type

import asyncpool
from asyncpool import Lease, Pool, PoolStats, Results, Stream, WorkerInfo
from asyncpool.testing import Faults, InlinePool
from tests.typing import kittens


async def calls_have_the_type_of_their_command(pool: Pool) -> None:
    assert_type(await pool.run(kittens.pet_kitten, "Tom"), str)
    assert_type(await pool.run(kittens.pet_kitten, "Tom", strokes=3), str)
    assert_type(await pool.run(kittens.pet_kitten, name="Tom"), str)
    assert_type(await pool.run(kittens.feed, "a", "b", grams=3), list[int])
    assert_type(await pool.run(kittens.unmarked, 1, "x"), dict[str, int])
    assert_type(await pool.run(kittens.Basket, 3), kittens.Basket)
    assert_type(await pool.run(math.factorial, 20), int)


async def what_a_command_yields_and_returns_has_its_types(pool: Pool) -> None:
    assert_type(await pool.run(kittens.fetch_food, "x"), bytes)
    assert_type(await pool.run(kittens.groom, ["a"]), int)
    await pool.run(kittens.groom, 7)  # type: ignore[call-overload]
    async with pool.stream(kittens.groom, ["a"]) as updates:
        assert_type(updates, Stream[str, int])
        async for update in updates:
            assert_type(update, str)
        assert_type(updates.result, int)
    assert_type(pool.stream(kittens.purrs, 3), Stream[float, None])
    assert_type(pool.stream(kittens.meows, 3), Stream[str, Any])
    assert_type(pool.stream(kittens.fetch_food, "x"), Stream[Any, bytes])
    assert_type(pool.options(returns=int).stream("groom", []), Stream[Any, int])
    async with pool.acquire() as worker:
        assert_type(worker.stream(kittens.groom, ["a"]), Stream[str, int])


async def calls_by_name_are_any(pool: Pool) -> None:
    assert_type(await pool.run("pet_kitten", "Tom", anything=1), Any)


async def commands_keep_parameters_that_are_called_like_options(pool: Pool) -> None:
    await pool.run(kittens.sleep, 1.5, timeout=2.5)
    assert_type(await pool.options(timeout=9).run(kittens.unmarked, acquire_timeout=1, returns="x"), dict[str, int])


async def wrong_calls_are_errors(pool: Pool) -> None:
    await pool.run(kittens.pet_kitten, 7)  # type: ignore[call-overload]
    await pool.run(kittens.pet_kitten)  # type: ignore[call-overload]
    await pool.run(kittens.pet_kitten, "Tom", tail=1)  # type: ignore[arg-type, call-arg]
    await pool.run(kittens.pet_kitten, "Tom", strokes="three")  # type: ignore[arg-type]
    await pool.run(kittens.sleep, 1.5)  # type: ignore[call-overload]
    await pool.run(kittens.feed, "a", grams="many")  # type: ignore[arg-type]
    await pool.run(7)  # type: ignore[call-overload]
    await pool.run(math.factorial, "x")  # type: ignore[call-overload]
    await pool.run(kittens.pet_kitten, "Tom", timeout=3)  # type: ignore[arg-type, call-arg]


async def options_change_the_type_of_calls_by_name_only(pool: Pool) -> None:
    assert_type(await pool.options(returns=list[int]).run("x"), list[int])
    assert_type(await pool.options(returns=str, timeout=2).run("pet_kitten", "Tom"), str)
    assert_type(await pool.options(returns=kittens.Basket).run("x"), kittens.Basket)
    assert_type(await pool.options(timeout=None, acquire_timeout=1).run(kittens.pet_kitten, "Tom"), str)
    assert_type(await pool.options(returns=int).run(kittens.pet_kitten, "Tom"), str)
    await pool.options(timeout=2).run(kittens.pet_kitten, 7)  # type: ignore[call-overload]
    pool.options(timeout="2")  # type: ignore[arg-type]
    pool.options(strokes=3)  # type: ignore[call-arg]


async def leases_have_the_same_types(pool: Pool) -> None:
    async with pool.acquire() as worker:
        assert_type(worker, Lease)
        assert_type(await worker.run(kittens.pet_kitten, "Tom"), str)
        assert_type(await worker.run("pet_kitten", "Tom"), Any)
        await worker.run(kittens.pet_kitten, 7)  # type: ignore[call-overload]
    lease = await pool.acquire()
    assert_type(lease, Lease)
    await pool.release(lease)


async def pools_are_what_they_say() -> None:
    async with Pool("kittens", kittens, min_size=2, max_size=5, stderr="log") as pool:
        assert_type(pool, Pool)
        assert_type(pool.stats(), PoolStats)
        assert_type(pool.workers(), list[WorkerInfo])
        assert_type(await pool.start(), None)
        assert_type(await pool.aclose(grace=0), None)
    Pool(min_size="2")  # type: ignore[arg-type]
    Pool(stderr="pipe")  # type: ignore[arg-type]
    Pool(minimum=2)  # type: ignore[call-arg]


def marks_keep_signatures() -> None:
    assert_type(kittens.pet_kitten("Tom"), str)
    assert_type(kittens.feed("a", grams=3), list[int])
    marked: Callable[[str, int], str] = kittens.pet_kitten
    marked("Tom", 3)
    kittens.pet_kitten(7)  # type: ignore[arg-type]
    kittens.sleep(1.5)  # type: ignore[call-arg]


def marks_take_what_they_know_by_name() -> None:
    asyncpool.command("name")  # type: ignore[call-overload]
    asyncpool.command(seconds=3)  # type: ignore[call-overload]
    asyncpool.command(timeout="3")  # type: ignore[call-overload]


def registered_types_fit_their_functions() -> None:
    asyncpool.register_type(
        kittens.Basket, encode=lambda basket: bytes(basket.size), decode=lambda data: kittens.Basket(len(data)), code=64
    )
    asyncpool.register_type(kittens.Basket, encode=len, decode=kittens.Basket, code=64)  # type: ignore[arg-type]
    asyncpool.register_type(kittens.Basket, encode=lambda basket: b"", decode=lambda data: kittens.Basket(1))  # type: ignore[call-arg]


def errors_say_what_they_carry(
    crashed: asyncpool.WorkerCrashed, failed: asyncpool.CommandError, full: asyncpool.PoolFull
) -> None:
    assert_type(crashed.exit_code, int | None)
    assert_type(crashed.signal, int | None)
    assert_type(crashed.stderr, str)
    assert_type(failed.type_name, str)
    assert_type(failed.worker_pid, int | None)
    assert_type(full.started, bool)


def misspelt_names_are_errors() -> None:
    asyncpool.Pooll  # type: ignore[attr-defined]  # noqa: B018


async def a_shutdown_says_whether_it_was_asked_for(pool: Pool) -> None:
    async with asyncpool.graceful_shutdown(pool, grace=10, signals=(15,)) as stop:
        assert_type(stop.requested, bool)
        await stop.wait()


async def maps_have_the_type_of_their_command(pool: Pool, later: AsyncIterator[str]) -> None:
    async with pool.map(kittens.pet_kitten, ["Tom"]) as purrs:
        assert_type(purrs, Results[str])
        async for purr in purrs:
            assert_type(purr, str)
    assert_type(pool.map(kittens.pet_kitten, later, ordered=False, window=3, chunk=2), Results[str])
    assert_type(pool.map(kittens.fetch_food, ("x" for _ in range(3))), Results[bytes])
    assert_type(pool.map(kittens.groom, [["a"]]), Results[int])
    assert_type(pool.map(kittens.purrs, [1]), Results[None])
    assert_type(pool.map(kittens.meows, [1]), Results[Any])
    assert_type(pool.map(kittens.pet_kitten, ["Tom"], return_exceptions=True), Results[str | Exception])
    assert_type(pool.map(kittens.fetch_food, later, return_exceptions=True), Results[bytes | Exception])
    assert_type(pool.map("pet_kitten", ["Tom"]), Results[Any])
    assert_type(pool.options(returns=str).map("pet_kitten", ["Tom"]), Results[str])
    assert_type(pool.options(returns=str).map("x", [1], return_exceptions=True), Results[str | Exception])
    pool.map(kittens.pet_kitten, [7])  # type: ignore[arg-type]
    pool.map(kittens.pet_kitten, "Tom", 3)  # type: ignore[call-overload]
    pool.map(kittens.pet_kitten, 7)  # type: ignore[call-overload]
    pool.map(kittens.pet_kitten, ["Tom"], chunk="2")  # type: ignore[call-overload]


async def submitted_calls_are_tasks_of_their_result(pool: Pool) -> None:
    await assert_type(pool.submit(kittens.pet_kitten, "Tom", strokes=2), asyncio.Task[str])
    await assert_type(pool.submit(kittens.fetch_food, "x"), asyncio.Task[bytes])
    await assert_type(pool.submit(kittens.groom, ["a"]), asyncio.Task[int])
    await assert_type(pool.submit("pet_kitten", "Tom"), asyncio.Task[Any])
    await assert_type(pool.options(returns=str, key=("a", 1)).submit("pet_kitten", "Tom"), asyncio.Task[str])
    assert_type(await pool.submit(kittens.pet_kitten, "Tom"), str)
    await pool.submit(kittens.pet_kitten, 7)  # type: ignore[call-overload]


async def broadcasts_give_lists(pool: Pool) -> None:
    assert_type(await pool.broadcast(kittens.pet_kitten, "Tom"), list[str])
    assert_type(await pool.broadcast(kittens.fetch_food, "x"), list[bytes])
    assert_type(await pool.broadcast("pet_kitten", "Tom"), list[Any])
    assert_type(await pool.options(return_exceptions=True).broadcast(kittens.pet_kitten, "Tom"), list[Any])
    await pool.broadcast(kittens.pet_kitten, 7)  # type: ignore[call-overload]


async def a_pool_for_tests_has_the_types_of_a_pool() -> None:
    with Faults(crash_at=[1], hang_at=2) as faults:
        async with InlinePool(kittens, max_size=2) as pool:
            assert_type(pool, InlinePool)
            assert_type(await pool.run(kittens.pet_kitten, "Tom"), str)
        InlinePool(max_sise=2)  # type: ignore[call-arg]
        assert_type(faults.calls, int)


async def the_lines_of_the_design_have_their_types(names: list[str], x: int, user_id: int) -> None:
    async with asyncpool.Pool("kittens", min_size=2, max_size=5) as pool:
        assert_type(await pool.run(kittens.pet_kitten, "Tom", strokes=3), str)
        async with asyncio.timeout(5):
            assert_type(await pool.run(math.factorial, 20_000), int)
        async with pool.stream(kittens.groom, ["Tom", "Fluffy"]) as updates:
            async for name in updates:
                assert_type(name, str)
            assert_type(updates.result, int)
        async with pool.map(kittens.pet_kitten, names) as purrs:
            async for purr in purrs:
                assert_type(purr, str)
        task = pool.submit(kittens.pet_kitten, "Tom")
        await assert_type(task, asyncio.Task[str])
        async with pool.acquire() as worker:
            assert_type(await worker.run("predict", x), Any)
        view = pool.options(timeout=2, retries=1, key=user_id)
        assert_type(await view.run("pet_kitten", "Tom"), Any)
        assert_type(await view.run(kittens.pet_kitten, "Tom"), str)


def a_running_call_knows_itself() -> None:
    context = asyncpool.call_context()
    assert_type(context, asyncpool.CallContext)
    assert_type(context.id, int)
    assert_type(context.deadline, float | None)
    assert_type(context.meta, dict[str, str])
    assert_type(context.slot, int)
    assert_type(context.cancelled(), bool)
    assert_type(asyncpool.emit({"any": "update"}), None)
