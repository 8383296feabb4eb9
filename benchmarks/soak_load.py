"""The load of the soak: one event loop, one real pool, and everything that can happen to it. Started by soak.py.

Each call's answer is checked, and each call's outcome is counted here too, so that the pool's numbers can be held
against these at the end. Writes lines of JSON to stdout: the progress, and in the last one the results. Whatever comes
on stderr is a fault.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any

import harness
import soak_worker

import asyncpool

CLIENTS = 16  # callers at a time
SAMPLES = 200  # of memory, descriptors and so on, in one run
STEPS = 50  # of the unrest: at each the pool is resized
PATIENCE = 2.0  # seconds for a resize or a restart; it goes on when nobody awaits it
STALLED = 120.0  # seconds without an outcome after which the run is given up
PATTERN = bytes(range(256)) * 8192  # 2 MiB; large payloads are pieces of it
SIZES = ((2, 4), (1, 3), (2, 2), (1, 4), (3, 4))  # min_size and max_size, one after the other
LARGEST = max(largest for _, largest in SIZES)
MAX_CALLS = 500
LEAK = 2**26  # bytes; with what a worker has anyway it is above max_memory
MOST_WRONG = 20  # faults that are told in words

# How many of 1,000 calls are of this kind; the rest are `double`.
CALM = {"refuse": 10, "lease": 5, "large": 2, "retry": 1, "leak": 1, "leave": 1}
ROUGH = {**CALM, "crash": 30, "cancel": 44, "time_out": 30}  # three of ten to be cancelled have their answer first
# One phase of three is rough. Were all alike, workers would die as fast as they start, and none would grow old.
PHASES = 30


class Load:
    """Makes the calls and keeps its own account of them.

    Args:
        calls: How many; the calls on leases count.
        seed: Of everything that is random here.
    """

    def __init__(self, calls: int, seed: int, folder: str) -> None:
        self.calls = calls
        self.wrong: list[str] = []
        self.faults = 0
        self.outcomes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.crashes = 0  # of workers, by our doing
        self.leases_lost = 0  # because their worker left at the moment in which it was leased
        self.changes = 0  # resizes and restarts
        self.impatient = 0  # those that were not awaited to their end
        self.latencies = array("d", [0.0]) * calls  # all of its memory is there from the start
        self.samples: list[dict[str, float]] = []
        self._begun = 0
        self._done = 0
        self._timed = 0  # latencies that are there
        self._leases_asked = 0
        self._part = max(50, calls // STEPS)  # calls between two steps of the unrest
        self._seed = seed
        self._folder = folder
        self._awake = asyncio.Event()  # cleared in a lull
        self._awake.set()
        self._step = asyncio.Condition()

    # --- the course of it --------------------------------------------------------------------------------------------

    async def run(self) -> dict[str, Any]:
        """Make all calls and return what was seen."""
        async with asyncpool.Pool(soak_worker, min_size=1, max_size=1):
            pass  # an event loop opens some things once in a process
        let_threads_end()
        before = surroundings()
        self.pool = asyncpool.Pool(
            soak_worker,
            min_size=SIZES[0][0],
            max_size=SIZES[0][1],
            idle_timeout=1.0,
            health_interval=0.4,
            timeout=60.0,
            max_calls=MAX_CALLS,
            max_lifetime=2.0,
            max_memory=LEAK,
        )
        start = time.perf_counter()
        async with self.pool:
            self._sampled_at, self._sampled_done = time.perf_counter(), 0
            unrest = asyncio.create_task(self._unrest())
            await self._make_calls()
            unrest.cancel()
            await asyncio.wait([unrest])
            if not unrest.cancelled() and (error := unrest.exception()) is not None:
                self.blame(f"resizing and restarting raised {error!r}")
            elapsed = time.perf_counter() - start
            self._look_at_stats(settled=True)
        stats = self.pool.stats()
        self._look_at_the_end(stats, before)
        latencies = self.latencies[: self._timed]
        return {
            "loop": type(asyncio.get_running_loop()).__module__.partition(".")[0],
            "calls": self._done,
            "elapsed": elapsed,
            "per_second": self._done / elapsed,
            "p50": harness.percentile(latencies, 50),
            "p99": harness.percentile(latencies, 99),
            "kinds": dict(self.kinds),
            "outcomes": dict(stats.outcomes),
            "attempts": stats.attempts,
            "spawned": stats.spawned,
            "leases_lost": self.leases_lost,
            "changes": self.changes,
            "impatient": self.impatient,
            "exited": dict(stats.exited),
            "samples": self.samples,
            "faults": self.faults,
            "wrong": self.wrong,
        }

    async def _make_calls(self) -> None:
        clients = [asyncio.create_task(self._client()) for _ in range(CLIENTS)]
        seen = -1
        while True:
            _, running = await asyncio.wait(clients, timeout=STALLED)
            if not running:
                break
            if self._done == seen:
                self.blame(f"no call got its outcome within {STALLED:g} s: {self.pool!r}, {self.pool.stats()}")
                for client in clients:
                    client.cancel()
            seen = self._done
        for client in clients:
            if not client.cancelled() and (error := client.exception()) is not None:
                self.blame(f"a client ended with {error!r}")

    async def _client(self) -> None:
        while self._begun < self.calls:
            await self._awake.wait()
            self._begun += 1
            number = self._begun
            kind = self._kind(number, rough=PHASES * number // self.calls % 3 == 0)
            self.kinds[kind] += 1
            await getattr(self, f"_{kind}")(number)

    def _kind(self, number: int, *, rough: bool) -> str:
        weights = ROUGH if rough else CALM
        drawn = self._chance(number, kind=True).randrange(1000)
        for kind, weight in weights.items():
            if (drawn := drawn - weight) < 0:
                return kind
        return "double"

    def _chance(self, number: int, *, kind: bool = False) -> random.Random:
        """Return what is random about a call, or its kind: by its number and the seed, whatever others do meanwhile."""
        return random.Random(self._seed * 2**41 + 2 * number + kind)

    async def _unrest(self) -> None:
        """Resize all the time, replace all workers now and then, and let the pool fall idle now and then."""
        for number in range(1, STEPS + 1):
            async with self._step:
                await self._step.wait_for(lambda until=number * self._part: self._done >= until)
            smallest, largest = SIZES[number % len(SIZES)]
            await self._within_patience(self.pool.resize(min_size=smallest, max_size=largest))
            if number % 5 == 0:
                await self._within_patience(self.pool.restart())
            if number % 10 == 5:
                self._awake.clear()
                await asyncio.sleep(1.5)  # longer than idle_timeout and health_interval
                self._awake.set()

    async def _within_patience(self, change: Coroutine[Any, Any, None]) -> None:
        """Await a change for a while: where workers die as fast as they start, min_size may not be reached at once."""
        self.changes += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await change
        except TimeoutError:
            self.impatient += 1

    # --- kinds of calls ----------------------------------------------------------------------------------------------

    async def _double(self, number: int) -> None:
        begin = time.perf_counter()
        await self._expect(number, "ok", self.pool.run(soak_worker.double, number), 2 * number)
        self.latencies[self._timed] = time.perf_counter() - begin
        self._timed += 1

    async def _large(self, number: int) -> None:
        chance = self._chance(number)
        begin, size = chance.randrange(2**20), chance.randrange(2**16, 2**20)
        data = PATTERN[begin : begin + size]
        await self._expect(number, "ok", self.pool.run(soak_worker.echo, data), data)

    async def _refuse(self, number: int) -> None:
        await self._expect(number, "failed", self.pool.run(soak_worker.refuse, number))

    async def _leak(self, number: int) -> None:
        await self._expect(number, "ok", self.pool.run(soak_worker.leak, LEAK), LEAK)

    async def _leave(self, number: int) -> None:
        await self._expect(number, "ok", self.pool.run(soak_worker.leave, number), number)

    async def _crash(self, number: int) -> None:
        self.crashes += 1
        await self._expect(number, "crashed", self.pool.run(soak_worker.crash, number))

    async def _retry(self, number: int) -> None:
        self.crashes += 1
        retried = self.pool.options(retries=1).run(soak_worker.crash_once, number, self._folder)
        await self._expect(number, "ok", retried, number)

    async def _time_out(self, number: int) -> None:
        hanging = self.pool.options(timeout=0.005).run(soak_worker.nap, number, 60.0)
        await self._expect(number, "timed_out", hanging)

    async def _cancel(self, number: int) -> None:
        """The caller is cancelled at any moment: before its turn, while its command runs, as the answer comes."""
        chance = self._chance(number)
        seconds, latest = chance.uniform(0, 0.02), chance.choice((0.0, 0.01, 0.3))
        moment = chance.uniform(0.0, latest)
        submitted = False

        async def submit() -> int:
            nonlocal submitted
            submitted = True
            return await self.pool.run(soak_worker.nap, number, seconds)

        call = asyncio.create_task(submit())
        cancelling = asyncio.get_running_loop().call_later(moment, call.cancel)
        await asyncio.wait([call])
        cancelling.cancel()
        if not submitted:  # uvloop runs timers before tasks: this one was cancelled before its first step
            await self._double(number)
        elif call.cancelled():
            self._count("cancelled")
        else:
            await self._expect(number, "ok", call, number)

    async def _lease(self, number: int) -> None:
        """Two or three calls on one worker, which keeps something between them; one of ten dies meanwhile."""
        crashes = self._chance(number).random() < 0.1
        self._leases_asked += 1
        async with self.pool.acquire() as worker:
            self._leases_asked -= 1
            outcome, error = await outcome_of(worker.run(soak_worker.keep, number))
            self._count(outcome)
            if outcome == "crashed" and not error.started:  # its worker was leaving when it was granted
                self.leases_lost += 1
                return
            if outcome != "ok":
                self.blame(f"the first call of lease {number} was to be ok and is {outcome}: {error!r}"[:500])
                return
            self._begun += 1
            if crashes:
                self.crashes += 1
                await self._expect(number, "crashed", worker.run(soak_worker.crash, number))
            else:
                await self._expect(number, "ok", worker.run(soak_worker.kept), number)

    async def _expect(self, number: int, expected: str, call: Awaitable[Any], answer: Any = None) -> None:
        outcome, what = await outcome_of(call)
        self._count(outcome)
        if outcome != expected:
            self.blame(f"call {number} was to be {expected} and is {outcome}: {what!r}"[:500])
        elif outcome == "ok" and what != answer:
            self.blame(f"call {number} was answered {what!r} instead of {answer!r}"[:500])
        elif outcome == "failed" and (not isinstance(what, ValueError) or what.args != (number,)):
            self.blame(f"call {number} raised {what!r}, which is not its own error"[:500])

    def _count(self, outcome: str) -> None:
        self.outcomes[outcome] += 1
        self._done += 1
        if self._done % max(1, self.calls // SAMPLES) == 0:
            self._sample()
        if self._done % self._part == 0:
            self._waking = asyncio.ensure_future(self._wake())  # kept, or it may be collected

    async def _wake(self) -> None:
        async with self._step:
            self._step.notify_all()

    # --- looking -----------------------------------------------------------------------------------------------------

    def blame(self, what: str) -> None:
        """Note a fault."""
        self.faults += 1
        if len(self.wrong) < MOST_WRONG:
            self.wrong.append(what)

    def _sample(self) -> None:
        now = time.perf_counter()
        rate = (self._done - self._sampled_done) / (now - self._sampled_at)
        self._sampled_at, self._sampled_done = now, self._done
        self.samples.append(
            {"done": self._done, "per_second": rate, **surroundings(), "tasks": len(asyncio.all_tasks())}
        )
        self._look_at_stats()
        say({"done": self._done})

    def _look_at_stats(self, *, settled: bool = False) -> None:
        """The pool's numbers add up at any moment."""
        stats = self.pool.stats()
        present = stats.starting + stats.idle + stats.busy + stats.retiring
        if stats.spawned != sum(stats.exited.values()) + present:
            self.blame(f"{stats.spawned} spawned, {sum(stats.exited.values())} exited, {present} present: {stats}")
        if present > LARGEST + 1:
            self.blame(f"{present} workers, where at most {LARGEST} + 1 may be")
        if any(worker.calls > MAX_CALLS + 1 for worker in self.pool.workers()):  # a lease of two calls may be the last
            self.blame(f"a worker was handed more than max_calls of {MAX_CALLS}: {self.pool.workers()}")
        waiting = stats.submitted - sum(stats.outcomes.values()) - stats.running
        if not stats.waiting - self._leases_asked <= waiting <= stats.waiting:
            self.blame(f"{stats.submitted} calls were submitted, of which {waiting} are neither done nor run: {stats}")
        if settled and (stats.waiting or stats.running):
            self.blame(f"all calls are done, and the pool has {stats.waiting} waiting and {stats.running} running")

    def _look_at_the_end(self, stats: asyncpool.PoolStats, before: dict[str, float]) -> None:
        """Hold the closed pool's numbers against ours, and look for what is left."""
        submitted, theirs, ours = sum(stats.outcomes.values()), stats.outcomes, self.outcomes
        self._must_be("submitted", stats.submitted, self._done)
        self._must_be("sum of the outcomes", submitted, self._done)
        for outcome in ("failed", "timed_out", "crashed", "not_started", "acquire_timed_out", "rejected", "closed"):
            self._must_be(f"outcome {outcome}", theirs.get(outcome, 0), ours[outcome])  # type: ignore[call-overload]
        # A caller may be cancelled just after the reply has come: ok for the pool, cancelled for the caller.
        together = theirs.get("ok", 0) + theirs.get("cancelled", 0)
        self._must_be("outcomes ok and cancelled", together, ours["ok"] + ours["cancelled"])
        if theirs.get("cancelled", 0) > ours["cancelled"]:
            self.blame(f"{theirs['cancelled']} calls count as cancelled, where {ours['cancelled']} callers were")
        self._must_be("workers exited", sum(stats.exited.values()), stats.spawned)
        # One that leaves with a lease's call unread counts as crashed.
        self._must_be("workers crashed", stats.exited.get("crashed", 0), self.crashes + self.leases_lost)
        if self.leases_lost > self.kinds["leave"]:
            self.blame(f"{self.leases_lost} leases lost their worker, where {self.kinds['leave']} workers left")
        self._must_be("workers stopped by timeout", stats.exited.get("timed_out", 0), ours["timed_out"])
        for cause in ("protocol", "unhealthy", "start_failed", "released"):
            self._must_be(f"workers that ended as {cause}", stats.exited.get(cause, 0), 0)
        let_threads_end()
        after = surroundings()
        for what in ("descriptors", "threads", "processes"):
            self._must_be(f"{what} after the end", int(after[what]), int(before[what]))
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            self.blame(f"tasks were left: {left}")

    def _must_be(self, what: str, seen: int, expected: int) -> None:
        if seen != expected:
            self.blame(f"{what}: {seen:,} instead of {expected:,}")


