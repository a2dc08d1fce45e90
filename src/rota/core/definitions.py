"""All that ``main`` defines: jobs, which of them are paused, calendars, webhooks, and the settings.

=======================  ===========================================================
``jobs/web/test``        the job ``web/test``: a script, its settings in its header
``paused/web/test``      it is paused: ``by``, ``at`` and ``reason``, all optional
``calendars/NAME.toml``  a calendar; or ``NAME.ics``, an iCalendar file
``hooks/NAME.toml``      a webhook that may be called
``watches/NAME.toml``    a repository whose own jobs are adopted
``adopted/NAME.json``    what was adopted of it; written by the leader
``users/NAME.toml``      a user: what somebody may, and by what chat networks know them
``secrets/NAME.toml``      a secret, its value encrypted
``secrets/recipients.txt`` the public key it is encrypted for
``settings.toml``        what concerns all jobs
=======================  ===========================================================

Every other file is left alone. A fault in one file takes nothing from the others. What was parsed
is kept by path and hash, so that taking over a commit costs as much as was changed in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from rota.core.calendar_file import Use
from rota.core.calendars import Calendar, CalendarFile, resolve, tangle
from rota.core.confinement import trespasses
from rota.core.definition_file import (
    CALENDARS,
    HOOKS,
    JOBS,
    SETTINGS,
    Parsed,
    calendar_name,
    is_definition,
    parse_file,
)
from rota.core.hook import HookFile
from rota.core.job import Job
from rota.core.needs import need_problems
from rota.core.paused import PAUSED, Paused
from rota.core.problem import Problem, nearest
from rota.core.promotions import PROMOTED, Promotion
from rota.core.secrets import (
    RECIPIENTS,
    SECRETS,
    SecretFile,
    unknown_uses,
)
from rota.core.settings import Settings
from rota.core.settings_notify import job_problems
from rota.core.users import USERS, User, Users, claims_of, twins, user_name
from rota.core.watches import (
    ADOPTED,
    WATCHES,
    Adopted,
    Adoption,
    WatchFile,
    adopt,
)

_T = TypeVar("_T")


class Definition(msgspec.Struct, frozen=True):
    """A job as it stands in the store; ``blob`` is the hash of its script."""

    job: Job
    blob: str
    paused: Paused | None = None
    adopted: Adoption | None = None


NOBODY = Users()


class Definitions(msgspec.Struct, frozen=True):
    """What one tree defines. ``files`` is what the next tree's :func:`check` need not do again."""

    jobs: Mapping[str, Definition] = {}
    settings: Settings = Settings()
    files: Mapping[str, Parsed] = {}
    calendars: Mapping[str, Calendar] = {}
    hooks: Mapping[str, HookFile] = {}
    watches: Mapping[str, WatchFile] = {}
    adopted: Mapping[str, Adopted] = {}
    promoted: Mapping[str, Promotion] = {}
    secrets: Mapping[str, SecretFile] = {}
    recipient: str = ""  # the public key that secrets are encrypted for; empty: there are none yet
    users: Users = NOBODY


EMPTY = Definitions()


