"""Images for container engines, made from this machine's own files: no registry, no download.

An image is a tar of a root file system, kept in ``~/.cache/rota-tests`` so that only the first run
of the tests makes it. Its name says what went in: another version of a package makes another file.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_WORTHLESS = re.compile(
    r"/usr/share/(doc|man|info|locale|lintian|bug|bash-completion|zsh|perl5|common-licenses)/"
    r"|/usr/lib/python3[.\d]*/(test|idlelib|tkinter|turtledemo|lib2to3)/|/__pycache__/|\.a$"
)
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_PT_INTERP = 3
_USERS = "root:x:0:0:root:/root:/bin/sh\nbuild:x:1000:1000::/home/build:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
_GROUPS = "root:x:0:\nbuild:x:1000:\nnogroup:x:65534:\n"


class CannotMakeError(Exception):
    """This machine lacks what an image is made of; the text says what."""


def cache() -> Path:
    """Return the folder in which images are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "rota-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def busybox() -> bytes:
    """Return a root file system with busybox under all its names: 2 MB, no C library.

    Raises:
        CannotMakeError: no static busybox is installed.
    """
    program = _static_busybox()
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    with _Tar() as tar:
        for folder in ("bin", "etc", "root", "home"):
            tar.folder(folder)
        tar.folder("tmp", mode=0o1777)
        tar.folder("home/build", owner=1000)
        tar.text("etc/passwd", _USERS)
        tar.text("etc/group", _GROUPS)
        tar.file("bin/busybox", Path(program))
        for name in names.stdout.split():
            if name != "busybox":
                tar.link(f"bin/{name}", "busybox")
    return tar.data()


def single(applet: str) -> bytes:
    """Return a root file system with one program and nothing else: no shell, no C library.

    Args:
        applet: The program as busybox calls it, such as ``awk``; it is at ``/bin/APPLET``.

    Raises:
        CannotMakeError: no static busybox is installed.
    """
    with _Tar() as tar:
        tar.folder("bin")
        tar.file(f"bin/{applet}", Path(_static_busybox()))
    return tar.data()


def of_packages(*packages: str) -> Path:
    """Return a tar with the files of installed Debian packages and all they depend on.

    Python is at ``/usr/bin``; there is no state of dpkg or apt inside. Certificates are this
    machine's. Cost: seconds the first time, then nothing.

    Raises:
        CannotMakeError: this is not Debian, or a package is not installed.
    """
    versions = _closure(packages)
    told = "\n".join(f"{name} {version}" for name, version in sorted(versions.items()))
    known = hashlib.sha256(f"{told}{_WORTHLESS.pattern}".encode()).hexdigest()[:16]
    path = cache() / f"{packages[0]}-{known}.tar"
    if path.exists():
        return path
    listed = subprocess.run(["dpkg", "-L", *versions], capture_output=True, text=True, check=True)
    with _Tar() as tar:
        tar.folder("usr")
        for name in _MERGED:
            tar.folder(f"usr/{name}")
            tar.link(name, f"usr/{name}")
        for folder in ("tmp", "var/tmp"):
            tar.folder(folder, mode=0o1777)
        for folder in ("root", "run", "home", "etc"):
            tar.folder(folder)
        tar.folder("home/build", owner=1000)
        tar.text("etc/passwd", _USERS)
        tar.text("etc/group", _GROUPS)
        tar.text("etc/nsswitch.conf", "hosts: files dns\n")
        for line in sorted({_merged(line) for line in listed.stdout.splitlines()}):
            file = Path(line)
            if not _WORTHLESS.search(line) and (file.is_symlink() or file.is_file()):
                tar.file(line.lstrip("/"), file)
        for file in sorted(Path("/etc/alternatives").glob("*")):
            tar.file(str(file).lstrip("/"), file)
        for name in ("awk", "pager"):
            if (file := Path(f"/usr/bin/{name}")).is_symlink():
                tar.file(f"usr/bin/{name}", file)
        if CERTIFICATES.exists():
            tar.file(str(CERTIFICATES).lstrip("/"), CERTIFICATES.resolve())
        if Path("/etc/ld.so.cache").exists():
            tar.file("etc/ld.so.cache", Path("/etc/ld.so.cache"))
        if "python3" in versions:
            tar.link("usr/bin/python", "python3")
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_bytes(tar.data())
    aside.rename(path)
    return path


