"""Where control groups can be made on this machine, and the limits that they are given.

Version 1 mounts each controller by itself, and lets root make groups anywhere. Version 2 has one tree,
whose inner groups hold no processes, and in which a part belongs to whoever it was delegated to: the
group this agent was started in, or one that systemd lends it. Groups are made below the agent's own, so
that whatever holds the agent holds its builds as well.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from rota.adapters.process.cgroup import Cgroup, group_name, groups_of
from rota.adapters.process.lender import LEAF, Lender, find_lender
from rota.core.resources import Resources
from rota.errors import ExecutionError

PERIOD_US = 100_000
#: What a limit is called in a header, by the controller that keeps it.
LIMITS = {"cpu": "cpus", "memory": "memory", "pids": "pids"}
#: Joined where they are there, for what they count and for ending all at once.
_USEFUL_V1 = ("cpuacct", "freezer", "memory", "pids")
_ESCAPED = re.compile(r"\\([0-7]{3})")


class Hierarchy(Protocol):
    """Makes groups for one agent, whose name among others is ``owner``."""

    version: str

    @property
    def limits(self) -> frozenset[str]:
        """What can be limited here, by the words of :data:`LIMITS`."""
        ...

    def make(self, attempt: str, resources: Resources) -> Cgroup:
        """Make a group with limits. Cost: about 1 ms; the first may take longer.

        Raises:
            ExecutionError: it cannot be made, or a limit cannot be kept; nothing is left of it.
        """
        ...

    def left(self) -> Iterator[tuple[str, Cgroup]]:
        """Yield all attempts that have a group of this owner, and that."""
        ...

    def close(self) -> None:
        """Let go of what was taken hold of, unless a group is in it."""
        ...


class Mount(NamedTuple):
    """A line of ``/proc/self/mountinfo`` that is about control groups."""

    root: str
    point: str
    kind: str
    controllers: frozenset[str]


def find_hierarchy(owner: str, *, proc: Path = Path("/proc/self")) -> Hierarchy | None:
    """Return where this process may make groups; ``None`` if nowhere."""
    mounts = list(parse_mounts(_text(proc / "mountinfo")))
    own = parse_own(_text(proc / "cgroup"))
    by_controller = {name: mount for mount in mounts for name in mount.controllers}
    folders = {
        name: _below(by_controller[name], own[name])
        for name in sorted({*LIMITS, *_USEFUL_V1} & by_controller.keys() & own.keys())
    }
    # Not a controller of its own, but one whose files say that it cannot be written to.
    folders = {name: folder for name, folder in folders.items() if os.access(folder, os.W_OK)}
    if folders:
        return HierarchyV1(owner, folders)
    unified = next((mount for mount in mounts if mount.kind == "cgroup2"), None)
    if unified is None or "" not in own:
        return None
    folder = Path(_below(unified, own[""]))
    lender = find_lender(owner, Path(unified.point), folder)
    found = HierarchyV2(owner, folder, lender=lender)
    return found if found.limits else None


def parse_mounts(text: str) -> Iterator[Mount]:
    """Yield the mounts of control groups that a ``mountinfo`` tells of."""
    for line in text.splitlines():
        head, _, tail = line.partition(" - ")
        left, right = head.split(" "), tail.split(" ")
        if len(left) > 4 and len(right) > 2 and right[0] in ("cgroup", "cgroup2"):
            options = frozenset(right[2].split(",")) if right[0] == "cgroup" else frozenset()
            yield Mount(_plain(left[3]), _plain(left[4]), right[0], options)


def parse_own(text: str) -> dict[str, str]:
    """Return by controller in which group a ``/proc/PID/cgroup`` says that the process is."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon:
            found |= dict.fromkeys(controllers.split(","), path)
    return found


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)


def _below(mount: Mount, path: str) -> str:
    """Return the folder of a group as this process sees it."""
    root = mount.root.rstrip("/")
    if root and path != root and not path.startswith(f"{root}/"):
        path = ""  # of another namespace: the mount's own root is the nearest to us
    return f"{mount.point}{path.removeprefix(root)}".rstrip("/")


class HierarchyV1:
    """Version 1: a tree for each controller, ``folders`` by its name."""

    version = "v1"

    def __init__(self, owner: str, folders: Mapping[str, str]) -> None:
        self._owner, self._folders = owner, dict(folders)

    @property
    def limits(self) -> frozenset[str]:
        """What can be limited here."""
        return frozenset(LIMITS[name] for name in LIMITS.keys() & self._folders.keys())

    def make(self, attempt: str, resources: Resources) -> Cgroup:
        """Make a group in each tree; one of processors only where it is to be limited."""
        _check(resources, self.limits)
        used = [name for name in self._folders if name in _USEFUL_V1 or resources.cpus]
        name = group_name(self._owner, attempt)
        groups = {each: f"{self._folders[each]}/{name}" for each in used}
        cgroup = Cgroup(tuple(dict.fromkeys(groups.values())))
        with _whole(cgroup):
            for folder in cgroup.folders:
                Path(folder).mkdir(mode=0o755)
            if resources.memory_bytes:
                self._limit_memory(groups["memory"], resources.memory_bytes)
            if resources.pids:
                _set(f"{groups['pids']}/pids.max", resources.pids)
            if resources.cpus:
                _set(f"{groups['cpu']}/cpu.cfs_period_us", PERIOD_US)
                _set(f"{groups['cpu']}/cpu.cfs_quota_us", round(resources.cpus * PERIOD_US))
        return cgroup

    def left(self) -> Iterator[tuple[str, Cgroup]]:
        """Yield all attempts that have a group."""
        found: dict[str, list[str]] = {}
        for base in dict.fromkeys(self._folders.values()):
            for name, folder in groups_of(base, self._owner):
                found.setdefault(name, []).append(folder)
        for name, folders in found.items():
            yield name, Cgroup(tuple(folders))

    def close(self) -> None:
        """Do nothing: nothing is held."""

    def _limit_memory(self, folder: str, limit: int) -> None:
        _set(f"{folder}/memory.limit_in_bytes", limit)
        swap = Path(folder, "memory.memsw.limit_in_bytes")
        if swap.exists():
            _set(str(swap), limit)
        elif _swap_is_on():
            # Not counted on this machine: then nothing of it is swapped out at all.
            _set(f"{folder}/memory.swappiness", 0)


