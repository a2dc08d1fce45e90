"""A back-up as a file: looked at whole before anything is taken from it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

import msgspec

from rota.core.backups import ENDING, FORMAT, MANIFEST, TAIL_BYTES, Ending, Manifest
from rota.errors import InputError, UnavailableError

PIECE = 1 << 20


class ArchiveFile:
    """A back-up in a file. Nothing is believed of it before :meth:`check`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self) -> Manifest:
        """Return what it says of itself, once all of it is known to be as it was written.

        Cost: one pass over the file.

        Raises:
            InputError: it is no back-up, cut off, damaged, or of a format that is not known.
            UnavailableError: it cannot be read.
        """
        with self._opened() as file:
            manifest = self._manifest(file)
            size = file.seek(0, io.SEEK_END)
            ending = self._ending(file, size)
            file.seek(0)
            digest, left = hashlib.sha256(), ending.bytes
            while left and (piece := file.read(min(PIECE, left))):
                digest.update(piece)
                left -= len(piece)
        if left or digest.hexdigest() != ending.sha256:
            raise InputError(
                f"{self.path} is damaged: its bytes are not those that were written",
                hint="take another copy of it, or an older back-up",
            )
        return manifest

    def members(self) -> Iterator[tuple[str, int, IO[bytes]]]:
        """Yield name, size and bytes of each member behind the manifest, in order."""
        with self._opened() as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if not member.isreg() or member.name in (MANIFEST, ENDING):
                    continue
                data = archive.extractfile(member)
                assert data is not None, "it is a file"
                yield member.name, member.size, data

    @contextlib.contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with self.path.open("rb") as file:
                yield file
        except OSError as error:
            raise UnavailableError(f"cannot read {self.path}: {error.strerror}") from error

    def _manifest(self, file: BinaryIO) -> Manifest:
        said = _first(file)
        if said is None:
            raise InputError(
                f"{self.path} is no back-up of rota",
                hint="a back-up is what rota backup FILE wrote",
            )
        name, data = said
        with contextlib.suppress(msgspec.MsgspecError, UnicodeError, ValueError):
            form = msgspec.json.decode(data, type=dict[str, object]).get("format")
            if name == MANIFEST and isinstance(form, int) and form > FORMAT:
                raise InputError(
                    f"{self.path} has format {form}, and this rota knows {FORMAT}",
                    hint="restore it with the rota that wrote it, or a newer one",
                )
            if name == MANIFEST:
                return msgspec.json.decode(data, type=Manifest)
        raise InputError(
            f"{self.path} is no back-up of rota: its first file is {name!r}, and not a manifest",
            hint="a back-up is what rota backup FILE wrote",
        )

    def _ending(self, file: BinaryIO, size: int) -> Ending:
        if size > TAIL_BYTES:
            file.seek(size - TAIL_BYTES)
            said = _first(file)
            if said is not None and said[0] == ENDING:
                with contextlib.suppress(msgspec.MsgspecError, UnicodeError):
                    ending = msgspec.json.decode(said[1], type=Ending)
                    if ending.bytes == size - TAIL_BYTES:
                        return ending
        raise InputError(
            f"{self.path} is cut off: it has no ending",
            hint="take another copy of it, or an older back-up",
        )


def _first(file: BinaryIO) -> tuple[str, bytes] | None:
    """Return the member at the file's place, if a tar archive begins there."""
    start = file.tell()
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:
            member = archive.next()
            if member is None or not member.isreg() or member.size > PIECE:
                return None
            data = archive.extractfile(member)
            return (member.name, data.read()) if data is not None else None
    except (tarfile.TarError, EOFError, OSError, ValueError):
        return None
    finally:
        file.seek(start)
