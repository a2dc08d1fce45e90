"""Private files in a tmpfs: ``/dev/shm`` or ``/run``, else in the agent's own folder."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pwd
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from rota.errors import ExecutionError

logger = logging.getLogger(__name__)

MOUNTS = Path("/proc/self/mountinfo")
#: What engines put into containers.
CONTAINED = (Path("/.dockerenv"), Path("/run/.containerenv"))
_TRIES = 5


class TmpfsFiles:
    """See :class:`rota.ports.private_files.PrivateFiles`."""

    def __init__(self, data: Path, mounts: Path = MOUNTS) -> None:
        digest = hashlib.sha256(os.fsencode(data.resolve())).hexdigest()[:16]
        self._data, self._mounts = data, mounts
        self._name = f"rota-{os.geteuid()}-{digest}"

    def write(
        self, key: str, files: Mapping[str, bytes], *, user: str = "", shared: bool = False
    ) -> Path:
        """Write files that ``user`` alone may read; return their folder."""
        owner = _owner(user)
        roots = [self._data] if shared and _is_contained() else self._roots()
        base = next(iter(roots)) / self._name
        folder = base / key
        try:
            _make_both(base, folder)
            for name, data in files.items():
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
                with os.fdopen(os.open(folder / name, flags, 0o400), "wb") as file:
                    os.fchmod(file.fileno(), 0o400)
                    file.write(data)
                    if owner is not None:
                        os.fchown(file.fileno(), *owner)
            if owner is not None:
                os.chown(folder, *owner)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            _drop(base)
            raise ExecutionError(
                f"cannot write the files of secrets in {folder}: {error.strerror}"
            ) from error
        return folder

    def remove(self, key: str) -> None:
        """Remove the files of an attempt; what cannot be removed is logged."""
        for base in self._bases():
            _remove(base / key)
            _drop(base)

    def sweep(self, living: Collection[str]) -> None:
        """Remove the files of all attempts but the ``living``; and what others of this user left empty."""
        for base in self._bases():
            try:
                found = [it for it in base.iterdir() if it.name not in living]
            except OSError:
                continue
            for folder in found:
                _remove(folder)
        for root in self._roots():
            for base in root.glob(f"rota-{os.geteuid()}-*"):
                if _is_ours(base):
                    _drop(base)

    def _bases(self) -> Iterable[Path]:
        for root in self._roots():
            base = root / self._name
            if _is_ours(base):
                yield base

    def _roots(self) -> Iterable[Path]:
        """Yield where files may be, the best place first."""
        in_memory = _tmpfs(self._mounts)
        for root in ("/dev/shm", f"/run/user/{os.geteuid()}", "/run"):  # noqa: S108 - folders of our own in it
            if root in in_memory and os.access(root, os.W_OK | os.X_OK):
                yield Path(root)
        yield self._data


def _is_contained() -> bool:
    """Whether this process runs in a container."""
    return any(mark.exists() for mark in CONTAINED)


def _tmpfs(mounts: Path) -> set[str]:
    """Return where file systems that live in memory are mounted."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    found = set()
    for line in lines:
        before, _, after = line.partition(" - ")
        if after.startswith(("tmpfs ", "ramfs ")):
            found.add(before.split()[4])
    return found


def _owner(user: str) -> tuple[int, int] | None:
    """Return to whom files are given: nobody else, unless this process may give files away."""
    if not user or os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise ExecutionError(f"no user is called {user!r} on this machine") from None
    return entry.pw_uid, entry.pw_gid


def _make_both(base: Path, folder: Path) -> None:
    for left in reversed(range(_TRIES)):
        _make(base, 0o711)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(mode=0o700)
        except FileNotFoundError:  # somebody has just taken the empty one away
            if not left:
                raise
        else:
            return


def _drop(base: Path) -> None:
    """Remove a folder of ours if nothing is in it: it was the last one's."""
    with contextlib.suppress(OSError):
        base.rmdir()


def _make(base: Path, mode: int) -> None:
    """Make a folder of ours; in a folder that all may write to, another's is not taken for it."""
    base.mkdir(mode=mode, exist_ok=True)
    if not _is_ours(base):
        raise PermissionError(1, "it is somebody else's")
    base.chmod(mode)


def _is_ours(base: Path) -> bool:
    try:
        found = base.lstat()
    except OSError:
        return False
    return (found.st_mode & 0o170000) == 0o040000 and found.st_uid == os.geteuid()


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        logger.warning("files of secrets stay in %s: %s", folder, error.strerror)
