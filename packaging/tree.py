"""A tree with rota and all it needs but Python: what the single file and the Debian package bring.

It looks like a virtual environment, since then everything that starts ``sys.executable`` again works
as it does in one, and so does ``-I``. One folder of packages serves several versions of Python: what
is compiled for each is named after it.

    site/                     the packages
    bin/rota, nats-server     programs; the Python beside them is a link that whoever unpacks it makes
    lib/python3.N/site-packages -> ../../site
    share/                    manual, completion, unit
"""

from __future__ import annotations

import filecmp
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

#: Versions for which there are wheels of all that is needed.
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
LOCK = Path(__file__).with_name("lock.txt")
#: What packages bring of their own tests.
_TESTS = ("libcloud/test", "Crypto/SelfTest")
_NOT_NEEDED = (
    "__pycache__",
    "INSTALLER",
    "REQUESTED",
    "direct_url.json",
    "uv_cache.json",
    ".gitignore",
    ".lock",
)


class PackagingError(Exception):
    """A package cannot be made; the message says what to do."""


def make(target: Path, wheel: Path, pythons: Sequence[str] = PYTHONS) -> None:
    """Make the tree in the folder ``target``, which must not be there yet.

    Cost: seconds; a minute where nothing is in uv's cache.

    Raises:
        PackagingError: a package cannot be had, or two versions need different files of one name.
    """
    site = target / "site"
    site.mkdir(parents=True)
    for python in pythons:
        part = target / f"part-{python}"
        _install(part, wheel, python)
        for name in ("bin", "share"):
            if (target / name).exists():
                shutil.rmtree(part / name)
            else:
                (part / name).rename(target / name)
        _merge(part, site)
        shutil.rmtree(part)
        link = target / "lib" / f"python{python}" / "site-packages"
        link.parent.mkdir(parents=True)
        link.symlink_to("../../site")
    for folder in _TESTS:
        shutil.rmtree(site / folder, ignore_errors=True)
    for program in (target / "bin").iterdir():
        if program.name != "nats-server":
            program.unlink()
    _write_program(target / "bin" / "rota")
    _strip([target / "bin" / "nats-server", *site.rglob("*.so")])


def cut_to(target: Path, epoch: int) -> None:
    """Give all files one time and plain permissions, so that the same ones are the same bytes."""
    for folder, names, files in os.walk(target):
        for name in (*names, *files):
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
            os.utime(path, (epoch, epoch), follow_symlinks=False)


def _install(part: Path, wheel: Path, python: str) -> None:
    # uv reads markers as that version of Python does; pip as the one that it runs on.
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet"]
    uv += ["--no-deps", "--only-binary=:all:", "--link-mode=copy"]
    uv += [f"--python-version={python}", "--target", str(part)]
    locked = ["--require-hashes", "--requirement", str(LOCK)]
    for words in (locked, [str(wheel)]):
        done = subprocess.run([*uv, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise PackagingError(f"no packages for Python {python}:\n{done.stderr.strip()}")


def _merge(part: Path, site: Path) -> None:
    for path in sorted(part.rglob("*")):
        if path.is_dir() or set(path.parts) & set(_NOT_NEEDED):
            continue
        to = site / path.relative_to(part)
        if not to.exists():
            to.parent.mkdir(parents=True, exist_ok=True)
            path.rename(to)
        elif to.parent.name.endswith(".dist-info") or to.name.endswith(".abi3.so"):
            continue  # for which Python a wheel is; and what the oldest takes, all others do
        elif not filecmp.cmp(path, to, shallow=False):
            raise PackagingError(f"{to.relative_to(site)} differs between versions of Python")


def _write_program(path: Path) -> None:
    path.write_text(
        "#!/bin/sh\n"
        "# Python is beside this file, or where a link says.\n"
        'here=$(readlink -f "$0") && exec "${here%/*}/python3" -m rota "$@"\n'
    )
    path.chmod(0o755)


def _strip(files: Sequence[Path]) -> None:
    """Leave symbols for debuggers away: a third of all bytes."""
    if shutil.which("strip") is not None:
        subprocess.run(["strip", "--strip-unneeded", *files], check=False, capture_output=True)
