"""A peer that takes part: its process, what was measured of it, and why not when it was not.

Law 1: a peer that is not there, fails or hangs is told as such; it neither ends the run nor is dropped from it.
Law 2: nothing that a peer started in its process group outlives `close`.
Law 3: while one makes calls, all others are stopped, but for workers with a session of their own, which sleep: some
       look around all the time, and each look would wake a processor that the one which is measured wants.
Law 4: the first round does not count: by then every worker is started and warm.
"""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any

from harness import HERE, Batch, Summary, ratios, summarize
from peers import WORKERS, Peer

NODE = HERE / "node"
START = 60.0  # s that a peer may take until its first answer is there
GRACE = 60.0  # s that a batch may take beyond its own limit
END = 10.0  # s to end
EXPECTED = 8  # trivial(7)

Round = Mapping[Hashable, Mapping[str, Any]]  # the batches of one round by their keys: what `make` is given


def command(peer: Peer, loop: str, *name: str) -> list[str]:
    """What opens a peer in a process of its own, and lets it make calls; of trivial, or of a command of this name."""
    if peer.kind == "node":
        return ["node", str(NODE / "driver.js"), peer.target, str(WORKERS)]
    return [sys.executable, str(HERE / "driver.py"), peer.target, loop, *name]


class Driver:
    """A process that makes calls when it is asked to. Its stderr is kept for the case that it fails."""

    def __init__(self, command: Sequence[str]) -> None:
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
                start_new_session=True,
            )
        except BaseException:
            self._stderr.close()
            raise

    def pause(self) -> None:
        """Stop it and its group until it is asked or closed."""
        self._signal(signal.SIGSTOP)

    def ask(self, **what: Any) -> None:
        self._signal(signal.SIGCONT)
        try:
            print(json.dumps(what), file=_there(self._process.stdin), flush=True)
        except BrokenPipeError:
            pass  # it has ended; `said` tells why

    def said(self, limit: float) -> dict[str, Any]:
        """Its next answer; one with `failed` or `missing` when there is none."""
        with self._killed_after(limit) as killed:
            line = _there(self._process.stdout).readline()
        if killed:
            return {"failed": f"hangs: no answer within {limit:g} s"}
        answer: dict[str, Any] = json.loads(line) if line else {"failed": f"has ended: {self._last_words()}"}
        return answer

    def close(self, limit: float) -> bool:
        """Let it end, and whatever it started with it; says whether it did so by itself within *limit* seconds."""
        self._signal(signal.SIGCONT)
        with self._killed_after(limit) as killed:
            try:
                _there(self._process.stdin).close()
            except BrokenPipeError:
                pass
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._signal(signal.SIGKILL)  # not reaped yet, so the number of the group is still its own
        self._process.wait()
        _there(self._process.stdout).close()
        self._stderr.close()
        return not killed

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = [line.strip() for line in self._stderr.read().splitlines() if line.strip()]
        return lines[-1] if lines else "it said nothing"

    @contextmanager
    def _killed_after(self, limit: float) -> Iterator[list[bool]]:
        """Gives a list that is not empty once the time was up."""
        killed: list[bool] = []

        def up() -> None:
            killed.append(True)
            self._signal(signal.SIGKILL)

        timer = threading.Timer(limit, up)
        timer.start()
        try:
            yield killed
        finally:
            timer.cancel()
            timer.join()

    def _signal(self, number: int) -> None:
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass


