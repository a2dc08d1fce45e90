"""Watched repositories: their own jobs, adopted for each branch and pull request.

``watches/NAME.toml`` on ``main`` says what is watched, ``adopted/NAME.json`` beside it what was taken
over last: for each branch a folder of jobs, their scripts byte for byte those of the repository. What
follows from that, a job's source and what starts it, is filled in when the definitions are read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot
from rota.core.job import Int, Job, Need
from rota.core.patterns import matches
from rota.core.problem import Problem
from rota.core.repository import repo_key
from rota.core.scm import OWN, Scm, read_url, shown
from rota.core.told import Pull, Tip
from rota.core.toml_document import Source, read_document
from rota.core.triggers import After, PullRequest, Push

WATCHES, ADOPTED = "watches/", "adopted/"
#: Where a repository keeps its jobs.
FOLDER = ".rota/jobs"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
POLL_S = 60.0
MAX_BRANCHES = 200
MAX_JOBS = 200
MAX_FAULTS = 20
BRANCH = "refs/heads/"


class WatchFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``watches/NAME.toml`` says."""

    git: str = ""
    branches: tuple[str, ...] = ("*",)
    pull_requests: bool = False
    poll_s: float = POLL_S


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was adopted of one ref: the commit, its jobs, and what was wrong with some of them.

    ``seq`` is the event that told of the commit; 0 where it was there before anybody looked. A pull
    request has a ``number``, and a ``base`` that it is merged into. ``files`` are those that changed
    since the commit before; ``None`` where nobody knows.
    """

    ref: str
    commit: str
    seq: Int = 0
    jobs: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    number: Int = 0
    base: str = ""
    head: str = ""
    head_url: str = ""
    fork: bool = False
    files: tuple[str, ...] | None = None

    @property
    def branch(self) -> str:
        """The branch; empty for a pull request."""
        return self.ref.removeprefix(BRANCH) if self.ref.startswith(BRANCH) else ""


class Adopted(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``adopted/NAME.json`` says: for each folder below the watch's name what is in it."""

    entries: dict[str, Entry] = {}


class Adoption(msgspec.Struct, frozen=True):
    """Where an adopted job comes from, and for what of its repository it waits."""

    watch: str
    folder: str
    entry: Entry
    rules: tuple[Push | PullRequest, ...] = ()


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be adopted of one ref."""

    ref: str
    commit: str
    seq: int = 0
    number: int = 0
    base: str = ""
    head: str = ""
    head_url: str = ""
    fork: bool = False


def targets(watch: WatchFile, tips: Mapping[str, Tip], pulls: Iterable[Pull]) -> dict[str, Target]:
    """Return what is to be adopted, by ref: branches that are there, pull requests that are open."""
    repo = repo_key(watch.git)
    found: dict[str, Target] = {}
    prefix = f"{repo} {BRANCH}"
    for key, tip in tips.items():
        if key.startswith(prefix) and matches(watch.branches, key.removeprefix(prefix)):
            ref = key.removeprefix(f"{repo} ")
            seq = 0 if tip.was_there else tip.seq
            found[ref] = Target(ref=ref, commit=tip.commit, seq=seq)
    if watch.pull_requests:
        for pull in pulls:
            if repo in (pull.repo, *pull.also):
                found[pull.ref] = Target(
                    ref=pull.ref,
                    commit=pull.commit,
                    seq=pull.seq,
                    number=pull.number,
                    base=pull.base,
                    head=pull.head,
                    head_url=pull.head_url,
                    fork=pull.fork,
                )
    return found


def folder_for(target: Target, adopted: Adopted) -> str:
    """Return the folder of a ref's jobs: the one it has, or a new one that no other ref has."""
    for folder, entry in adopted.entries.items():
        if entry.ref == target.ref:
            return folder
    name = target.ref.removeprefix(BRANCH)
    fit = f"pull-{target.number}" if target.number else _fit(name)
    taken = {folder.casefold() for folder in adopted.entries}
    digest = hashlib.sha256(target.ref.encode()).hexdigest()
    return fit if fit.casefold() not in taken else f"{fit[:40]}-{digest[:8]}"


def _fit(name: str) -> str:
    text = re.sub(r"[^A-Za-z0-9_.+-]+", "-", name)[:50].lstrip(".-+").removesuffix(".lock")
    return text or "branch-" + hashlib.sha256(name.encode()).hexdigest()[:8]


