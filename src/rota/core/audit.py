"""Whether a history is what it was: its commits, what they say of one another and of the journal.

Git's hashes keep each commit and everything in it as it is, as long as the commit that follows is the
same. What an :class:`Auditor` adds: that each follows the one before it, that seals name the commits
that are there, that nothing is dropped, and that ``main`` is where the journal moved it. It is pure;
who reads the repository gives it what is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from rota.core.build import Build
from rota.core.chain import Anchor, read_anchor
from rota.core.deeds import LINE, read_deed
from rota.core.job import Int
from rota.core.records import FOLDER, covered, record_path
from rota.core.schedules import FOLDER as LEDGER

#: The head of a history, as it is kept elsewhere, begins with this.
HEAD = "rota-audit-1"


class Flaw(msgspec.Struct, frozen=True, tag="flaw"):
    """Something that is not as it was.

    ``what`` is ``object`` (git's bytes do not fit their hash), ``commit``, ``record``, ``deed``,
    ``main``, ``journal``, ``log``, ``index``, ``head`` or ``agent``; ``where`` names it.
    """

    what: str
    where: str
    text: str


class Change(msgspec.Struct, frozen=True):
    """What a commit did to one file: ``A`` added it, ``M`` wrote it anew, anything else took it away."""

    status: str
    path: str
    blob: str


class Commit(msgspec.Struct, frozen=True):
    """A commit of ``history``, as it stands in the repository."""

    hash: str
    parents: tuple[str, ...]
    message: str
    changes: tuple[Change, ...] = ()


class Head(msgspec.Struct, frozen=True):
    """The end of a history in one line, to keep where no agent can write."""

    seq: Int = 0
    chain: str = ""
    commit: str = ""

    def line(self) -> str:
        """Return it as text."""
        return f"{HEAD} {self.seq} {self.chain or '-'} {self.commit or '-'}"


def read_head(line: str) -> Head | None:
    """Return the head that a line tells; ``None`` if it tells none."""
    words = line.split()
    if len(words) != 4 or words[0] != HEAD or not (words[1].isascii() and words[1].isdigit()):
        return None
    chain, commit = ("" if word == "-" else word for word in words[2:])
    return Head(int(words[1]), chain, commit)


class Summary(msgspec.Struct, frozen=True, kw_only=True, tag="summary"):
    """What was looked at.

    ``since`` is the first commit with an anchor, ``""`` if there is none; ``older`` are before it.
    """

    commits: Int = 0
    older: Int = 0
    since: str = ""
    records: Int = 0
    deeds: Int = 0
    moves: Int = 0
    head: Head = Head()
    main: str = ""  # where the branch is


Stage = Literal["objects", "commits", "main", "records", "journal", "logs", "agents"]


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far one stage is; without a ``total`` nobody knows."""

    stage: Stage
    done: Int
    total: Int = 0


class Auditor:
    """Takes the commits of ``history``, from the first on, and says what is wrong with each."""

    def __init__(self) -> None:
        self._last = ""
        self._covers = 0
        self._deed = 0
        self.head = Head()
        self.since = ""
        self.commits = self.older = self.deeds = 0
        self.parted: list[str] = []  # commits whose seals name another one before them
        self.mains: list[tuple[str, str]] = []  # where `main` was, and by which commit

    def take(self, commit: Commit) -> Iterator[Flaw]:
        """Yield what is wrong with the next commit, as far as it itself and those before it tell."""
        where = f"commit {commit.hash}"
        expected = (self._last,) if self._last else ()
        if commit.parents != expected:
            text = f"it follows {_names(commit.parents)}, and not {_names(expected)}"
            yield Flaw("commit", where, text)
        covers = covered(commit.message)
        if covers <= self._covers:
            yield Flaw(
                "commit", where, f"it covers event {covers}, the one before it {self._covers}"
            )
        yield from self._anchored(commit, covers, where)
        yield from self._changed(commit, where)
        yield from self._done(commit, covers, where)
        self._last, self._covers = commit.hash, max(covers, self._covers)
        self.commits += 1

    def _anchored(self, commit: Commit, covers: int, where: str) -> Iterator[Flaw]:
        anchor = read_anchor(commit.message)
        if anchor is None:
            if self.since:
                text = "it says nothing of the journal, and commits before it do"
                yield Flaw("commit", where, text)
            return
        if not self.since:
            self.since, self.older = commit.hash, self.commits
        if anchor.seq <= covers:
            text = f"its seal is event {anchor.seq}, and covers event {covers}"
            yield Flaw("commit", where, text)
        if anchor.former != self._last:
            self.parted.append(commit.hash)
            # All that come after it are other commits than those that were sealed: that is said once.
            if len(self.parted) == 1:
                text = (
                    f"its seal names {anchor.former or 'nothing'} as the commit before it, and that "
                    f"is {self._last or 'nothing'}: it, or one before it, was written anew, added or "
                    "dropped"
                )
                yield Flaw("commit", where, text)
        if anchor.main and (not self.mains or self.mains[-1][0] != anchor.main):
            self.mains.append((anchor.main, commit.hash))
        self.head = Head(anchor.seq, anchor.chain, commit.hash)

    def _changed(self, commit: Commit, where: str) -> Iterator[Flaw]:
        records = 0
        for change in commit.changes:
            is_record = change.path.startswith(f"{FOLDER}/")
            records += is_record
            if not is_record and not change.path.startswith(f"{LEDGER}/"):
                yield Flaw("commit", where, f"it writes {change.path}, which no seal does")
            elif change.status not in ("A", "M"):
                yield Flaw("record", change.path, f"{where} drops it")
        said = commit.message.split(maxsplit=2)
        if said[:1] != ["history:"] or said[1:2] != [str(records)]:
            text = f"it says {' '.join(said[:2])!r} and has the records of {records} builds"
            yield Flaw("commit", where, text)

    def _done(self, commit: Commit, covers: int, where: str) -> Iterator[Flaw]:
        for line in commit.message.split("\n"):
            if not line.startswith(LINE):
                continue
            deed = read_deed(line)
            if deed is None:
                yield Flaw("deed", where, f"nobody can read {line[:120]!r}")
                continue
            self.deeds += 1
            if not self._deed < deed.seq <= covers:
                text = f"event {deed.seq} is told after {self._deed}, by a seal up to {covers}"
                yield Flaw("deed", where, text)
            self._deed = max(self._deed, deed.seq)


def kept_flaws(heads: Iterable[Head], places: dict[str, Anchor]) -> Iterator[Flaw]:
    """Yield what is wrong where somebody kept ``heads`` of a history whose anchors are ``places``."""
    for head in heads:
        anchor = places.get(head.commit)
        if anchor is None:
            text = "the history does not have the commit, or nothing anchors it"
            yield Flaw("head", head.line(), text)
        elif (anchor.seq, anchor.chain) != (head.seq, head.chain):
            text = f"the commit says {anchor.seq} {anchor.chain} there"
            yield Flaw("head", head.line(), text)


def main_flaws(
    line: Sequence[str], mains: Sequence[tuple[str, str]], *, is_whole: bool
) -> Iterator[Flaw]:
    """Yield what is wrong with ``main``.

    Args:
        line: All its commits, those before others first.
        mains: Where the journal had moved it, in order, and the commits of ``history`` that say so.
        is_whole: Nothing else says where the journal moved it: so it ends where they say.
    """
    places = {commit: place for place, commit in enumerate(line)}
    last = -1
    for commit, witness in mains:
        place = places.get(commit)
        if place is None:
            text = f"the journal had moved main there, as commit {witness} of history says; main does not have it"
            yield Flaw("main", f"commit {commit}", text)
        elif place < last:
            yield Flaw("main", f"commit {commit}", "main went back to it, which it never does")
        else:
            last = place
    if is_whole and mains and line and mains[-1][0] != line[-1] and last >= 0:
        count = len(line) - 1 - last
        text = (
            f"main has {count} commit{'' if count == 1 else 's'} after {line[last]}, and history "
            "does not say yet that the journal moved it there; it does within seconds: if this was "
            "cloned just then, fetch again"
        )
        yield Flaw("main", f"commit {line[-1]}", text)


def record_flaws(path: str, data: bytes, build: Build | None) -> Iterator[Flaw]:
    """Yield what is wrong with a record, given the build that it holds, if it can be read."""
    if build is None:
        yield Flaw("record", path, f"it holds no build: {data[:80]!r}")
    elif record_path(build) != path:
        yield Flaw("record", path, f"it holds {build.ref}, whose place is {record_path(build)}")


def difference(build: Build, other: Build) -> str:
    """Return the first field, by name, in which two records of a build differ, with both values."""
    ones, others = msgspec.to_builtins(build), msgspec.to_builtins(other)
    for name in sorted(ones):
        if ones[name] != others[name]:
            inner = _inner(ones[name], others[name])
            return f"{name}{inner[0]} is {_short(inner[1])} here and {_short(inner[2])} there"
    return ""


def _inner(one: object, other: object) -> tuple[str, object, object]:
    """Return where within a field two values differ first."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            if one.get(name) != other.get(name):
                inner = _inner(one.get(name), other.get(name))
                return f".{name}{inner[0]}", inner[1], inner[2]
    return "", one, other


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."


def _names(commits: tuple[str, ...]) -> str:
    return " and ".join(commits) or "nothing"


#: What an inspection says, one after the other; the summary is its last word.
Step = Progress | Flaw | Summary