def _there(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@dataclass
class Contender:
    """A peer, its batches by their keys, and a remark when something went wrong."""

    peer: Peer
    command: Sequence[str]
    batches: dict[Hashable, list[Batch]] = field(default_factory=dict)
    remark: str = ""
    driver: Driver | None = None

    @property
    def name(self) -> str:
        return self.peer.name

    @property
    def measured(self) -> bool:
        """Are there figures of every round?"""
        return bool(self.batches) and not self.remark.startswith(("failed", "not measured"))

    def start(self) -> None:
        """Start it; others may be started before it is ready."""
        try:
            self.driver = Driver(self.command)
        except FileNotFoundError:
            self.remark = f"not measured: {self.command[0]} is not installed"

    def ready(self, limit: float = START) -> None:
        """Await its first answer."""
        answer = self._answer(limit) if self.driver else None
        if self.driver is not None:
            self.driver.pause()
        if answer and answer["ready"] not in (EXPECTED, None):
            self.remark = f"failed: trivial(7) is {answer['ready']!r}"

    def make(self, count: int, at_a_time: int, seconds: float, grace: float = GRACE, **more: Any) -> Batch | None:
        """Let it make a batch of calls, *more* as in values.py; nothing when it fails, or failed before."""
        if self.remark or self.driver is None:
            return None
        self.driver.ask(count=count, at_a_time=at_a_time, seconds=seconds, **more)
        answer = self._answer(seconds + grace)
        self.driver.pause()
        return Batch(**answer) if answer else None

    def close(self, limit: float = END) -> None:
        """Let it end; kill it when it does not."""
        if self.driver is not None and not self.driver.close(limit) and not self.remark:
            self.remark = f"does not end: killed after {limit:g} s"
        self.driver = None

    def _answer(self, limit: float) -> dict[str, Any] | None:
        assert self.driver is not None
        answer = self.driver.said(limit)
        if "missing" in answer:
            self.remark = f"not measured: {answer['missing']}"
        elif "failed" in answer:
            self.remark = f"failed: {answer['failed']}"
        return None if self.remark else answer

    # What the tables say of it.

    def summary(self, key: Hashable) -> Summary | None:
        """All its rounds; None when it was not measured."""
        return summarize(self.batches[key]) if self.measured and key in self.batches else None

    def p50_ratios(self, other: "Contender", key: Hashable = 1) -> list[float]:
        """How many times the other's p50 this one's is, of each round; none when either was not measured."""
        return self._ratios(other, key, lambda batch: batch.p50)

    def rate_ratios(self, other: "Contender", key: Hashable) -> list[float]:
        """How many times as many calls a second as the other this one makes, of each round."""
        return self._ratios(other, key, lambda batch: batch.per_second)

    def _ratios(self, other: "Contender", key: Hashable, figure: Callable[[Batch], float]) -> list[float]:
        if self.summary(key) is None or other.summary(key) is None:
            return []
        return ratios(*([figure(batch) for batch in each.batches[key]] for each in (self, other)))


def middle(ratios: Sequence[float]) -> float | None:
    """Their median, if there are any."""
    return statistics.median(ratios) if ratios else None


def told(ratios: Sequence[float], digits: int = 2) -> str:
    """Their median, with the least and the greatest of them; nothing when there are none."""
    if not ratios:
        return ""

    def short(ratio: float, digits: int) -> str:
        return f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.{digits}f}" if ratio >= 0.1 else f"{ratio:.{digits - 1}g}"

    return f"{short(statistics.median(ratios), digits)} x [{short(min(ratios), 2)}, {short(max(ratios), 2)}]"


def remarks(contenders: Sequence[Contender]) -> list[str]:
    """What went wrong, by name."""
    return [f"{each.name}: {each.remark}" for each in contenders if each.remark]


@contextmanager
def opened(contenders: Sequence[Contender]) -> Iterator[None]:
    """Start all and await that they are ready; at the end none is left."""
    try:
        for each in contenders:
            each.start()
        for each in contenders:
            each.ready()
        yield
    finally:
        for each in contenders:
            each.close()


def steps(contenders: Sequence[Contender], count: int, of: Callable[[Peer], Round]) -> int:
    """How many times `rounds` will advance."""
    return (1 + count) * sum(len(of(each.peer)) for each in contenders)


def rounds(
    contenders: Sequence[Contender], count: int, of: Callable[[Peer], Round], advance: Callable[[], None]
) -> None:
    """Fill in the batches of so many rounds, each of which has for a peer what *of* gives.

    The contenders take turns, in another order in each round: none runs always after the same one.
    """
    order = random.Random(1)
    for number in range(1 + count):
        for each in order.sample(contenders, len(contenders)):
            for key, asked in of(each.peer).items():
                batch = each.make(**asked)
                if batch and number:  # law 4
                    each.batches.setdefault(key, []).append(batch)
                advance()