def _static_busybox() -> str:
    program = shutil.which("busybox")
    if program is None:
        raise CannotMakeError("busybox is not installed (busybox-static)")
    if _has_loader(Path(program).read_bytes()):
        raise CannotMakeError(f"{program} is not static (busybox-static)")
    return program


def _has_loader(elf: bytes) -> bool:
    """Say whether a program of 64 bits names a loader, as those with shared libraries do."""
    offset, size, count = *struct.unpack_from("<Q", elf, 32), *struct.unpack_from("<HH", elf, 54)
    heads = range(offset, offset + size * count, size)
    return any(struct.unpack_from("<I", elf, head)[0] == _PT_INTERP for head in heads)


def _merged(path: str) -> str:
    top = path.split("/", 2)[1] if path.startswith("/") else ""
    return f"/usr{path}" if top in _MERGED else path


def _closure(packages: tuple[str, ...]) -> dict[str, str]:
    """Return names and versions of the packages and of what they depend on, as installed."""
    if shutil.which("dpkg-query") is None:
        raise CannotMakeError("images are made from Debian packages, and this is no Debian")
    wanted = "${db:Status-Abbrev}|${Package}|${Version}|${Pre-Depends}, ${Depends}|${Provides}\n"
    told = subprocess.run(
        ["dpkg-query", "-W", "-f", wanted], capture_output=True, text=True, check=True
    )
    versions: dict[str, str] = {}
    needs: dict[str, list[str]] = {}
    providers: dict[str, str] = {}
    for line in told.stdout.splitlines():
        state, name, version, rest = line.split("|", 3)
        # alternatives have "|" too: what is provided stands after the last one, and has none
        depends, _, provides = rest.rpartition("|")
        if not state.startswith("ii"):
            continue
        versions[name] = version
        needs[name] = re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9+.-]*)", depends)
        for provided in re.findall(r"(?:^|,)\s*([a-z0-9][a-z0-9+.-]*)", provides):
            providers.setdefault(provided, name)
    missing = [name for name in packages if name not in versions]
    if missing:
        raise CannotMakeError(f"not installed: {' '.join(missing)}")
    found: dict[str, str] = {}
    todo = list(packages)
    while todo:
        name = todo.pop()
        name = name if name in versions else providers.get(name, "")
        if name and name not in found:
            found[name] = versions[name]
            todo += needs[name]
    return found


class _Tar:
    """A tar in memory, made of paths without a leading slash."""

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._file, mode="w")  # noqa: SIM115 - closed on exit
        self._made: set[str] = set()

    def __enter__(self) -> _Tar:
        return self

    def __exit__(self, *error: object) -> None:
        self._tar.close()

    def data(self) -> bytes:
        return self._file.getvalue()

    def folder(self, name: str, *, mode: int = 0o755, owner: int = 0) -> None:
        self._parents(name)
        if name not in self._made:
            self._made.add(name)
            info = self._info(name, tarfile.DIRTYPE, mode)
            info.uid = info.gid = owner
            self._tar.addfile(info)

    def text(self, name: str, text: str) -> None:
        self._parents(name)
        self._made.add(name)
        info = self._info(name, tarfile.REGTYPE, 0o644)
        info.size = len(text.encode())
        self._tar.addfile(info, io.BytesIO(text.encode()))

    def link(self, name: str, target: str) -> None:
        self._parents(name)
        if name not in self._made:
            self._made.add(name)
            info = self._info(name, tarfile.SYMTYPE, 0o777)
            info.linkname = target
            self._tar.addfile(info)

    def file(self, name: str, path: Path) -> None:
        """Add a file or a symbolic link as it is on this machine, owned by root."""
        if name in self._made:
            return
        self._parents(name)
        self._made.add(name)
        info = self._tar.gettarinfo(path, name)
        info.uid = info.gid = 0
        info.uname = info.gname = "root"
        if info.islnk():
            info.type, info.size = tarfile.REGTYPE, path.stat().st_size
        if info.isreg():
            with path.open("rb") as file:
                self._tar.addfile(info, file)
        else:
            self._tar.addfile(info)

    def _parents(self, name: str) -> None:
        parent = name.rpartition("/")[0]
        if parent and parent not in self._made:
            self.folder(parent)

    @staticmethod
    def _info(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(name)
        info.type, info.mode = kind, mode
        return info