async def outcome_of(call: Awaitable[Any]) -> tuple[str, Any]:
    """Await a call; returns the name of its outcome, with its result or error."""
    try:
        return "ok", await call
    except asyncpool.CommandTimeout as error:
        return "timed_out", error
    except asyncpool.WorkerStartError as error:
        return "not_started", error
    except asyncpool.WorkerError as error:
        return "crashed", error
    except asyncpool.CommandError as error:
        return "failed", error
    except asyncpool.PoolClosed as error:
        return "closed", error
    except asyncpool.PoolFull as error:
        return "rejected", error
    except asyncpool.AcquireTimeout as error:
        return "acquire_timed_out", error


def let_threads_end() -> None:
    """asyncio of 3.11 has a thread for each child, which ends a moment after it."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(1.0)


def surroundings() -> dict[str, float]:
    """What this process uses: memory in bytes, descriptors, threads, child processes (zombies too)."""
    children = 0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it ended meanwhile
            children += len((thread / "children").read_text().split())
    return {
        "rss": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "processes": children,
    }


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


async def soak(calls: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        say({"result": await Load(calls, seed, folder).run()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), required=True)
    chosen = parser.parse_args()
    harness.run(lambda: soak(chosen.calls, chosen.seed), chosen.loop)


if __name__ == "__main__":
    main()