def blob_hash(data: bytes) -> str:
    """Return the name that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def folder_fault(added: Iterable[str], files: Collection[str]) -> str | None:
    """Say which of the ``added`` files stands where a folder is, or the reverse; ``None`` if none.

    git would drop a whole folder without a word to put a file in its place.
    """
    for path in added:
        if any(file.startswith(f"{path}/") for file in files):
            return f"{path} is a folder, it cannot be a file too"
        for at, letter in enumerate(path):
            if letter == "/" and path[:at] in files:
                return f"{path[:at]} is a file, it cannot be a folder too"
    return None


def wanted(tree: Mapping[str, str], former: Definitions = EMPTY) -> frozenset[str]:
    """Return the hashes whose bytes :func:`check` will ask for."""
    return frozenset(
        blob
        for path, blob in tree.items()
        if is_definition(path) and not _known(path, blob, former)
    )


def check(
    tree: Mapping[str, str], blobs: Mapping[str, bytes], former: Definitions = EMPTY
) -> tuple[Definitions, tuple[Problem, ...]]:
    """Return what a tree defines, and every problem that its files have.

    Args:
        tree: Path -> hash of all files.
        blobs: Hash -> bytes of at least what :func:`wanted` names.
        former: An earlier result; its files are not parsed again where path and hash agree.
    """
    files = {
        path: _known(path, blob, former) or parse_file(path, blob, blobs[blob])
        for path, blob in tree.items()
        if is_definition(path)
    }
    problems = [problem for parsed in files.values() for problem in parsed.problems]
    problems += clashes(files, files)
    problems += _misnamed(files, calendar_names(files))
    problems += _tangles(files)
    problems += _not_allowed(files, _settings(files))
    problems += _strangers(files, files)
    problems += _without_secrets(files, _named(files, SECRETS, ".toml", SecretFile))
    found = _definitions(files, former)
    return found, tuple(sorted([*problems, *found.users.problems]))


def check_tree(
    files: Mapping[str, bytes], former: Definitions = EMPTY
) -> tuple[Definitions, tuple[Problem, ...]]:
    """Do what :func:`check` does, given path -> bytes."""
    tree = {path: blob_hash(data) for path, data in files.items()}
    return check(tree, {tree[path]: data for path, data in files.items()}, former)


def check_changes(
    changes: Mapping[str, bytes | None],
    paths: Iterable[str] = (),
    others: Mapping[str, bytes] = {},
    settings: bytes | None = None,
    needing: Mapping[str, bytes] = {},
    removed: Collection[str] = (),
    secrets: Mapping[str, bytes] | None = None,
    users: Mapping[str, bytes] = {},
) -> tuple[Problem, ...]:
    """Return the problems of changed files alone; what was bad before is not looked at.

    Args:
        changes: Path -> new bytes; ``None`` for a file that goes.
        paths: Of all files after the change, to see names that differ only in case, and which
            calendars there are.
        others: Files that stay as they are, if calendars or the settings change: some may name a
            calendar or a limit that goes.
        settings: The settings after the change, which changed jobs may name limits of; ``None``
            leaves that out.
        needing: Jobs that stay as they are and may need others: these may go, or lead back to them.
        removed: The paths of files that go.
        secrets: The secrets after the change; ``None`` leaves out whether they are there.
        users: Users that stay as they are, if any changes: two may claim the same.
    """
    new = {path: data for path, data in changes.items() if data is not None}
    files = {path: parse_file(path, "", data) for path, data in new.items() if is_definition(path)}
    problems = [problem for parsed in files.values() for problem in parsed.problems]
    every = [*paths, *new]
    problems += clashes(new, every)
    staying = {
        path: parse_file(path, "", data) for path, data in others.items() if path not in changes
    }
    problems += _misnamed(files | staying, calendar_names(every))
    problems += _tangles(files | staying)
    problems += _strangers(files, every)
    if settings is not None:
        known = {SETTINGS: parse_file(SETTINGS, "", settings)}
        problems += _not_allowed(files | staying, _settings(known))
    if secrets is not None:
        among = {path: parse_file(path, "", data) for path, data in secrets.items()} | files
        problems += _without_secrets(files | staying, _named(among, SECRETS, ".toml", SecretFile))
    claims = {path: it.claims for path, it in files.items() if path.startswith(USERS)}
    known_claims = {path: claims_of(data) for path, data in users.items() if path not in changes}
    problems += twins(claims, {**known_claims, **claims})
    waiting = {path: parse_file(path, "", data) for path, data in needing.items()} | files
    problems += need_problems(
        {it.value.name: it.value for it in waiting.values() if isinstance(it.value, Job)},
        {path.removeprefix(JOBS) for path in every if path.startswith(JOBS)},
        changed={path.removeprefix(JOBS) for path in new},
        removed={path.removeprefix(JOBS) for path in removed},
    )
    return tuple(sorted(problems))


def check_file(
    path: str,
    data: bytes,
    calendars: Collection[str] | None = None,
    settings: Settings | None = None,
    secrets: Mapping[str, SecretFile] | None = None,
) -> tuple[Problem, ...]:
    """Return the problems of one file that is a definition.

    With ``calendars``, ``settings`` and ``secrets`` also of what it names of them.
    """
    parsed = parse_file(path, "", data)
    misnamed = _misnamed({path: parsed}, calendars) if calendars is not None else []
    unset = _without_secrets({path: parsed}, secrets) if secrets is not None else []
    limits = _not_allowed({path: parsed}, settings)
    return tuple(sorted([*parsed.problems, *misnamed, *limits, *unset]))


def calendar_names(paths: Iterable[str]) -> set[str]:
    """Return the names of the calendars among ``paths``."""
    return {name for path in paths if (name := calendar_name(path)) is not None}


def _settings(files: Mapping[str, Parsed]) -> Settings | None:
    """Return the settings, the defaults where there are none; ``None`` where they have faults."""
    parsed = files.get(SETTINGS)
    if parsed is None:
        return Settings()
    is_good = not parsed.problems and isinstance(parsed.value, Settings)
    return parsed.value if is_good else None  # type: ignore[return-value]  # it is, if it is good


def _not_allowed(files: Mapping[str, Parsed], settings: Settings | None) -> list[Problem]:
    """Return a problem for each thing that a job asks for and the settings do not allow."""
    found = _without_limits(files, settings)
    if settings is None:
        return found
    for path, parsed in files.items():
        if isinstance(parsed.value, Job):
            hint = f"[isolation] in {SETTINGS} says what may be"
            texts = trespasses(parsed.value.spec, settings.isolation)
            found += [Problem(path, 0, 0, text, hint) for text in texts]
            channels = parsed.value.spec.notify.channels or ()
            found += [Problem(path, 0, 0, *fault) for fault in job_problems(settings, channels)]
    return found


def _strangers(files: Mapping[str, Parsed], paths: Iterable[str]) -> list[Problem]:
    """Return a problem for each user who is to be told by a channel, and is none."""
    found = []
    users: set[str] | None = None
    for path, parsed in files.items():
        value = parsed.value
        channels = value.notify if isinstance(value, Settings) else ()
        if isinstance(value, Job):
            channels = value.spec.notify.channels or ()
        for name in {target.user for channel in channels for target in channel.to} - {""}:
            users = users if users is not None else {user_name(it) for it in paths}
            if name not in users:
                hint = nearest(name, users) or f"make one: rota user set {name}"
                found.append(Problem(path, 0, 0, f"notify: no user is called {name!r}", hint))
    return found


def _without_limits(files: Mapping[str, Parsed], settings: Settings | None) -> list[Problem]:
    """Return a problem for each limit that a job takes of and that is not there, or not so large."""
    found = []
    limits = settings.limits if settings is not None else {}
    for path, parsed in files.items() if settings is not None else ():
        job = parsed.value
        if not isinstance(job, Job):
            continue
        for take, (line, column) in zip(job.spec.limits, job.limit_places, strict=False):
            capacity = limits.get(take.name)
            if capacity is None:
                text = f"no limit is called {take.name!r}"
                hint = nearest(take.name, limits)
                hint = hint or f"set it in {SETTINGS}: [limits] {take.name} = {max(1, take.take)}"
                found.append(Problem(path, line, column, text, hint))
            elif take.take > capacity > 0:
                text = f"takes {take.take} of {take.name!r}, of which there are {capacity}"
                hint = f"take less, or raise it in {SETTINGS}"
                found.append(Problem(path, line, column, text, hint))
    return found


def _without_secrets(
    files: Mapping[str, Parsed], secrets: Mapping[str, SecretFile]
) -> list[Problem]:
    """Return a problem for each secret that a job asks for and that is not there, or not for it."""
    return [
        problem
        for path, parsed in files.items()
        if isinstance(parsed.value, Job)
        for problem in unknown_uses(path, parsed.value.spec.secrets, parsed.value.name, secrets)
    ]


def unknown_calendars(
    path: str, uses: Iterable[Use], calendars: Collection[str]
) -> Iterator[Problem]:
    """Yield a problem for each place of a file that names a calendar which is not there."""
    for use in uses:
        if use.name not in calendars:
            hint = nearest(use.name, calendars) or f"add {CALENDARS}{use.name}.toml"
            text = f"no calendar is called {use.name!r}"
            yield Problem(path, use.line, use.column, text, hint)


def _misnamed(files: Mapping[str, Parsed], calendars: Collection[str]) -> list[Problem]:
    return [
        problem
        for path, parsed in files.items()
        for problem in unknown_calendars(path, parsed.uses, calendars)
    ]


def _tangles(files: Mapping[str, Parsed]) -> list[Problem]:
    """Return a problem for calendars of one name, and for those that lead back to themselves."""
    found = []
    by_name: dict[str, tuple[str, Parsed]] = {}
    for path, parsed in sorted(files.items()):
        if (name := calendar_name(path)) is None:
            continue
        if name in by_name:
            text = f"there is also {by_name[name][0]}, which has the same name"
            found.append(Problem(path, 0, 0, text))
        by_name[name] = (path, parsed)
    refers = {name: [use.name for use in parsed.uses] for name, (_, parsed) in by_name.items()}
    for name, (path, parsed) in by_name.items():
        for use in parsed.uses:
            if (what := tangle(name, {**refers, name: [use.name]})) is not None:
                text = f"the calendar {use.name} {what}"
                found.append(Problem(path, use.line, use.column, text, "leave out one of them"))
    return found


def clashes(paths: Collection[str], among: Iterable[str]) -> list[Problem]:
    """Return a problem for each of ``paths`` whose job differs from another one only in case.

    Half of the world's file systems could not hold a clone of both.
    """
    spellings: dict[str, set[str]] = {}
    for path in among:
        if path.startswith(JOBS):
            spellings.setdefault(path.casefold(), set()).add(path)
    found = []
    for path in paths:
        others = spellings.get(path.casefold(), set()) - {path}
        if others and path.startswith(JOBS):
            text = f"there is also {min(others)}, which differs only in case"
            found.append(Problem(path, 0, 0, text))
    return found


def _known(path: str, blob: str, former: Definitions) -> Parsed | None:
    parsed = former.files.get(path)
    return parsed if parsed is not None and parsed.blob == blob else None


def _definitions(files: Mapping[str, Parsed], former: Definitions) -> Definitions:
    jobs = {}
    settings = Settings()
    for path, parsed in files.items():
        if isinstance(parsed.value, Job):
            name = parsed.value.name
            jobs[name] = Definition(parsed.value, parsed.blob, _paused(files.get(PAUSED + name)))
        elif path == SETTINGS and isinstance(parsed.value, Settings):
            settings = parsed.value
    watches = _named(files, WATCHES, ".toml", WatchFile)
    adopted = _named(files, ADOPTED, ".json", Adopted)
    _adopt(jobs, watches, adopted)
    return Definitions(
        dict(sorted(jobs.items())),
        settings,
        files,
        _calendars(files, former),
        _hooks(files),
        watches,
        adopted,
        _named(files, PROMOTED, ".json", Promotion),
        _named(files, SECRETS, ".toml", SecretFile),
        _recipient(files),
        _users(files, former),
    )


def _named(files: Mapping[str, Parsed], folder: str, suffix: str, kind: type[_T]) -> dict[str, _T]:
    return {
        path.removeprefix(folder).removesuffix(suffix): parsed.value
        for path, parsed in files.items()
        if path.startswith(folder) and isinstance(parsed.value, kind)
    }


def _recipient(files: Mapping[str, Parsed]) -> str:
    parsed = files.get(RECIPIENTS)
    return parsed.value if parsed is not None and isinstance(parsed.value, str) else ""


def _adopt(
    jobs: dict[str, Definition],
    watches: Mapping[str, WatchFile],
    adopted: Mapping[str, Adopted],
) -> None:
    """Fill in what follows for jobs from where they were adopted."""
    for name in watches.keys() & adopted.keys():
        for folder, entry in adopted[name].entries.items():
            for short in entry.jobs:
                full = f"{name}/{folder}/{short}"
                if (known := jobs.get(full)) is not None:
                    job, adoption = adopt(known.job, watches[name], Adoption(name, folder, entry))
                    jobs[full] = replace(known, job=job, adopted=adoption)


def _hooks(files: Mapping[str, Parsed]) -> Mapping[str, HookFile]:
    """Return the webhooks by name; one with a faulty file is none: it could be another's secret."""
    return {
        path.removeprefix(HOOKS).removesuffix(".toml"): parsed.value
        for path, parsed in files.items()
        if isinstance(parsed.value, HookFile) and not parsed.problems
    }


def _calendars(files: Mapping[str, Parsed], former: Definitions) -> Mapping[str, Calendar]:
    """Return the calendars; the former ones, with what they know already, if none has changed."""
    found = {
        name: parsed.value
        for path, parsed in files.items()
        if (name := calendar_name(path)) is not None and isinstance(parsed.value, CalendarFile)
    }
    before = {
        name: parsed.value
        for path, parsed in former.files.items()
        if (name := calendar_name(path)) is not None and isinstance(parsed.value, CalendarFile)
    }
    return former.calendars if found == before else resolve(found)


def _users(files: Mapping[str, Parsed], former: Definitions) -> Users:
    """Return the users; the former ones, with what they know already, if none has changed."""
    found = {
        user_name(path): (parsed.value, parsed.claims)
        for path, parsed in files.items()
        if path.startswith(USERS) and isinstance(parsed.value, User)
    }
    return former.users if former.users.is_of(found) else Users(found)


def _paused(parsed: Parsed | None) -> Paused | None:
    if parsed is None:
        return None
    # A file that cannot be read still says that somebody wanted the job to rest.
    return parsed.value if isinstance(parsed.value, Paused) else Paused()
