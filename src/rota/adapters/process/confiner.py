"""Puts an attempt into its confinement: what is made before, and the words that lead to the script.

The script is started through ``confine.sh``, which joins the control group, makes namespaces and mounts
where they are asked for, gives up rights, and becomes the script. Where the user changes, what runs
before that has none of the build's environment, by which a build could have had its say as root.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import rota
from rota.adapters.process.accounts import Account, account, own_account
from rota.adapters.process.cgroup import Cgroup
from rota.adapters.process.hierarchy import Hierarchy, find_hierarchy, unlimited
from rota.adapters.process.home import Home
from rota.adapters.process.toolbox import (
    Toolbox,
    able,
    back_again,
    confining_programs,
    find_toolbox,
    namespaces,
)
from rota.adapters.process.view import View, steps, view_of
from rota.core.confinement import BUILDS_DOOR, Confinement
from rota.errors import ExecutionError
from rota.ports.executor import Task

_CONFINE = str(Path(__file__).with_name("confine.sh"))
#: What the tools are given, who have no business with the build's environment.
_OWN_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
#: Beneath the data folder, what every build may need: `rota`, and the agent's socket for builds.
_SHARED = ("bin", BUILDS_DOOR)


class Launch(NamedTuple):
    """How a confined attempt is started."""

    words: tuple[str, ...]  # the command, script and all
    env: Mapping[str, str]  # of what runs before the script
    secret_env: bytes | None  # the script's own, to be read from descriptor 4; None: the same
    cgroup: Cgroup


class Confiner:
    """Confines the attempts of one agent.

    Args:
        data: The agent's data folder.
        tools: What there is to do it with.
        hierarchy: Where control groups are made; ``None`` where they cannot be.
    """

    def __init__(self, data: Path, tools: Toolbox, hierarchy: Hierarchy | None) -> None:
        self._data, self._tools, self._hierarchy = data, tools, hierarchy

    def labels(self) -> dict[str, str]:
        """Return what this agent can do, as labels. Starts a few processes; not for the event loop."""
        limits = self._hierarchy.limits if self._hierarchy is not None else frozenset()
        found = dict.fromkeys([*able(self._tools, limits), *confining_programs()], "")
        if self._hierarchy is not None:
            found["cgroup"] = self._hierarchy.version
        return found

    def prepare(self, task: Task, asked: Confinement, added: str) -> Launch:
        """Make all that a confined attempt needs. Not for the event loop.

        Cost: about 1 ms, and a look at each of its files where the user changes.

        Args:
            task: What is to be run.
            asked: How it is to be confined.
            added: The variables that sh adds, and the task does not have.

        Raises:
            ExecutionError: it cannot be confined so; nothing is left of it.
        """
        who = self._account(asked.user)
        self._check(asked, who)
        home = Home(task.home)
        cgroup = self._group(task, asked) if asked.resources else Cgroup()
        try:
            if cgroup:
                home.cgroup.write_text("".join(f"{folder}\n" for folder in cgroup.folders))
            if who is not None:
                _hand_over(task, who)
                self._open_ways(task)
            view = self._view(task, asked, who)
            words = tuple(self._words(task, asked, who, view, cgroup, added, home.confined))
        except BaseException as error:
            cgroup.remove()
            if isinstance(error, OSError):
                where = f"{error.filename}: " if error.filename else ""
                raise ExecutionError(f"cannot confine: {where}{error.strerror}") from error
            raise
        if who is None:
            return Launch(words, task.env, None, cgroup)
        marker, _, value = task.marker.partition("=")
        env = {**_OWN_ENV, **({marker: value} if marker else {})}
        return Launch(words, env, _sourced(task.env), cgroup)

    def enter(
        self, task: Task, asked: Confinement, added: str, *, told: Path, marks: Mapping[str, str]
    ) -> Launch:
        """Make what a program needs that is to run where a confined attempt runs, or ran.

        Of a running one it shares the control group. Namespaces are new ones, made in the same way: the
        temporary folder is the attempt's; where the network is cut, it has a loopback of its own.
        Not for the event loop.

        Args:
            task: The attempt, with the program's words and environment.
            asked: How the attempt is confined.
            added: The variables that sh adds, and the task does not have.
            told: A file for what goes wrong; "ok" is its last line if nothing did.
            marks: Variables by which the program is known before it has its own.

        Raises:
            ExecutionError: it cannot be confined so; nothing is left of it.
        """
        who = self._account(asked.user)
        self._check(asked, who)
        shared = Home(task.home).group()
        lives = bool(shared.folders) and all(map(os.path.isdir, shared.folders))
        own = (
            self._group(task, asked, f".{told.name}") if asked.resources and not lives else Cgroup()
        )
        try:
            view = self._view(task, asked, who)
            joined = shared if lives else own
            words = tuple(self._words(task, asked, who, view, joined, added, told))
        except BaseException:
            own.remove()
            raise
        if who is None:
            return Launch(words, task.env, None, own)
        return Launch(words, {**_OWN_ENV, **marks}, _sourced(task.env), own)

    def sweep(self) -> None:
        """End what is left in groups of attempts that have no folder any more. Not for the event loop.

        What still has one is ended when that is looked at.
        """
        if self._hierarchy is None:
            return
        for name, cgroup in self._hierarchy.left():
            if not self._data.joinpath("builds", *name.split(".")).is_dir():
                cgroup.kill()
                cgroup.remove()

    def close(self) -> None:
        """Let go of what nothing runs in."""
        if self._hierarchy is not None:
            self._hierarchy.close()

    def _account(self, words: str) -> Account | None:
        """Return as whom it is to run; ``None`` as this process does."""
        if not words:
            return None
        who, own = account(words), own_account()
        if (who.uid, who.gid) == (own.uid, own.gid):
            return None
        if own.uid != 0:
            raise ExecutionError(
                f"this agent runs as {own.name or own.uid}, and cannot run a build as {words}",
                hint="an agent of root can; such an agent has the label can-set-user",
            )
        return who

    def _check(self, asked: Confinement, who: Account | None) -> None:
        needed: list[str] = []
        if who is not None or asked.no_new_privs:
            needed += ["setpriv"]
        if who is not None or asked.has_view:
            needed += ["unshare", "mount", "umount"]
        if asked.network == "none":
            needed += ["unshare", "ip"]
        if asked.private_pids:
            needed += ["setsid"]
        missing = self._tools.missing(*dict.fromkeys(needed))
        if missing:
            raise ExecutionError(
                f"this agent cannot confine a build so: {', '.join(missing)} not found",
                hint="install util-linux and iproute2",
            )

    def _group(self, task: Task, asked: Confinement, suffix: str = "") -> Cgroup:
        if self._hierarchy is None:
            limits = asked.resources
            wanted = {"cpus": limits.cpus, "memory": limits.memory_bytes, "pids": limits.pids}
            raise unlimited(name for name, value in wanted.items() if value)
        name = ".".join(task.home.relative_to(self._data / "builds").parts)
        return self._hierarchy.make(name + suffix, asked.resources)

    def _view(self, task: Task, asked: Confinement, who: Account | None) -> View | None:
        if who is None and not asked.has_view:
            return None
        home = _top(task.home)
        shown = [home, task.cwd, *(self._data / name for name in _SHARED)]
        shown += [mount.source for mount in task.mounts if mount.target == str(mount.source)]
        shown = [path for path in shown if path.is_dir()]
        program = Path(task.argv[0])
        if program.is_absolute():
            shown.append(program.parent)
        source = Path(rota.__file__).parents[1]
        runtime = [Path(sys.prefix), Path(sys.base_prefix), source]
        tmp = None
        if asked.private_tmp:
            tmp = home / "tmp"
            tmp.mkdir(exist_ok=True)
            tmp.chmod(0o1777)  # what a shared one is, for programs that change their user
        return view_of(self._data, shown, runtime, who or own_account(), tmp)

    def _open_ways(self, task: Task) -> None:
        """Let another user pass through what is shown to it; nobody else can come this far."""
        ways = [*(self._data / name for name in _SHARED), Path(task.argv[0]).parent]
        for folder in ways:
            if folder.is_relative_to(self._data) and folder.is_dir():
                folder.chmod(0o711)

    def _words(
        self,
        task: Task,
        asked: Confinement,
        who: Account | None,
        view: View | None,
        cgroup: Cgroup,
        added: str,
        told: Path,
    ) -> Iterator[str]:
        tools, again, home = self._tools, ("/bin/sh", _CONFINE), Home(task.home)
        is_script = told == home.confined
        deaths = str(home.exit) if is_script else os.devnull
        yield from (*again, "begin", str(told), deaths)
        for folder in cgroup.folders:
            yield from ("join", folder)
        kinds = ["mount"] * (view is not None) + ["net"] * (asked.network == "none")
        kinds += ["pid"] * asked.private_pids
        if kinds:
            yield from ("then", *namespaces(tools, *kinds), *again)
            yield from ("tools", tools.mount, tools.umount, tools.ip)
            if asked.network == "none":
                yield "loopback"
            if view is not None:
                yield from steps(view)
                # Where it is, is in what has been replaced: by ".." all of that could be reached.
                yield from ("cd", str(task.cwd.absolute()))
        rights = [*(back_again(tools) if kinds else ()), *self._rights(asked, who)]
        if rights:
            yield from ("then", *rights, *again)
        if who is None:
            yield from ("unset", added)
        else:
            extra = [name for name in _OWN_ENV if name not in task.env]
            yield from ("unset", " ".join([added, *extra]), "read")
        yield "init" if asked.private_pids else "run"
        if asked.private_pids and is_script:  # a shell's session is that of its terminal
            yield from (tools.setsid, "--")
        yield from task.argv

    def _rights(self, asked: Confinement, who: Account | None) -> Sequence[str]:
        if who is None and not asked.no_new_privs:
            return ()
        words = [self._tools.setpriv]
        if who is not None:
            words += [f"--reuid={who.uid}", f"--regid={who.gid}", "--inh-caps=-all"]
            words += ["--init-groups" if who.name else "--clear-groups"]
        if asked.no_new_privs:
            words += ["--no-new-privs"]
        return [*words, "--"]


def confiner_of(data: Path) -> Confiner:
    """Return what confines the attempts of the agent whose data folder is ``data``."""
    owner = hashlib.sha256(os.fsencode(os.path.realpath(data))).hexdigest()[:10]
    return Confiner(data, find_toolbox(), find_hierarchy(owner))


def _top(home: Path) -> Path:
    """Return the attempt's own folder, also where ``home`` is that of its finaliser."""
    return home.parent if (home.parent / "work").is_dir() else home


