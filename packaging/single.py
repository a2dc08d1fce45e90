"""Make one file that is rota: a shell script, and behind it an archive of the tree it unpacks once.

python packaging/single.py WHEEL OUT
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import platform
import sys
import tarfile
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import tree

STUB = Path(__file__).with_name("single.sh")


def make(wheel: Path, out: Path, pythons: tuple[str, ...] = tree.PYTHONS) -> None:
    """Write the file. Cost: two minutes, most of it for packages that are not in uv's cache."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "tree"
        tree.make(root, wheel, pythons)
        tree.cut_to(root, int(os.environ.get("SOURCE_DATE_EPOCH", "1580601600")))
        archive = packed(root)
    script = stub(archive, wheel.name.split("-")[1], pythons)
    out.write_bytes(script.encode() + archive)
    out.chmod(0o755)


def stub(archive: bytes, version: str, pythons: tuple[str, ...]) -> str:
    """Return the script for an archive."""
    digest = hashlib.sha256(archive).hexdigest()
    text = STUB.read_text(encoding="utf-8")
    values = {
        "VERSION": version,
        "DIGEST": f"{version}-{digest[:12]}",
        "SHA256": digest,
        "MACHINE": platform.machine(),
        "PYTHONS": " ".join(f"python{it}" for it in reversed(pythons)),
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def packed(root: Path) -> bytes:
    """Return the tree as an archive, the same for the same tree."""
    data = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=data, mode="wb", compresslevel=9, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path in sorted(root.rglob("*")):
            info = tar.gettarinfo(str(path), str(path.relative_to(root)))
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            if info.isreg():
                with path.open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    return data.getvalue()


if __name__ == "__main__":
    try:
        make(Path(sys.argv[1]), Path(sys.argv[2]))
    except tree.PackagingError as error:
        sys.exit(f"error: {error}")
