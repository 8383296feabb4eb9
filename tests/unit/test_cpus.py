"""Usable processors, from the files of control groups under a fake root."""

import os
from pathlib import Path

import pytest

from asyncpool.pool.cpus import usable_cpus

MANY = 64


@pytest.fixture(autouse=True)
def _a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have 64 processors, and this process all of them."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(MANY)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)


class Root:
    """A fake file system."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_text(text)

    def groups(self, *lines: str) -> None:
        self.write("proc/self/cgroup", "".join(f"{line}\n" for line in lines))


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def v1(root: Root, group: str, quota: int, period: int = 100_000) -> None:
    root.write(f"sys/fs/cgroup/cpu/{group}/cpu.cfs_quota_us", f"{quota}\n")
    root.write(f"sys/fs/cgroup/cpu/{group}/cpu.cfs_period_us", f"{period}\n")


def test_without_control_groups_the_affinity_counts(root: Root, monkeypatch: pytest.MonkeyPatch):
    """taskset and the like restrict a process; without them it has the machine's processors."""
    assert usable_cpus(root.path) == MANY
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert usable_cpus(root.path) == 2


def test_where_there_is_no_affinity_the_machine_counts(root: Root, monkeypatch: pytest.MonkeyPatch):
    """macOS has no affinity; and where nothing is known, there is one processor."""
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cpus(root.path) == 128
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus(root.path) == 1


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("1 100000", 1), ("max 100000", MANY)],
)
def test_a_quota_of_version_2_counts(root: Root, quota: str, expected: int):
    """``cpu.max`` holds quota and period; part of a processor counts as one, ``max`` is no limit."""
    root.groups("0::/app")
    root.write("sys/fs/cgroup/app/cpu.max", quota)
    assert expected == usable_cpus(root.path)


def test_the_tightest_group_of_a_nest_counts(root: Root):
    """A group is bound by the quotas of all groups above it."""
    root.groups("0::/slice/app/inner")
    root.write("sys/fs/cgroup/slice/cpu.max", "300000 100000")
    root.write("sys/fs/cgroup/slice/app/cpu.max", "max 100000")
    root.write("sys/fs/cgroup/slice/app/inner/cpu.max", "800000 100000")
    assert usable_cpus(root.path) == 3


def test_the_affinity_and_a_quota_both_count(root: Root, monkeypatch: pytest.MonkeyPatch):
    """The lesser of them is what can be used."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    root.groups("0::/app")
    root.write("sys/fs/cgroup/app/cpu.max", "800000 100000")
    assert usable_cpus(root.path) == 2


def test_in_a_container_the_group_is_mounted_at_the_top(root: Root):
    """There the path is the host's, or /: the container's own group is what is mounted."""
    root.write("sys/fs/cgroup/cpu.max", "250000 100000")
    root.groups("0::/docker/0123456789abcdef")
    assert usable_cpus(root.path) == 3
    root.groups("0::/")
    assert usable_cpus(root.path) == 3


def test_a_quota_of_version_1_counts(root: Root):
    """Version 1 has two files, and -1 for no limit."""
    root.groups("4:memory:/app", "3:cpu,cpuacct:/app", "1:name=systemd:/app")
    v1(root, "app", 250_000)
    assert usable_cpus(root.path) == 3
    v1(root, "app", -1)
    assert usable_cpus(root.path) == MANY


def test_a_nest_of_version_1_counts(root: Root):
    """There, too, the tightest counts."""
    root.groups("3:cpu:/slice/app")
    v1(root, "slice", 150_000)
    v1(root, "slice/app", 900_000)
    assert usable_cpus(root.path) == 2


def test_a_container_of_version_1_counts(root: Root):
    """The path is the host's, the files are at the top."""
    root.groups("3:cpuacct,cpu:/docker/0123456789abcdef")
    v1(root, "", 400_000)
    assert usable_cpus(root.path) == 4


def test_both_versions_at_once_count(root: Root):
    """On a hybrid system both trees are looked at."""
    root.groups("3:cpu:/app", "0::/app")
    v1(root, "app", 500_000)
    root.write("sys/fs/cgroup/app/cpu.max", "200000 100000")
    assert usable_cpus(root.path) == 2


@pytest.mark.parametrize("text", ["", "nonsense", "1", "100000 0", "a b", "100000 100000 100000"])
def test_what_cannot_be_read_is_no_limit(root: Root, text: str):
    """A file that is not as expected must not keep a pool from starting."""
    root.groups("0::/app")
    root.write("sys/fs/cgroup/app/cpu.max", text)
    assert usable_cpus(root.path) == MANY


def test_a_group_outside_of_the_mount_is_not_followed(root: Root):
    """A process that was moved out of its container's view has a path with ``..`` in it."""
    root.write("sys/fs/cgroup/cpu.max", "200000 100000")
    root.write("cpu.max", "100000 100000")
    root.groups("0::/../other")
    assert usable_cpus(root.path) in (2, MANY)


def test_this_machine_has_processors():
    """On the real file system there is at least one."""
    assert usable_cpus() >= 1