def adopt(job: Job, watch: WatchFile, adoption: Adoption) -> tuple[Job, Adoption]:
    """Return a repository's own job as it is run here, and what of it waits for pushes.

    Its source is the branch it stands in, it waits for pushes of that alone, and what it calls by a
    name of its own folder is meant so. What a pull request says is started by nothing else.
    """
    entry, prefix = adoption.entry, f"{adoption.watch}/{adoption.folder}/"
    scm = job.spec.scm or Scm(git=OWN)
    if scm.git == OWN:
        branch = "" if entry.number or scm.ref else entry.branch
        scm = replace(scm, git=watch.git, branch=branch, poll_s=None)
    own = tuple(it for it in job.on if isinstance(it, Push | PullRequest) and not it.repo)
    others = () if entry.number else tuple(it for it in job.on if it not in own)

    def full(name: str) -> str:
        return prefix + name if name in entry.jobs else name

    needs: tuple[Need, ...] = tuple(replace(need, job=full(need.job)) for need in job.needs)
    others = tuple(replace(it, job=full(it.job)) if isinstance(it, After) else it for it in others)
    filled = replace(job, spec=replace(job.spec, scm=scm), on=others, needs=needs)
    return filled, replace(adoption, rules=own)


def is_meant(adoption: Adoption) -> bool:
    """Whether what was adopted last starts the job."""
    entry = adoption.entry
    if not entry.seq:
        return False
    if not adoption.rules:
        return True
    for rule in adoption.rules:
        if isinstance(rule, PullRequest):
            is_it = bool(entry.number) and matches(rule.branches, entry.base)
        else:
            is_it = not entry.number and matches(rule.branches, entry.branch)
        if is_it and (not rule.files or entry.files is None or _touches(rule.files, entry.files)):
            return True
    return False


def _touches(globs: tuple[str, ...], files: tuple[str, ...]) -> bool:
    from rota.core.patterns import files_match

    return files_match(globs, files)


# -- files ----------------------------------------------------------------------------------------


def watch_name_fault(name: str) -> str | None:
    """Say what is wrong with a watch's name; ``None`` if nothing is."""
    return None if NAME.fullmatch(name) else "1 to 63 letters, digits and . _ -, such as web"


def encode_watch(watch: WatchFile) -> bytes:
    """Return the file of a watch."""

    def text(value: object) -> str:
        return msgspec.json.encode(value).decode()

    lines = [f"git = {text(watch.git)}", f"branches = {text(list(watch.branches))}"]
    if watch.pull_requests:
        lines.append("pull_requests = true")
    lines.append(f'poll = "{watch.poll_s:g}s"')
    return ("\n".join(lines) + "\n").encode()


def parse_watch(text: str, path: str) -> tuple[WatchFile | None, tuple[Problem, ...]]:
    """Return what a watch's file says, and all that is wrong with it. Never raises."""
    document, faults = read_document(Source(path, tuple(text.splitlines())))
    problems = list(faults)
    spot = Spot(document, problems)
    values = fields.read_table(document.table, spot, _WATCH)
    if "git" not in document.table:
        problems.append(
            Problem(path, 0, 0, "git is missing", 'git = "https://git.example/web.git"')
        )
    return (None if problems else WatchFile(**values)), tuple(problems)


def encode_adopted(adopted: Adopted) -> bytes:
    """Return the file of what was adopted: the same bytes for the same."""
    return msgspec.json.format(msgspec.json.encode(adopted, order="sorted"), indent=1) + b"\n"


def parse_adopted(data: bytes) -> Adopted | None:
    """Return what was adopted; ``None`` if the file cannot be read. Never raises."""
    try:
        return msgspec.json.decode(data, type=Adopted)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _git(value: Any, spot: Spot) -> str:
    url = read_url(value, spot)
    if url == OWN:
        raise FieldError(f"is no repository's URL: {shown(url)!r}")
    return url


def _globs(value: Any, spot: Spot) -> tuple[str, ...]:
    return fields.list_of(fields.text)(value, spot)


_WATCH = {
    "git": Field("git", _git, 'git = "https://git.example/web.git"'),
    "branches": Field("branches", _globs, 'branches = ["main", "release/*"]'),
    "pull_requests": Field("pull_requests", fields.boolean, "pull_requests = true"),
    "poll": Field("poll_s", fields.duration(5, 30 * 86_400.0), 'poll = "1m"'),
}