def _hand_over(task: Task, who: Account) -> None:
    """Give a user what of an attempt is its own: all folders that are not the agent's."""
    task.home.chmod(0o711)
    if _top(task.home) != task.home:
        return  # of a finaliser: all of it is its own since its script began
    for entry in task.home.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            _own(entry, who)


def _own(folder: Path, who: Account) -> None:
    """Give a user a folder with all that is in it, but for files that are elsewhere as well.

    Such are the packs of a mirror: who owned one could change what other builds check out.
    """
    for _, _, names, descriptor in os.fwalk(folder):
        os.fchown(descriptor, who.uid, who.gid)
        for name in names:
            status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if status.st_nlink == 1:
                os.chown(name, who.uid, who.gid, dir_fd=descriptor, follow_symlinks=False)


@contextlib.contextmanager
def handed(secret: bytes | None) -> Iterator[list[tuple[Any, ...]]]:
    """Give a process something to read from descriptor 4, which is no file on any disk."""
    if secret is None:
        yield []
        return
    descriptor = os.memfd_create("environment")
    try:
        os.fchmod(descriptor, 0o444)
        view = memoryview(secret)
        while view:
            view = view[os.write(descriptor, view) :]
        yield [(os.POSIX_SPAWN_DUP2, descriptor, 4)]
    finally:
        os.close(descriptor)


#: Of these sh has its own, and some it does not let go.
_SHELLS = frozenset(
    ("IFS", "LINENO", "OPTIND", "PPID", "PS1", "PS4", "UID", "EUID", "BASHOPTS", "SHELLOPTS")
)


def _sourced(env: Mapping[str, str]) -> bytes:
    """Return an environment as sh reads it."""
    lines = []
    for name, value in env.items():
        if name not in _SHELLS:
            quoted = value.replace("'", "'\\''")
            lines.append(f"export {name}='{quoted}'\n")
    return os.fsencode("".join(lines))
