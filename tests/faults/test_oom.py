"""A worker that is killed, but not by the pool: by the kernel for want of memory, or by hand."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from asyncpool import Pool, WorkerCrashed
from asyncpool.pool import worker as pool_worker
from asyncpool.pool.oom import OomWatch
from tests.conftest import Gate
from tests.support import commands
from tests.support.waiting import eventually


async def killed_by_hand(pool: Pool, gate: Gate, *, first: bool = True) -> WorkerCrashed:
    """Let a worker be killed in the middle of a call."""
    call = asyncio.create_task(pool.run("wait_at", gate.path))
    pids = await eventually(lambda: len(gate.reached()) == (1 if first else 2) and gate.reached())
    os.kill((pids or [])[-1], signal.SIGKILL)
    with pytest.raises(WorkerCrashed) as caught:
        await call
    assert caught.value.signal == signal.SIGKILL
    return caught.value


async def test_a_kill_by_hand_is_not_laid_to_the_kernel(gate: Gate) -> None:
    """Where no kill is counted nothing is claimed, and both possibilities are named."""
    async with Pool(commands, max_size=1, stderr="discard") as pool:
        error = await killed_by_hand(pool, gate)
        assert "(not by this pool: perhaps by the OOM killer, or by hand) while it ran wait_at" in str(error)


async def test_a_kill_by_the_kernel_is_told(gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control group counts one more; the next death, without one, is not laid to it."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    folder = tmp_path / "sys/fs/cgroup"
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{512 * 2**20}\n")
    (folder / "memory.events").write_text("oom_kill 2\n")
    monkeypatch.setattr(pool_worker, "OomWatch", lambda: OomWatch(tmp_path))
    async with Pool(commands, min_size=2, max_size=2, stderr="discard") as pool:
        (folder / "memory.events").write_text("oom_kill 3\n")
        error = await killed_by_hand(pool, gate)
        assert "counts 1 more OOM kill, so the kernel was out of memory, its limit is 512 MiB" in str(error)
        assert "OOM kill," not in str(await killed_by_hand(pool, gate, first=False))
