"""Make a Debian package of the tree: for Debian 12 and later, and what is made of it.

    python packaging/deb.py WHEEL FOLDER

Whom the package names as its maintainer is said as Debian's tools have it, by DEBFULLNAME and DEBEMAIL.
It needs dpkg-deb alone. The tree goes to /usr/lib/rota, with the distribution's Python.
"""

from __future__ import annotations

import email.utils
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import licences
import tree

HERE = Path(__file__).parent
ROOT = HERE.parent
#: Nobody reads mail there: `invalid` is no domain (RFC 2606), and who builds it for others names himself.
NOBODY = ("rota maintainers", "nobody@rota.invalid")
CONTROL = """\
Package: rota
Version: {version}
Architecture: {architecture}
Maintainer: {maintainer}
Installed-Size: {size}
Depends: adduser, git, libc6 (>= 2.28), libstdc++6, python3 (>= 3.11), python3 (<< 3.15)
Suggests: docker.io | podman, git-lfs
Section: devel
Priority: optional
Description: masterless build system and job scheduler
 Every machine runs the same daemon, an agent; any of them leads, none is
 special. A job is a script, in any language, with its settings in a comment
 block at its top. Jobs, and a record of each build, are branches of a git
 repository that every agent has.
"""
CHANGES = """\
rota ({version}) unstable; urgency=medium

  * What changed: /usr/share/doc/rota/changelog.gz

 -- {maintainer}  {when}
"""
#: Where data files of a wheel go, by how their place below share begins.
_PLACES = (
    ("rota/rota.service", "usr/lib/systemd/system/rota.service"),
    ("zsh/site-functions/", "usr/share/zsh/vendor-completions/"),
    ("", "usr/share/"),
)


def make(wheel: Path, folder: Path, pythons: tuple[str, ...] = tree.PYTHONS) -> Path:
    """Write the package into a folder; return its path."""
    version, architecture = debian_version(wheel.name.split("-")[1]), _architecture()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "1580601600"))
    who = maintainer(os.environ)
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "root"
        _fill(root, wheel, pythons)
        when = email.utils.formatdate(epoch)
        news = root / "usr/share/doc/rota/changelog.Debian.gz"
        text = CHANGES.format(version=version, maintainer=who, when=when)
        news.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        _control(root, version, architecture, who)
        tree.cut_to(root, epoch)
        out = folder / f"rota_{version}_{architecture}.deb"
        words = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(out)]
        environ = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
        subprocess.run(words, check=True, env=environ, stdout=subprocess.DEVNULL)
    return out


def debian_version(version: str) -> str:
    """Return a version of Python's as Debian sorts it: what comes before a release by a tilde."""
    public, plus, local = version.partition("+")  # a commit's hash has letters as well
    return re.sub(r"\.?(dev|a|b|rc)(?=\d)", r"~\1", public) + plus + local + "-1"


def maintainer(environ: Mapping[str, str]) -> str:
    """Return who answers for the package, as `NAME <ADDRESS>`.

    Raises:
        PackagingError: a name without an address, or the reverse: it would be somebody else's.
    """
    said = [environ.get(it, "") for it in ("DEBFULLNAME", "DEBEMAIL")]
    if any(said) and not all(said):
        raise tree.PackagingError("DEBFULLNAME and DEBEMAIL: both are to be set, or neither")
    return "{} <{}>".format(*(said if all(said) else NOBODY))


def _fill(root: Path, wheel: Path, pythons: tuple[str, ...]) -> None:
    ours = root / "usr/lib/rota"
    ours.parent.mkdir(parents=True)
    tree.make(ours, wheel, pythons)
    (ours / "bin/python3").symlink_to("../../../bin/python3")
    (ours / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (ours / "bin/rota").write_text('#!/bin/sh\nexec /usr/lib/rota/bin/python3 -m rota "$@"\n')
    (root / "usr/bin").mkdir()
    (root / "usr/bin/rota").symlink_to("../lib/rota/bin/rota")
    shared = ours / "share"
    for path in sorted(it for it in shared.rglob("*") if it.is_file()):
        _copy(path, root / _place(str(path.relative_to(shared))))
    shutil.rmtree(shared)
    _copy(HERE / "debian/agent.toml", root / "etc/rota/agent.toml")
    docs = root / "usr/share/doc/rota"
    _copy(HERE / "debian/copyright", docs / "copyright")
    _copy(ROOT / "CHANGELOG.md", docs / "changelog")
    _copy(ROOT / "README.md", docs / "README.md")
    (docs / "packages").write_text(licences.listed(ours / "site"))
    _copy(HERE / "debian/sudo.conf", docs / "examples/sudo.conf")
    _copy(HERE / "debian/overrides", root / "usr/share/lintian/overrides/rota")


def _place(name: str) -> str:
    return next(to + name.removeprefix(start) for start, to in _PLACES if name.startswith(start))


def _copy(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    if "/share/man/" in str(to) or to.name == "changelog":
        to.with_name(to.name + ".gz").write_bytes(gzip.compress(source.read_bytes(), 9, mtime=0))
    else:
        shutil.copyfile(source, to)


def _control(root: Path, version: str, architecture: str, who: str) -> None:
    files = sorted(it for it in root.rglob("*") if it.is_file() and not it.is_symlink())
    control = root / "DEBIAN"
    control.mkdir()
    size = sum(it.stat().st_size for it in files) // 1024
    text = CONTROL.format(version=version, architecture=architecture, maintainer=who, size=size)
    (control / "control").write_text(text)
    (control / "conffiles").write_text("/etc/rota/agent.toml\n")
    (control / "md5sums").write_text("".join(_sums(root, files)))
    for name in ("postinst", "prerm", "postrm"):
        shutil.copyfile(HERE / "debian" / name, control / name)
        (control / name).chmod(0o755)


def _sums(root: Path, files: list[Path]) -> Iterator[str]:
    for path in files:
        if path != root / "etc/rota/agent.toml":
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            yield f"{digest}  {path.relative_to(root)}\n"


def _architecture() -> str:
    words = ["dpkg", "--print-architecture"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    try:
        print(make(Path(sys.argv[1]), Path(sys.argv[2])))
    except tree.PackagingError as error:
        sys.exit(f"error: {error}")
