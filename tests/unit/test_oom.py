"""Kills for want of memory, from the files of control groups under a fake root."""

from pathlib import Path

import pytest

from asyncpool.pool.oom import OomKills, OomWatch

MIB = 2**20


class Root:
    """A fake file system with one control group of a version."""

    def __init__(self, path: Path, version: int, group: str = "app") -> None:
        self.path = path
        self.version = version
        self.group = group
        self.write("proc/self/cgroup", f"0::/{group}\n" if version == 2 else f"4:memory:/{group}\n0::/\n")

    def write(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text)

    def kills(self, count: int, group: str | None = None) -> None:
        group = self.group if group is None else group
        if self.version == 2:
            self.write(f"sys/fs/cgroup/{group}/memory.events", f"low 0\nhigh 7\nmax 9\noom 3\noom_kill {count}\n")
        else:
            text = f"oom_kill_disable 0\nunder_oom 0\noom_kill {count}\n"
            self.write(f"sys/fs/cgroup/memory/{group}/memory.oom_control", text)

    def limit(self, text: str, group: str | None = None) -> None:
        group = self.group if group is None else group
        name = f"{group}/memory.max" if self.version == 2 else f"memory/{group}/memory.limit_in_bytes"
        self.write(f"sys/fs/cgroup/{name}", f"{text}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_a_kill_since_the_start_explains_a_death(tmp_path: Path, version: int) -> None:
    """Earlier ones do not; the limit is told along."""
    root = Root(tmp_path, version)
    root.kills(5)
    root.limit(str(512 * MIB))
    watch = OomWatch(tmp_path)
    assert watch.claim() is None
    root.kills(6)
    assert watch.claim() == OomKills(1, 512 * MIB)


@pytest.mark.parametrize("version", [1, 2])
def test_each_kill_explains_one_death(tmp_path: Path, version: int) -> None:
    """A worker that is killed by hand later is not taken for a second victim."""
    root = Root(tmp_path, version)
    root.kills(0)
    victims = [OomWatch(tmp_path) for _ in range(3)]
    root.kills(2)
    assert victims[0].claim() == OomKills(2, None)
    assert victims[1].claim() == OomKills(1, None)
    assert victims[2].claim() is None
    younger = OomWatch(tmp_path)
    root.kills(3)
    assert younger.claim() == OomKills(1, None)


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_limit_of_a_nest_is_told(tmp_path: Path, version: int) -> None:
    """The group's own is not the one that was hit when one above it is lower; no limit is none."""
    root = Root(tmp_path, version, "slice/app")
    root.kills(0)
    watch = OomWatch(tmp_path)
    root.limit("max" if version == 2 else "9223372036854771712")
    root.kills(1)
    assert watch.claim() == OomKills(1, None)
    root.limit(str(64 * MIB), "slice")
    root.limit(str(900 * MIB), "")
    root.kills(2)
    assert watch.claim() == OomKills(1, 64 * MIB)


def test_kills_of_other_groups_do_not_count(tmp_path: Path) -> None:
    """Version 2 counts those of all groups below as well: only the own group's number is looked at."""
    root = Root(tmp_path, 2, "slice/app")
    root.kills(0)
    root.kills(0, "slice")
    watch = OomWatch(tmp_path)
    root.kills(4, "slice")
    assert watch.claim() is None


def test_a_group_without_the_controller_is_counted_by_the_one_above(tmp_path: Path) -> None:
    """There the memory of both is one."""
    root = Root(tmp_path, 2, "slice/app")
    (tmp_path / "sys/fs/cgroup/slice/app").mkdir(parents=True)
    root.kills(0, "slice")
    watch = OomWatch(tmp_path)
    root.kills(1, "slice")
    assert watch.claim() == OomKills(1, None)


@pytest.mark.parametrize("text", ["", "nonsense\n", "oom_kill x\n", "oom 3\n", "oom_kill\n"])
def test_what_cannot_be_read_explains_nothing(tmp_path: Path, text: str) -> None:
    """A file that is not as expected, or none at all, keeps no worker from starting or ending."""
    assert OomWatch(tmp_path).claim() is None
    root = Root(tmp_path, 2)
    root.write("sys/fs/cgroup/app/memory.events", text)
    watch = OomWatch(tmp_path)
    root.kills(1)
    assert watch.claim() is None


def test_a_file_that_is_gone_at_the_end_explains_nothing(tmp_path: Path) -> None:
    """The process was moved to another group meanwhile."""
    root = Root(tmp_path, 2)
    root.kills(1)
    watch = OomWatch(tmp_path)
    (tmp_path / "sys/fs/cgroup/app/memory.events").unlink()
    assert watch.claim() is None


def test_this_machine_can_be_watched() -> None:
    """On the real file system nothing raises, and nothing was killed since."""
    assert OomWatch().claim() is None
