"""A repository read from end to end, for the audit: its objects, commits, files and branches.

It runs in a process of its own, or in that of the command line, and so waits for git as it reads. A
repository is only read: also one on a disk that is full, or a clone of somebody else's.
"""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import cast

from rota.adapters.git.process import environment, words
from rota.core.audit import (
    Auditor,
    Change,
    Commit,
    Flaw,
    Head,
    Progress,
    Step,
    Summary,
    difference,
    kept_flaws,
    main_flaws,
    record_flaws,
)
from rota.core.build import Build
from rota.core.chain import Anchor, read_anchor
from rota.core.records import FOLDER, decode
from rota.errors import InputError, UnavailableError

#: So much is read of a pipe at once.
PIECE = 1 << 16
#: Between two words of how far it is.
STEP = 2000
_OID = re.compile(r"\b[0-9a-f]{40}\b")
_FOUND_AT = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{38})")
_PERCENT = re.compile(rb"Checking objects: +\d+% \((\d+)/(\d+)\)")

#: Returns what else is known of a build, by its id; ``None`` where that is nothing.
Known = Callable[[str], Build | None]


class Inspection:
    """Reads the repository in ``folder``, bare or not; ``heads`` are those that somebody kept."""

    def __init__(
        self, folder: Path, heads: Sequence[Head] = (), known: Known | None = None
    ) -> None:
        if not folder.is_dir():
            raise InputError(f"no folder {folder}", hint="make a clone: rota clone DIR")
        self._folder, self._heads, self._known = folder, heads, known
        self._env = environment({"core.hooksPath": "/dev/null", "core.quotePath": "false"})
        self._env["GIT_OPTIONAL_LOCKS"] = "0"
        self._bad: dict[str, str] = {}  # objects that do not fit their hash, and git's words
        self._told: set[str] = set()

    def run(self) -> Iterator[Step]:
        """Yield what is wrong as it is found, how far it is, and at the end what there was.

        Raises:
            InputError: it is no store.
            UnavailableError: there is no git.
        """
        history, main = self._branch("history"), self._branch("main")
        if not main:
            raise InputError(
                f"{self._folder} is no clone of a store: it has no main",
                hint="make one: rota clone DIR",
            )
        yield from self._objects()
        auditor = Auditor()
        places: dict[str, Anchor] = {}
        if history:
            yield from self._commits(history, auditor, places)
        yield from kept_flaws(self._heads, places)
        yield from self._main(main, auditor.mains)
        records = 0
        if history:
            for step in self._records(history):
                if isinstance(step, int):
                    records = step
                else:
                    yield step
        for oid in self._bad.keys() - self._told:
            yield Flaw("object", oid, self._bad[oid])
        yield Summary(
            commits=auditor.commits,
            older=auditor.older,
            since=auditor.since,
            records=records,
            deeds=auditor.deeds,
            moves=len(auditor.mains),
            head=auditor.head,
            main=main,
        )

    # -- objects --------------------------------------------------------------------------------

    def _objects(self) -> Iterator[Step]:
        """Have git hash every object anew."""
        args = ("fsck", "--full", "--no-dangling", "--no-reflogs", "--progress")
        lines: list[str] = []
        with self._git(*args) as (process, out, err):
            reader = threading.Thread(target=lambda: lines.extend(_lines(out)))
            reader.start()
            rest = b""
            last = -1
            while piece := err.read1(PIECE):
                *whole, rest = re.split(rb"[\r\n]", rest + piece)
                for line in whole:
                    match = _PERCENT.match(line)
                    if match is None:
                        lines.append(line.decode("utf-8", "replace"))
                    elif int(match[1]) - last >= STEP or match[1] == match[2]:
                        last = int(match[1])
                        yield Progress("objects", last, int(match[2]))
            lines.append(rest.decode("utf-8", "replace"))
            reader.join()
            failed = process.wait() != 0
        told = [line for line in lines if _is_fault(line)]
        for line in told:
            for oid in (*_OID.findall(line), *map("".join, _FOUND_AT.findall(line))):
                self._bad.setdefault(oid, line)
        if failed and not self._bad:
            yield Flaw("object", str(self._folder), "; ".join(told[:5]) or "git fsck failed")

    # -- history --------------------------------------------------------------------------------

    def _commits(self, history: str, auditor: Auditor, places: dict[str, Anchor]) -> Iterator[Step]:
        wanted = {head.commit for head in self._heads}
        total = self._count(history)
        parted: Commit | None = None
        for commit in self._log(history):
            if isinstance(commit, Flaw):
                yield commit
                return
            yield from auditor.take(commit)
            if auditor.parted[-1:] == [commit.hash]:
                parted = commit
            if commit.hash in wanted and auditor.head.commit == commit.hash:
                places[commit.hash] = Anchor(auditor.head.seq, auditor.head.chain)
            if commit.hash in self._bad:
                yield self._object(commit.hash, f"commit {commit.hash}")
            for change in commit.changes:
                if change.blob in self._bad:
                    yield self._object(change.blob, f"{change.path} of commit {commit.hash}")
            if auditor.commits % STEP == 0:
                yield Progress("commits", auditor.commits, total)
        if parted is not None:
            yield from self._written_anew(parted)

    def _written_anew(self, commit: Commit) -> Iterator[Flaw]:
        """Name what differs between the commit that a seal names and the one that is there, if both are."""
        anchor = read_anchor(commit.message)
        if anchor is None or not anchor.former or anchor.former in commit.parents:
            return
        args = ("diff-tree", "-r", "-z", "--no-renames", anchor.former, *commit.parents[:1], "--")
        with self._git(*args) as (process, out, _):
            found = [token for token in _tokens(out) if token]
            if process.wait() != 0:
                return  # it is not here any more
        for about, path in zip(found[::2], found[1::2], strict=False):
            words = about.split(" ")
            then, now = self._blob(words[2]), self._blob(words[3])
            if then is None or now is None:
                text = "is not there any more" if now is None else "was not there"
                yield Flaw("record", path, f"it {text} when commit {commit.hash} was made")
                continue
            ones, others = decode(now), decode(then)
            what = difference(ones, others) if ones is not None and others is not None else ""
            yield Flaw("record", path, f"it was written anew: {what or 'it is no record any more'}")

    def _blob(self, oid: str) -> bytes | None:
        with self._git("cat-file", "blob", oid) as (process, out, _):
            data = out.read()
            return data if process.wait() == 0 else None

    def _object(self, oid: str, where: str) -> Flaw:
        self._told.add(oid)
        return Flaw("object", where, f"its bytes are not those of {oid}: {self._bad[oid]}")

    def _log(self, history: str) -> Iterator[Commit | Flaw]:
        """Yield all commits, the first one first; a flaw where git can read no further."""
        args = ("log", "--reverse", "--topo-order", "--raw", "-z", "--no-renames", "--no-abbrev")
        last = ""
        with self._git(*args, "--format=%x01%H %P%n%B%x02", history, "--") as (process, out, err):
            for commit in _commits(_tokens(out)):
                last = commit.hash
                yield commit
            said = err.read()
            if process.wait() != 0:
                where = f"after commit {last}" if last else "history"
                yield Flaw("commit", where, f"git reads no further: {words(said)}")

    def _records(self, history: str) -> Iterator[Step | int]:
        """Read each record as ``history`` has it now; yield how many at last."""
        total = done = 0
        for path, oid, data in self._files(history, f"{FOLDER}/"):
            if data is None:
                if oid not in self._told:
                    self._told.add(oid)
                    why = self._bad.get(oid, "git has no such object")
                    yield Flaw("object", f"{path} of commit {history}", why)
                continue
            done += 1
            build = decode(data)
            yield from record_flaws(path, data, build)
            if build is not None and self._known is not None:
                yield from self._compared(path, build)
            if done % STEP == 0:
                yield Progress("records", done, total)
        yield done

    def _compared(self, path: str, build: Build) -> Iterator[Flaw]:
        assert self._known is not None
        other = self._known(build.id)
        if other is None or other.last_seq > build.last_seq:
            return  # tried again meanwhile
        if what := difference(build, other):
            yield Flaw("record", path, f"this agent's index has another one: {what}")

    def _files(self, commit: str, folder: str) -> Iterator[tuple[str, str, bytes | None]]:
        """Yield path, blob and bytes of all files in a folder; ``None`` for what git cannot read."""
        listing = ("ls-tree", "-r", "-z", "--full-tree", commit, folder)
        with (
            self._git(*listing) as (_, out, _),
            self._git("cat-file", "--batch", stdin=True) as (cat, answers, _),
        ):
            assert cat.stdin is not None
            for batch in _batched(_tokens(out), 400):
                entries = [entry.partition("\t") for entry in batch]
                oids = [about.rpartition(" ")[2] for about, _, _ in entries]
                cat.stdin.write("".join(f"{oid}\n" for oid in oids).encode())
                cat.stdin.flush()
                for (_, _, path), oid in zip(entries, oids, strict=True):
                    head = answers.readline().split()
                    if len(head) != 3:
                        yield path, oid, None
                        if not head:
                            return  # git has died of it
                        continue
                    data = answers.read(int(head[2]) + 1)[:-1]
                    yield path, oid, data

    # -- main -----------------------------------------------------------------------------------

    def _main(self, main: str, mains: Sequence[tuple[str, str]]) -> Iterator[Step]:
        with self._git("rev-list", "--reverse", "--topo-order", main, "--") as (process, out, err):
            line = [each.decode().strip() for each in out]
            said = err.read()
            if process.wait() != 0:
                yield Flaw("main", f"commit {main}", f"git reads no further: {words(said)}")
                return
        yield Progress("main", len(line), len(line))
        if self._bad:
            yield from self._definitions(main)
        yield from main_flaws(line, mains, is_whole=self._known is None)

    def _definitions(self, main: str) -> Iterator[Step]:
        """Name the files of ``main`` whose objects do not fit their hash."""
        for commit in self._log(main):
            if isinstance(commit, Flaw):
                yield Flaw("main", commit.where, commit.text)
                return
            if commit.hash in self._bad:
                yield self._object(commit.hash, f"commit {commit.hash} of main")
            for change in commit.changes:
                if change.blob in self._bad:
                    yield self._object(
                        change.blob, f"{change.path} of commit {commit.hash} of main"
                    )

    # -- git ------------------------------------------------------------------------------------

    def _branch(self, name: str) -> str:
        for ref in (f"refs/remotes/origin/{name}", f"refs/heads/{name}"):
            with self._git("rev-parse", "--verify", "--quiet", ref) as (_, out, _):
                if found := out.read().decode().strip():
                    return found
        return ""

    def _count(self, history: str) -> int:
        with self._git("rev-list", "--count", history, "--") as (_, out, _):
            text = out.read().decode().strip()
        return int(text) if text.isdigit() else 0

    @contextmanager
    def _git(
        self, *args: str, stdin: bool = False
    ) -> Iterator[tuple[subprocess.Popen[bytes], BufferedReader, BufferedReader]]:
        try:
            process = subprocess.Popen(
                ["git", *args],
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except FileNotFoundError as error:
            raise UnavailableError("no git on PATH", hint="install git 2.34+") from error
        out, err = cast("BufferedReader", process.stdout), cast("BufferedReader", process.stderr)
        try:
            yield process, out, err
        finally:
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
            out.close()
            err.close()
            if process.poll() is None:
                process.kill()
            process.wait()


def _is_fault(line: str) -> bool:
    """Whether a line of ``git fsck`` tells of something that is not as it was."""
    return line.startswith(("error", "fatal", "missing", "broken link", "bad ", "    to", "  to"))


def _lines(out: BufferedReader) -> list[str]:
    return out.read().decode("utf-8", "replace").splitlines()


def _tokens(out: BufferedReader) -> Iterator[str]:
    """Yield what stands between NULs."""
    rest = b""
    while piece := out.read1(PIECE):
        *whole, rest = (rest + piece).split(b"\0")
        for token in whole:
            yield token.decode("utf-8", "surrogateescape")
    if rest.strip():
        yield rest.decode("utf-8", "surrogateescape")


def _commits(tokens: Iterator[str]) -> Iterator[Commit]:
    """Yield the commits of ``git log --raw -z``: each a head, then pairs of what and where."""
    head = ""
    changes: list[Change] = []
    for token in tokens:
        text = token.lstrip("\n")
        if text.startswith("\x01"):
            if head:
                yield _commit(head, changes)
            head, changes = text, []
        elif text.startswith(":"):
            about = text.split(" ")
            changes.append(Change(about[4][:1], next(tokens, ""), about[3]))
    if head:
        yield _commit(head, changes)


def _commit(head: str, changes: Sequence[Change]) -> Commit:
    names, _, message = head[1:].partition("\n")
    commit, *parents = names.split()
    return Commit(commit, tuple(parents), message.rpartition("\x02")[0], tuple(changes))


def _batched(tokens: Iterator[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for token in tokens:
        batch.append(token)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
