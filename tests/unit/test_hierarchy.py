"""Where control groups are made: version 2 in a tree of plain files, since no test owns a real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rota.adapters.process import hierarchy, lender
from rota.adapters.process.cgroup import Cgroup, Used
from rota.adapters.process.hierarchy import (
    HierarchyV1,
    HierarchyV2,
    find_hierarchy,
    parse_mounts,
    parse_own,
)
from rota.adapters.process.lender import Lender
from rota.core.resources import Resources
from rota.errors import ExecutionError

MIB = 1 << 20
#: Of a hybrid machine, a pure one, and a container with a space in its path.
HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
PURE = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
BOXED = r"30 23 0:26 /box/a\040b /sys/fs/cgroup ro - cgroup2 cgroup rw" + "\n"


def test_mounts_are_read() -> None:
    found = list(parse_mounts(HYBRID))
    assert [(it.point, it.kind, it.controllers) for it in found] == [
        ("/sys/fs/cgroup/cpu,cpuacct", "cgroup", {"rw", "cpu", "cpuacct"}),
        ("/sys/fs/cgroup/memory", "cgroup", {"rw", "memory"}),
        ("/sys/fs/cgroup/unified", "cgroup2", frozenset()),
    ]
    assert next(parse_mounts(BOXED)).root == "/box/a b"
    assert list(parse_mounts("nonsense\n\n - \n1 2 3 - cgroup\n")) == []


def test_ones_own_groups_are_read() -> None:
    own = parse_own("4:memory:/a:b\n1:cpu,cpuacct:/\n0::/user.slice\nnonsense\n")
    assert own["memory"] == "/a:b"
    assert own["cpu"] == own["cpuacct"] == "/"
    assert own[""] == "/user.slice"


class Tree:
    """A tree of version 2, as far as files of a disk can be one."""

    def __init__(self, root: Path, own: str = "box") -> None:
        self.root, self.own = root, root / own
        self.proc = root.parent / "proc"
        self.proc.mkdir()
        self.group(self.own, controllers="cpu io memory pids", procs="11\n12\n")
        (self.proc / "mountinfo").write_text(PURE.replace("/sys/fs/cgroup", str(root)))
        (self.proc / "cgroup").write_text(f"0::/{own}\n")

    def group(self, folder: Path, *, controllers: str = "", procs: str = "") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in {
            "cgroup.controllers": controllers,
            "cgroup.subtree_control": "",
            "cgroup.type": "domain",
            "cgroup.procs": procs,
        }.items():
            (folder / name).write_text(text)
        return folder

    def made(self, name: str) -> Path:
        """Make a group's folder as the kernel would fill it, before it is asked for."""
        folder = self.group(self.own / name)
        for file in ("memory.max", "memory.swap.max", "pids.max", "cpu.max"):
            (folder / file).write_text("max")
        return folder


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setattr(hierarchy, "find_lender", lambda owner, root, own: None)
    return Tree(tmp_path / "cgroup")


def test_version_2_is_found_with_what_it_can_limit(tree: Tree) -> None:
    found = find_hierarchy("a", proc=tree.proc)
    assert isinstance(found, HierarchyV2)
    assert found.limits == {"cpus", "memory", "pids"}


def test_a_tree_without_controllers_is_none(tree: Tree) -> None:
    (tree.own / "cgroup.controllers").write_text("io")
    assert find_hierarchy("a", proc=tree.proc) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_tree_of_somebody_else_is_none(tree: Tree) -> None:
    tree.own.chmod(0o500)
    assert find_hierarchy("a", proc=tree.proc) is None


