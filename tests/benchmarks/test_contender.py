"""A contender of the benchmarks that misbehaves is told as such, and nothing of it is left."""

import sys
from pathlib import Path

import pytest

from tests.support.processes import alive
from tests.support.waiting import eventually_now

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from contender import Contender
from peers import Peer

READY = "import sys, time, json; print('{\"ready\": 8}', flush=True); "
BATCH = 'sys.stdin.readline(); print(\'{"latencies": [1.0], "elapsed": 1.0}\', flush=True); '
LIMIT = 0.3  # s; for what hangs
PATIENCE = 20  # s; for what does not


def contender(code: str) -> Contender:
    """Return one whose process runs *code* in the place of a driver."""
    return Contender(Peer("x", "x", "python"), [sys.executable, "-I", "-S", "-c", code])


def test_one_that_behaves_has_a_batch_and_no_remark() -> None:
    """The other tests could not fail if this one did."""
    one = contender(READY + BATCH + "sys.stdin.read()")
    one.start()
    one.ready(PATIENCE)
    batch = one.make(1, 1, seconds=0, grace=PATIENCE)
    one.close(limit=PATIENCE)
    assert batch is not None
    assert (batch.latencies, batch.elapsed, one.remark) == ([1.0], 1.0, "")


@pytest.mark.parametrize(
    ("code", "remark"),
    [
        ("import time; time.sleep(60)", "failed: hangs: no answer within 0.3 s"),
        ("print('{\"ready\": 9}', flush=True); input()", "failed: trivial(7) is 9"),
    ],
    ids=["hangs", "wrong"],
)
def test_one_that_hangs_or_is_wrong_at_its_start_is_not_measured(code: str, remark: str) -> None:
    """It gets its limit, no more, and makes no batch."""
    one = contender(code)
    one.start()
    one.ready(LIMIT if "hangs" in remark else PATIENCE)
    assert one.make(1, 1, seconds=0) is None
    one.close(limit=PATIENCE)
    assert one.remark == remark
    assert not one.measured


def test_one_that_hangs_in_a_batch_is_killed() -> None:
    """Its remark says how long it was waited for."""
    one = contender(READY + "time.sleep(60)")
    one.start()
    one.ready(PATIENCE)
    assert one.make(1, 1, seconds=0, grace=LIMIT) is None
    assert one.remark == "failed: hangs: no answer within 0.3 s"
    one.close(limit=PATIENCE)


def test_one_that_dies_in_a_batch_tells_its_last_words() -> None:
    """The last line of its stderr is the reason."""
    one = contender(READY + "sys.stdin.readline(); sys.exit('no more')")
    one.start()
    one.ready(PATIENCE)
    assert one.make(1, 1, seconds=0, grace=PATIENCE) is None
    assert one.remark == "failed: has ended: no more"
    one.close(limit=PATIENCE)


def test_one_that_does_not_end_is_killed_with_what_it_started(tmp_path: Path) -> None:
    """A peer's workers do not run beside whoever is measured next."""
    child = tmp_path / "child"
    start = f"import subprocess; open({str(child)!r}, 'w').write(str(subprocess.Popen(['sleep', '60']).pid)); "
    one = contender(start + READY + BATCH + "time.sleep(60)")
    one.start()
    one.ready(PATIENCE)
    batch = one.make(1, 1, seconds=0, grace=PATIENCE)
    assert batch is not None
    one.batches[1] = [batch]
    one.close(limit=LIMIT)
    assert one.remark == "does not end: killed after 0.3 s"
    assert one.measured  # what it did until then counts
    # Killed, which is not yet dead; and an orphan may await its reaper.
    assert eventually_now(lambda: not alive(int(child.read_text())))


def test_a_program_that_is_not_installed_is_told() -> None:
    """Node, for example."""
    one = Contender(Peer("x", "x", "node"), ["no-such-program"])
    one.start()
    one.ready()
    assert one.make(1, 1, seconds=0) is None
    one.close()
    assert one.remark == "not measured: no-such-program is not installed"
