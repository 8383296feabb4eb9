"""What a command forks is a process of its own: it can do what it could elsewhere, and ends where its code does."""

import functools
import os
from pathlib import Path

import pytest

from asyncpool import Pool
from tests.support import forking


async def test_a_forked_process_may_fork_in_its_turn(tmp_path: Path) -> None:
    """Nothing of its own is closed under it."""
    async with Pool(forking, config=str(tmp_path / "left"), max_size=1, stderr="discard") as pool:
        found = await pool.options(timeout=20).run(forking.nested, str(tmp_path / "trace"))
        assert found == (0, "inner\nheard\n")


@pytest.mark.parametrize("command", [forking.come_back, forking.come_back_later])
@pytest.mark.parametrize(("how", "code"), [("return", 0), ("exit", 7), ("raise", 1)])
async def test_one_that_comes_back_from_its_command_ends_there(
    tmp_path: Path, command: object, how: str, code: int
) -> None:
    """With a code of its own; the worker leaves its lifespans alone, once."""
    left = tmp_path / "left"
    async with Pool(forking, config=str(left), max_size=1, stderr="discard") as pool:
        pid = await pool.run(os.getpid)
        assert await pool.options(timeout=20).run(command, how) == code
        assert await pool.run(os.getpid) == pid
        assert not left.exists()
    assert left.read_text() == f"{pid}\n"


async def test_one_that_comes_back_within_a_chunk_does_not_go_on_with_it(tmp_path: Path) -> None:
    """Each item is run once, by the worker."""
    command = functools.partial(forking.fork_at, str(tmp_path / "trace"))
    async with (
        Pool(forking, config=str(tmp_path / "left"), max_size=1, stderr="discard") as pool,
        pool.map(command, range(4), chunk=4) as done,
    ):
        assert [each async for each in done] == [0, 1, 2, 3]
    assert (tmp_path / "trace").read_text().split() == ["0", "1", "2", "3"]


async def test_one_that_has_closed_its_output_ends_all_the_same(tmp_path: Path) -> None:
    """Nothing of the worker's end is run in it."""
    left = tmp_path / "left"
    async with Pool(forking, config=str(left), max_size=1, stderr="discard") as pool:
        assert await pool.options(timeout=20).run(forking.come_back, "close") == 0
        assert not left.exists()
