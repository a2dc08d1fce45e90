"""What an image is made of: a folder of the workspace, packed so that the same is the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from rota.core.container import Dockerfile
from rota.errors import ExecutionError

if TYPE_CHECKING:
    import tarfile  # a third of a megabyte: loaded when a tar is made

#: Of all files: what was checked out anew is not another image. Not 0, which zip cannot hold.
MTIME = 946_684_800
MAX_BYTES = 4 << 30
_IGNORE = ".dockerignore"
#: Where the Dockerfile is in the tar, also where it is left out or stands outside of the folder.
_WITHIN = ".rota-Dockerfile"


class Context(NamedTuple):
    """A packed folder. ``key`` says all that the image depends on but the images it begins with.

    ``dockerfile`` is how people call it, from the workspace; ``dockerfile_within`` is where it is in the tar.
    """

    tar: Path
    key: str
    dockerfile: str
    dockerfile_within: str


def pack(work: Path, wanted: Dockerfile) -> Context:
    """Pack the folder that an image is made of, as its ``.dockerignore`` says.

    The tar lies beside the workspace, and is the caller's to remove. Cost: that of its files twice; not
    for the event loop.

    Raises:
        ExecutionError: folder or file do not exist, lead out of the workspace, or are too large.
    """
    root = _inside(work, work / wanted.context, "the folder")
    name = wanted.file or os.path.join(wanted.context, "Dockerfile")  # noqa: PTH118 - a text
    name = os.path.normpath(name)
    dockerfile = _inside(work, work / name, "the file")
    if not root.is_dir():
        raise ExecutionError(f"image.build is {wanted.context!r}, which is no folder")
    if not dockerfile.is_file():
        raise ExecutionError(
            f"there is no {name} to make an image of", hint="image = { build = …, dockerfile = … }"
        )
    try:
        descriptor, path = tempfile.mkstemp(prefix="context-", suffix=".tar", dir=work.parent)
        with os.fdopen(descriptor, "wb") as file:
            _write(file, root, dockerfile)
            size = file.tell()
        tar = Path(path)
        if size > MAX_BYTES:
            tar.unlink()
            raise ExecutionError(
                f"the folder {wanted.context!r} has {size >> 20} MiB, the limit is {MAX_BYTES >> 20}",
                hint="name in .dockerignore what the image does not need",
            )
        with tar.open("rb") as packed:
            told = hashlib.file_digest(packed, "sha256").hexdigest()
    except OSError as error:
        raise ExecutionError(f"cannot pack {wanted.context!r}: {error}") from error
    rest = json.dumps([told, wanted.target, sorted(wanted.args.items())])
    key = hashlib.sha256(rest.encode()).hexdigest()[:24]
    return Context(tar, key, name, _WITHIN)


def _inside(work: Path, path: Path, what: str) -> Path:
    found = path.resolve()
    if not found.is_relative_to(work.resolve()):
        raise ExecutionError(f"{what} {path.name!r} of the image leads out of the workspace")
    return found


def _write(file: BinaryIO, root: Path, dockerfile: Path) -> None:
    import tarfile

    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in _names(root):
            info = tar.gettarinfo(root / name, name)
            if info.isreg() or info.isdir() or info.issym() or info.islnk():
                _add(tar, _plain(info), root / name)
        _add(tar, _plain(tar.gettarinfo(dockerfile, _WITHIN)), dockerfile)


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """Return what is the same on every agent that has the same files."""
    import tarfile

    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = MTIME
    info.mode = 0o755 if info.mode & 0o100 or info.isdir() else 0o644
    if info.islnk():
        info.type, info.linkname = tarfile.REGTYPE, ""
    return info


def _add(tar: tarfile.TarFile, info: tarfile.TarInfo, path: Path) -> None:
    if not info.isreg():
        tar.addfile(info)
        return
    info.size = path.stat().st_size
    with path.open("rb") as file:
        tar.addfile(info, file)


def _names(root: Path) -> Iterator[str]:
    """Yield what is in the folder and is not to be left out, in an order that is always the same."""
    left_out = _left_out(root)
    for here, folders, files in os.walk(root):
        folders.sort()
        base = os.path.relpath(here, root)
        links = [name for name in folders if os.path.islink(f"{here}/{name}")]  # noqa: PTH114
        for name in sorted([*folders, *files]):
            path = name if base == "." else f"{base}/{name}"
            is_folder = name in folders and name not in links
            if not left_out.match_file(f"{path}/" if is_folder else path):
                yield path


def _left_out(root: Path) -> Any:
    """Return the patterns of ``.dockerignore``: as git's, but from the folder itself on."""
    import pathspec  # 30 ms, which most starts do not need

    try:
        lines = (root / _IGNORE).read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    anchored = []
    for line in lines:
        text = line.strip()
        if text and not text.startswith("#"):
            sign, rest = ("!", text[1:].strip()) if text.startswith("!") else ("", text)
            anchored.append(f"{sign}/{rest.lstrip('/').removeprefix('./')}")
    return pathspec.PathSpec.from_lines("gitignore", anchored)
