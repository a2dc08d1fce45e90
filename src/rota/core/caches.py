"""Caches: folders that builds of a project hand on to one another, by keys.

A cache never decides how a build ends. Its key is a text in which ``{hash:GLOB}`` stands for what
matches in the workspace, ``{label:NAME}`` for a label of the agent, and ``{name}`` for a parameter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from rota.core.build import Build
from rota.core.cache_entry import Entry, SharedCache, name_of

MAX_KEY = 500
_FORK = "pull"
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PARAM = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/-]*")


class KeyFaultError(Exception):
    """A key cannot be read; the message goes on after its name, ``column`` counts from 1."""

    def __init__(self, message: str, hint: str = "", column: int = 0) -> None:
        super().__init__(message)
        self.message, self.hint, self.column = message, hint, column


class Part(msgspec.Struct, frozen=True):
    """A piece of a key: plain text, or what a name stands for."""

    kind: Literal["text", "hash", "label", "param"]
    value: str
    column: int = 0


def key_parts(key: str) -> Iterator[Part]:
    """Yield the parts of a key.

    Raises:
        KeyFaultError: a brace is open, or holds nothing that is known.
    """
    at = 0
    for found in _PART.finditer(key):
        if found.start() > at:
            yield Part("text", key[at : found.start()], at + 1)
        at, column = found.end(), found.start() + 1
        if found[1] is not None:
            yield _named(found[1], column)
        elif len(found[0]) == 2:
            yield Part("text", found[0][0], column)
        else:
            fault = f"has a lone {found[0]!r}; write {found[0] * 2} for the brace itself"
            raise KeyFaultError(fault, column=column)
    if at < len(key):
        yield Part("text", key[at:], at + 1)


def _named(inner: str, column: int) -> Part:
    kind, colon, value = inner.partition(":")
    if not colon and _PARAM.fullmatch(inner):
        return Part("param", inner, column)
    if kind == "label" and _LABEL.fullmatch(value):
        return Part("label", value, column)
    if kind == "hash" and colon:
        for glob in globs_of(value):
            if glob.startswith(("/", "~")) or ".." in glob.split("/"):
                raise KeyFaultError(f"hashes {glob!r}, which leaves the workspace", column=column)
        if globs_of(value):
            return Part("hash", value, column)
    hint = "{hash:GLOB} of files in the workspace, {label:NAME} of the agent, or {a parameter}"
    raise KeyFaultError(f"has {{{inner}}}, which stands for nothing", hint, column)


def globs_of(text: str) -> tuple[str, ...]:
    """Return the globs of a ``{hash:…}``: several are parted by spaces or commas."""
    return tuple(glob for glob in re.split(r"[\s,]+", text) if glob)


def fill_key(
    key: str,
    *,
    params: Mapping[str, object],
    labels: Mapping[str, str],
    digest: Callable[[tuple[str, ...]], str],
) -> str:
    """Return a key with what its parts stand for, on this agent and for this build.

    A label that the agent does not have, and one without a value, is ``no`` and ``yes``.

    Args:
        key: As it stands in the header, and was checked there.
        params: The build's parameters.
        labels: The agent's labels.
        digest: Returns the hash of the files that match some globs; it may raise.

    Raises:
        KeyFaultError: there is no such parameter, or the key is longer than ``MAX_KEY``.
    """
    text = "".join(_value(part, params, labels, digest) for part in key_parts(key))
    text = "".join(c if c.isprintable() else "?" for c in text)
    if len(text) > MAX_KEY:
        raise KeyFaultError(f"comes to {len(text)} characters, the limit is {MAX_KEY}")
    return text


def _value(
    part: Part,
    params: Mapping[str, object],
    labels: Mapping[str, str],
    digest: Callable[[tuple[str, ...]], str],
) -> str:
    match part.kind:
        case "text":
            return part.value
        case "hash":
            return digest(globs_of(part.value))
        case "label":
            return (labels[part.value] or "yes") if part.value in labels else "no"
        case "param":
            if part.value not in params:
                raise KeyFaultError(f"asks for {{{part.value}}}, which this build has not")
            value = params[part.value]
            return str(value).lower() if isinstance(value, bool) else str(value)


def scope_of(build: Build) -> str:
    """Return within which builds a cache is handed on when ``build`` saves it.

    That is its project. What a fork's builds save only the same pull request's read again.
    """
    project = build.job.partition("/")[0]
    if build.trusted:
        return project
    data = build.trigger.data
    where = hashlib.sha256(data.get("url", "").encode("utf-8", "replace")).hexdigest()[:8]
    return f"{project}/{_FORK}/{where}/{data.get('number') or build.id}"


def scopes_of(build: Build) -> tuple[str, ...]:
    """Return whose caches a build is given, the first that has one counts."""
    own = scope_of(build)
    project = build.job.partition("/")[0]
    return (own,) if own == project else (own, project)


def best(entries: Iterable[Entry], key: str, prefixes: Sequence[str]) -> Entry | None:
    """Return the entry of this very key, else the newest one of the first prefix that has any."""
    found = list(entries)
    exact = [it for it in found if it.key == key]
    if exact:
        return max(exact, key=lambda it: it.saved_at)
    for prefix in prefixes:
        fits = [it for it in found if it.key.startswith(prefix)]
        if fits:
            return max(fits, key=lambda it: it.saved_at)
    return None


def over(sizes: Iterable[tuple[str, int, float]], limit: int) -> list[str]:
    """Return which go so that the others fit: those whose use is longest ago.

    Args:
        sizes: Of each its name, bytes, and when it was used last.
        limit: How many bytes stay at most.
    """
    ordered = sorted(sizes, key=lambda it: it[2])
    left, gone = sum(size for _, size, _ in ordered), []
    for name, size, _ in ordered:
        if left <= limit:
            break
        gone.append(name)
        left -= size
    return gone


def shown(size: int) -> str:
    """Return a size as people read it: ``1.5 MiB``."""
    if size < 1024:
        return f"{size} B"
    value, unit = size / 1024, "KiB"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        if value < 999.95 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.1f} {unit}"


def blob_of(entry: Entry) -> str:
    """Return the name under which a shared cache's bytes are stored: no other's, whatever the key."""
    name = name_of(entry.scope, entry.key).encode("utf-8", "surrogateescape")
    return f"cache/{hashlib.sha256(name).hexdigest()[:40]}/{entry.sha256}"


def sweep(
    shared: Mapping[str, SharedCache], now: datetime, *, max_age_s: float, max_bytes: int
) -> dict[str, list[str]]:
    """Return which shared caches go, by the rule of the settings that says so."""
    oldest = now - timedelta(seconds=max_age_s)
    aged = sorted(name for name, it in shared.items() if it.used_at < oldest)
    sizes = [
        (name, it.entry.size, it.used_at.timestamp())
        for name, it in shared.items()
        if it.used_at >= oldest
    ]
    return {"caches.max_age": aged, "caches.shared_bytes": over(sizes, max_bytes)}
