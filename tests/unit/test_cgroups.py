"""The folders of control groups, under a fake root."""

from pathlib import Path

import pytest

from asyncpool.pool.cgroups import groups


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def found(root: Path, *lines: str, controller: str = "memory") -> list[tuple[int, str]]:
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))
    return [(version, str(group.relative_to(root / "sys/fs/cgroup"))) for version, group in groups(controller, root)]


def test_the_group_comes_before_those_above_it(root: Path) -> None:
    """Up to the top, and not beyond."""
    (root / "sys/fs/cgroup/slice/app").mkdir(parents=True)
    assert found(root, "0::/slice/app") == [(2, "slice/app"), (2, "slice"), (2, ".")]


def test_version_1_has_a_tree_for_each_controller(root: Path) -> None:
    """Only the one that is asked for is walked; another of a like name is not it."""
    (root / "sys/fs/cgroup/cpu/app").mkdir(parents=True)
    (root / "sys/fs/cgroup/cpuset/app").mkdir(parents=True)
    lines = ("3:cpuset:/app", "2:cpuacct,cpu:/app", "1:name=systemd:/app")
    assert found(root, *lines, controller="cpu") == [(1, "cpu/app"), (1, "cpu")]


def test_both_versions_at_once_are_walked(root: Path) -> None:
    """On a hybrid system a controller is in either tree."""
    (root / "sys/fs/cgroup/memory/app").mkdir(parents=True)
    assert found(root, "4:memory:/app", "0::/") == [(1, "memory/app"), (1, "memory"), (2, ".")]


def test_in_a_container_the_group_is_mounted_at_the_top(root: Path) -> None:
    """The path is the host's, and no folder here."""
    assert found(root, "0::/docker/0123456789abcdef") == [(2, ".")]


def test_a_group_outside_of_the_mount_is_not_followed(root: Path) -> None:
    """A path with ``..`` in it leads no higher than the top."""
    assert {group for _, group in found(root, "0::/../other")} <= {"."}


def test_without_control_groups_there_are_none(tmp_path: Path) -> None:
    """macOS has no /proc."""
    assert list(groups("cpu", tmp_path)) == []
