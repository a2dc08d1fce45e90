"""Has systemd lend this agent a group of its own, where it is the one that looks after them.

It is a scope, delegated: what is below it is ours, and it stays when the agent is started again, which
a service's own group does not allow once builds are in it. A process that sleeps holds it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rota.adapters.process.cgroup import Cgroup
from rota.errors import ExecutionError

_LEND_S = 20.0  # it takes 50 ms; longer only where systemd is as good as hung
_LOOK_S = 0.01
#: There where systemd is the first process.
BOOTED = Path("/run/systemd/system")


class Lender:
    """Asks systemd for a scope.

    Args:
        owner: Whose it is; the scope is called after it.
        root: Where version 2 is mounted.
        own: The group that this process is in.
        command: ``systemd-run``.
        uid: The user whose systemd is asked; 0 asks the machine's.
    """

    def __init__(self, owner: str, root: Path, own: Path, *, command: str, uid: int) -> None:
        self._own, self._command = own, command
        self._is_user = uid != 0
        self._unit = f"rota-{owner}.scope"
        self._manager = root
        if self._is_user:
            self._manager = root / f"user.slice/user-{uid}.slice/user@{uid}.service"
        self._slice = "app.slice" if self._is_user else "system.slice"

    def controllers(self) -> frozenset[str]:
        """Return the controllers that systemd has to give, and we can make use of.

        A user's systemd has a part of the tree, and processes are moved only by who may write to
        all that both groups have in common: from a login's session none goes there.
        """
        if self._is_user and not self._own.is_relative_to(self._manager):
            return frozenset()
        try:
            return frozenset((self._manager / "cgroup.controllers").read_text().split())
        except OSError:
            return frozenset()

    def lent(self) -> Path | None:
        """Return the scope's folder if there is one."""
        folder = self._manager / self._slice / self._unit
        return folder if folder.is_dir() else None

    def lend(self) -> Path:
        """Return the scope's folder; it is made where there is none. Not for the event loop.

        Raises:
            ExecutionError: systemd refuses.
        """
        found = self.lent()
        if found is not None:
            return found
        words = [self._command, *(["--user"] if self._is_user else []), "--scope", "--quiet"]
        words += ["--collect", f"--slice={self._slice}", f"--unit={self._unit}"]
        words += ["--property=Delegate=yes", "--", "sleep", "infinity"]
        return _begun(words, self.lent)

    def give_back(self) -> None:
        """Let the scope go where no group is in it but that of what holds it."""
        folder = self.lent()
        if folder is None:
            return
        inner = [each for each in folder.iterdir() if each.is_dir()]
        if not any(Cgroup((str(each),)).pids() for each in inner if each.name != LEAF):
            Cgroup((str(folder),)).kill()


#: The group in which what is no build is kept, since an inner group of version 2 holds no process.
LEAF = "rota-agent"


def find_lender(owner: str, root: Path, own: Path) -> Lender | None:
    """Return who lends groups below ``root`` to a process that is in ``own``.

    ``None`` where systemd does not look after them.
    """
    command, uid = shutil.which("systemd-run"), os.geteuid()
    if command is None or not BOOTED.is_dir():
        return None
    return Lender(owner, root, own, command=command, uid=uid)


def _begun(words: Sequence[str], lent: Callable[[], Path | None]) -> Path:
    """Start what holds a scope; return that once it is in it."""
    try:
        holder = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ExecutionError(f"cannot start {words[0]}: {error.strerror}") from error
    assert holder.stderr is not None
    until = time.monotonic() + _LEND_S
    with holder.stderr:
        while time.monotonic() < until and holder.poll() is None:
            folder = lent()
            if folder is not None and Cgroup((str(folder),)).pids():
                holder.returncode = 0  # it is to live on: nobody waits for it
                return folder
            time.sleep(_LOOK_S)
        holder.kill()
        said = holder.stderr.read(2000).decode("utf-8", "replace").strip()
        holder.wait()
    raise ExecutionError(
        f"systemd lends this agent no control group: {said or 'it does not answer'}",
        hint="for an ordinary user: loginctl enable-linger; see systemctl status",
    )