class HierarchyV2:
    """Version 2: one tree, below the folder ``own`` that this process is in, or what it is lent.

    Args:
        owner: Whose groups these are.
        own: The folder of the group that this process is in.
        lender: Has systemd lend a group, and returns its folder; ``None`` where there is no systemd, so
            that nobody else looks after the tree.
    """

    version = "v2"

    def __init__(self, owner: str, own: Path, *, lender: Lender | None) -> None:
        self._owner, self._lender = owner, lender
        self._own = own.parent if own.name == LEAF else own
        self._base: Path | None = None

    @property
    def limits(self) -> frozenset[str]:
        """What can be limited here."""
        found: Iterable[str]
        if self._lender is not None:
            found = self._lender.controllers()
        else:
            writable = os.access(self._own, os.W_OK) and os.access(
                self._own / "cgroup.procs", os.W_OK
            )
            found = _words(self._own / "cgroup.controllers") if writable else ()
        return frozenset(LIMITS[name] for name in LIMITS.keys() & set(found))

    def make(self, attempt: str, resources: Resources) -> Cgroup:
        """Make a group; the first call takes hold of the place where they are made."""
        _check(resources, self.limits)
        base = self._place()
        cgroup = Cgroup((str(base / group_name(self._owner, attempt)),))
        folder = cgroup.folders[0]
        with _whole(cgroup):
            Path(folder).mkdir(mode=0o755)
            if resources.memory_bytes:
                _set(f"{folder}/memory.max", resources.memory_bytes)
                if Path(folder, "memory.swap.max").exists():
                    _set(f"{folder}/memory.swap.max", 0)
                elif _swap_is_on():
                    raise ExecutionError(
                        "memory cannot be limited: this machine swaps, and does not count it by group",
                        hint="boot it with swapaccount=1, or turn swap off",
                    )
            if resources.pids:
                _set(f"{folder}/pids.max", resources.pids)
            if resources.cpus:
                _set(f"{folder}/cpu.max", f"{round(resources.cpus * PERIOD_US)} {PERIOD_US}")
        return cgroup

    def left(self) -> Iterator[tuple[str, Cgroup]]:
        """Yield all attempts that have a group."""
        base = self._base or (self._lender.lent() if self._lender is not None else self._own)
        if base is not None:
            for name, folder in groups_of(str(base), self._owner):
                yield name, Cgroup((folder,))

    def close(self) -> None:
        """Give back what was lent."""
        if self._lender is not None and self._base is not None:
            self._lender.give_back()

    def _place(self) -> Path:
        """Return the folder in which groups are made: it holds no process, and passes limits on."""
        if self._base is None:
            base = self._lender.lend() if self._lender is not None else self._own
            wanted = LIMITS.keys() & _words(base / "cgroup.controllers")
            if not wanted <= _words(base / "cgroup.subtree_control"):
                self._vacate(base)
                on = " ".join(f"+{name}" for name in sorted(wanted))
                _set(str(base / "cgroup.subtree_control"), on)
            self._base = base
        return self._base

    def _vacate(self, base: Path) -> None:
        """Move all processes of ``base`` into a group below it; the whole tree's root may have some."""
        if not (base / "cgroup.type").exists():
            return
        leaf = base / LEAF
        leaf.mkdir(exist_ok=True)
        for pid in _text(base / "cgroup.procs").split():
            with contextlib.suppress(ExecutionError):  # it ended; else what follows is refused
                _set(str(leaf / "cgroup.procs"), pid)


@contextlib.contextmanager
def _whole(cgroup: Cgroup) -> Iterator[None]:
    """Leave nothing of a group that could not be made as it should be."""
    try:
        yield
    except BaseException as error:
        cgroup.remove()
        if isinstance(error, OSError):
            raise ExecutionError(
                f"cannot make a control group: {error.filename}: {error.strerror}"
            ) from error
        raise


def _check(resources: Resources, limits: frozenset[str]) -> None:
    """Refuse limits that cannot be kept.

    Raises:
        ExecutionError: it names them.
    """
    wanted = {
        "cpus": resources.cpus,
        "memory": resources.memory_bytes,
        "pids": resources.pids,
    }
    missing = [name for name, value in wanted.items() if value and name not in limits]
    if missing:
        raise unlimited(missing)


def unlimited(missing: Iterable[str]) -> ExecutionError:
    """Return the error that says which limits cannot be kept here, and what to do."""
    return ExecutionError(
        f"this agent cannot limit {', '.join(missing)}: it has no control group of its own for that",
        hint="run it as root, or by systemd (rota agent --install), or hand a group over: docs/isolation.md",
    )


def _set(path: str, value: object) -> None:
    """Write to a file of a control group.

    Raises:
        ExecutionError: the kernel refuses.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, str(value).encode("ascii"))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ExecutionError(f"cannot set {path} to {value}: {error.strerror}") from error


def _words(path: Path) -> frozenset[str]:
    return frozenset(_text(path).split())


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _swap_is_on() -> bool:
    return any(
        line.startswith("SwapTotal:") and line.split()[1] != "0"
        for line in _text(Path("/proc/meminfo")).splitlines()
    )
