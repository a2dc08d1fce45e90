"""What stands in a clone of the store, read by git alone: no agent is asked."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

from rota.cli.commands.clone import base, settings
from rota.cli.commands.connected import at_this_agent
from rota.core import records, schedules
from rota.core.build import Build
from rota.core.schedules import Note
from rota.errors import InputError, UnavailableError

REPOSITORY = "store.git"


@contextlib.contextmanager
def clone_of(args: Namespace) -> Iterator[Clone]:
    """Give the clone that ``--clone`` names, or one of an agent's store, gone afterwards."""
    if shutil.which("git") is None:
        raise InputError("git is not installed", hint="such as: apt install git")
    if args.clone:
        yield Clone(args.clone)
        return
    client = at_this_agent(args)
    url = f"{base(client)}/{REPOSITORY}"
    with tempfile.TemporaryDirectory(prefix="rota-store-") as folder:
        command = ["git", "clone", "--quiet", "--bare", *settings(client.place, url), url, folder]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise UnavailableError(f"git cannot clone {url}: {done.stderr.strip()}")
        yield Clone(folder)


class Clone:
    """A clone on this disk, bare or not."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        if not Path(folder).is_dir():
            raise InputError(f"no folder {folder}", hint="make a clone: rota clone DIR")

    def main(self, commit: str = "") -> dict[str, bytes]:
        """Return path -> bytes of all files of ``main``, or of a commit of it."""
        return dict(self._files(commit or self._branch("main")))

    def notes(self) -> Iterator[Note]:
        """Yield what ``history`` says of schedules."""
        for _, data in self._files(self._branch("history"), f"{schedules.FOLDER}/"):
            yield from schedules.decode_notes(data)

    def builds(self) -> Iterator[Build]:
        """Yield the builds that ``history`` has."""
        for _, data in self._files(self._branch("history"), f"{records.FOLDER}/"):
            build = records.decode(data)
            if build is not None:
                yield build

    def _branch(self, name: str) -> str:
        for ref in (f"refs/remotes/origin/{name}", f"refs/heads/{name}"):
            with contextlib.suppress(InputError):
                return self._git("rev-parse", "--verify", "--quiet", ref).decode().strip()
        if name == "history":
            return ""  # nothing was built yet
        raise InputError(
            f"{self._folder} is no clone of a store: it has no {name}",
            hint="make one: rota clone DIR",
        )

    def _files(self, commit: str, *paths: str) -> Iterator[tuple[str, bytes]]:
        if not commit:
            return
        listed = self._git("ls-tree", "-r", "-z", "--full-tree", commit, *paths)
        entries = [line.split("\t", 1) for line in listed.decode().split("\0") if line]
        blobs = [(meta.split()[2], path) for meta, path in entries]
        for start in range(0, len(blobs), 1000):
            some = blobs[start : start + 1000]
            yield from zip(
                (path for _, path in some), self._read([it for it, _ in some]), strict=True
            )

    def _read(self, blobs: Sequence[str]) -> Iterator[bytes]:
        data = self._git("cat-file", "--batch", given="\n".join([*blobs, ""]).encode())
        at = 0
        for _ in blobs:
            end = data.index(b"\n", at)
            size = int(data[at:end].split()[-1])
            yield data[end + 1 : end + 1 + size]
            at = end + size + 2

    def _git(self, *words: str, given: bytes | None = None) -> bytes:
        command = ["git", "-C", self._folder, *words]
        done = subprocess.run(command, check=False, capture_output=True, input=given)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()
            raise InputError(f"git cannot read {self._folder}: {said or 'it has no such thing'}")
        return done.stdout