def test_limits_of_version_2_are_written(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tree.made("rota-a-b.1")
    monkeypatch.setattr(Path, "mkdir", _mkdir_of_the_kernel(made))
    (tree.own / "rota-agent").mkdir()
    (tree.own / "rota-agent" / "cgroup.procs").write_text("")
    found = HierarchyV2("a", tree.own, lender=None)
    cgroup = found.make("b.1", Resources(cpus=1.5, memory_bytes=64 * MIB, pids=9))
    assert cgroup.folders == (str(made),)
    assert (made / "memory.max").read_text() == str(64 * MIB)
    assert (made / "memory.swap.max").read_text().startswith("0")
    assert (made / "pids.max").read_text().startswith("9")
    assert (made / "cpu.max").read_text() == "150000 100000"
    assert (tree.own / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    # An inner group holds no process: those that were in it are in a leaf of it.
    assert (tree.own / "rota-agent" / "cgroup.procs").read_text() in ("12", "11")


def test_an_agent_that_moved_itself_finds_its_place_again(tree: Tree) -> None:
    leaf = tree.group(tree.own / "rota-agent")
    assert HierarchyV2("a", leaf, lender=None)._own == tree.own


def _mkdir_of_the_kernel(made: Path) -> object:
    real = Path.mkdir

    def mkdir(self: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        if self != made:
            real(self, mode, parents, exist_ok)

    return mkdir


def test_a_limit_that_the_kernel_refuses_leaves_no_group(tree: Tree) -> None:
    # On a disk nobody fills a new folder with files, so that each limit is refused.
    (tree.own / "cgroup.subtree_control").write_text("cpu memory pids")
    found = HierarchyV2("a", tree.own, lender=None)
    with pytest.raises(ExecutionError) as caught:
        found.make("b.1", Resources(pids=9))
    assert str(caught.value) == (
        f"cannot set {tree.own}/rota-a-b.1/pids.max to 9: No such file or directory"
    )
    assert list(found.left()) == []


def test_version_1_of_which_not_all_is_there_says_what_it_cannot(tmp_path: Path) -> None:
    found = HierarchyV1("a", {"memory": str(tmp_path)})
    assert found.limits == {"memory"}
    with pytest.raises(ExecutionError) as caught:
        found.make("b.1", Resources(cpus=1, memory_bytes=MIB))
    assert str(caught.value) == (
        "this agent cannot limit cpus: it has no control group of its own for that"
    )


def test_a_base_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    found = HierarchyV1("a", {"pids": str(tmp_path / "gone")})
    with pytest.raises(ExecutionError) as caught:
        found.make("b.1", Resources(pids=9))
    assert str(caught.value) == (
        f"cannot make a control group: {tmp_path}/gone/rota-a-b.1: No such file or directory"
    )


V1_FILES = {
    "cpuacct.usage_user": "1500000000\n",
    "cpuacct.usage_sys": "250000000\n",
    "memory.max_usage_in_bytes": "4096\n",
    "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "pids.events": "max 3\n",
    "cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 500000000\n",
}
V2_FILES = {
    "cpu.stat": "usage_usec 1750000\nuser_usec 1500000\nsystem_usec 250000\nthrottled_usec 500000\n",
    "memory.peak": "4096\n",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\n",
    "pids.events": "max 3\n",
}


@pytest.mark.parametrize("files", [V1_FILES, V2_FILES])
def test_what_was_used_is_read_of_both_versions(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert Cgroup((str(tmp_path),)).used() == Used(1.5, 0.25, 4096, 2, 3, 0.5)


def test_a_kernel_that_counts_nothing_is_no_fault(tmp_path: Path) -> None:
    assert Cgroup((str(tmp_path), str(tmp_path / "gone"))).used() == Used()
    assert Cgroup((str(tmp_path / "gone"),)).pids() == frozenset()


def test_processes_of_groups_below_are_found(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "cgroup.procs").write_text("5\n")
    (tmp_path / "inner" / "cgroup.procs").write_text("6\n7\n")
    assert Cgroup((str(tmp_path),)).pids() == {5, 6, 7}


# -- systemd ------------------------------------------------------------------------------------

LENDS = """#!/bin/sh
# Stands for systemd-run: makes the scope that it is asked for, holds it, and notes how it was asked.
echo "$*" >"{root}/asked"
mkdir -p "{folder}"
echo $$ >"{folder}/cgroup.procs"
exec sleep 600
"""


@pytest.mark.parametrize(
    ("uid", "folder", "asked"),
    [
        (
            0,
            "system.slice/rota-a.scope",
            (
                "--scope --quiet --collect --slice=system.slice --unit=rota-a.scope "
                "--property=Delegate=yes -- sleep infinity"
            ),
        ),
        (
            1000,
            "user.slice/user-1000.slice/user@1000.service/app.slice/rota-a.scope",
            (
                "--user --scope --quiet --collect --slice=app.slice --unit=rota-a.scope "
                "--property=Delegate=yes -- sleep infinity"
            ),
        ),
    ],
)
def test_systemd_lends_a_scope_once(tmp_path: Path, uid: int, folder: str, asked: str) -> None:
    command = tmp_path / "systemd-run"
    command.write_text(LENDS.format(root=tmp_path, folder=tmp_path / folder))
    command.chmod(0o755)
    lends = Lender("a", tmp_path, tmp_path, command=str(command), uid=uid)
    assert lends.lent() is None
    lent = lends.lend()
    holder = int((lent / "cgroup.procs").read_text())
    try:
        assert lent == tmp_path / folder
        assert (tmp_path / "asked").read_text().strip() == asked
        command.unlink()
        assert lends.lend() == lent
        (lent / "rota-a-b.1").mkdir()
        (lent / "rota-a-b.1" / "cgroup.procs").write_text(str(os.getpid()))
        lends.give_back()
        assert os.waitid(os.P_PID, holder, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        (lent / "rota-a-b.1" / "cgroup.procs").write_text("")
        lends.give_back()
    finally:
        os.kill(holder, 9)
        _, status = os.waitpid(holder, 0)
    assert os.waitstatus_to_exitcode(status) == -9


def test_a_systemd_that_refuses_is_quoted(tmp_path: Path) -> None:
    command = tmp_path / "systemd-run"
    command.write_text(
        "#!/bin/sh\necho 'Failed to start transient scope unit: denied' >&2\nexit 1\n"
    )
    command.chmod(0o755)
    with pytest.raises(ExecutionError) as caught:
        Lender("a", tmp_path, tmp_path, command=str(command), uid=1000).lend()
    assert str(caught.value) == (
        "systemd lends this agent no control group: Failed to start transient scope unit: denied"
    )


def test_a_manager_that_has_no_controllers_can_limit_nothing(tmp_path: Path) -> None:
    manager = tmp_path / "user.slice/user-1000.slice/user@1000.service"
    service = manager / "app.slice" / "rota.service"
    lends = Lender("a", tmp_path, service, command="systemd-run", uid=1000)
    assert HierarchyV2("a", service, lender=lends).limits == frozenset()
    manager.mkdir(parents=True)
    (manager / "cgroup.controllers").write_text("memory pids\n")
    assert HierarchyV2("a", service, lender=lends).limits == {"memory", "pids"}


def test_from_a_login_nothing_is_moved_to_a_group_of_the_users_systemd(tmp_path: Path) -> None:
    manager = tmp_path / "user.slice/user-1000.slice/user@1000.service"
    manager.mkdir(parents=True)
    (manager / "cgroup.controllers").write_text("memory pids\n")
    login = tmp_path / "user.slice/user-1000.slice/session-3.scope"
    assert Lender("a", tmp_path, login, command="x", uid=1000).controllers() == frozenset()
    assert Lender("a", tmp_path, login, command="x", uid=0).controllers() == frozenset()
    (tmp_path / "cgroup.controllers").write_text("cpu\n")
    assert Lender("a", tmp_path, login, command="x", uid=0).controllers() == {"cpu"}


def test_nobody_lends_where_systemd_is_not_the_first_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lender, "BOOTED", tmp_path / "no")
    assert lender.find_lender("a", tmp_path, tmp_path) is None
