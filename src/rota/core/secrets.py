"""Secrets: what a header asks for, what the store says of one, and whom it is given to.

``secrets/NAME.toml`` on ``main`` has the rules in clear and the value encrypted (age, ADR 36). Within
what is encrypted the name and the rules stand once more, in front of the value: so neither can be
changed, nor one value put in another's place, by somebody who can write to ``main`` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from rota.core import fields
from rota.core.build import Build
from rota.core.fields import Field, FieldError, Spot
from rota.core.instant import Instant
from rota.core.patterns import matches
from rota.core.problem import Problem, nearest
from rota.core.scm import Source as Checkout
from rota.core.secret_use import SecretUse, secret_name_fault
from rota.core.toml_document import Source, read_document
from rota.core.toml_writing import toml_value

SECRETS = "secrets/"
#: The cluster's public key, as ``age -R`` reads it.
RECIPIENTS = "secrets/recipients.txt"
#: More fits into no variable of a process, and a key or a certificate is far smaller.
MAX_VALUE = 48 * 1024
#: What is shorter is hidden nowhere without hiding half of a log.
MIN_VALUE = 4
MAX_PATTERNS = 50
#: Lengths of values show only in steps of so many bytes.
PAD = 256
RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58}")


class Rules(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who gets a secret: globs of jobs, and of the branches that are checked out. None is all."""

    jobs: tuple[str, ...] = ()
    branches: tuple[str, ...] = ()


class SecretFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``secrets/NAME.toml`` says; ``value`` is armoured."""

    value: str
    rules: Rules = Rules()
    description: str = ""
    by: str = ""
    at: Instant | None = None


# -- rules ----------------------------------------------------------------------------------------


def refusal(rules: Rules, build: Build, ancestors: Iterable[Build] = ()) -> str | None:
    """Say why a build does not get a secret; ``None`` where it does.

    What a fork's pull request set off, at whatever distance, gets none: ``ancestors`` are the builds
    that led to this one.
    """
    if not all(it.trusted for it in (build, *ancestors)):
        return "a pull request of a fork gets no secrets"
    return job_refusal(rules, build.job) or source_refusal(rules, build.source)


def job_refusal(rules: Rules, job: str) -> str | None:
    """Say why no build of a job gets a secret."""
    if not rules.jobs or matches(rules.jobs, job):
        return None
    return f"it is for jobs {_listed(rules.jobs)}, not for {job}"


def source_refusal(rules: Rules, source: Checkout | None) -> str | None:
    """Say why a build of that source does not get a secret."""
    if not rules.branches:
        return None
    wanted = f"it is for branches {_listed(rules.branches)}"
    if source is None:
        return f"{wanted}, and nothing was checked out"
    if source.number or source.base:
        return f"{wanted}, and this is a pull request"
    name = source.branch or source.ref
    if name and matches(rules.branches, name):
        return None
    return f"{wanted}, not for {name or source.commit[:12]}"


def _listed(globs: Sequence[str]) -> str:
    return ", ".join(globs)


# -- the value, and what it is bound to -----------------------------------------------------------


class _Bound(msgspec.Struct, frozen=True):
    """The first line of what is encrypted."""

    rota_secret: int
    name: str
    jobs: tuple[str, ...]
    branches: tuple[str, ...]
    pad: str = ""


def bind(name: str, rules: Rules, value: bytes) -> bytes:
    """Return what is to be encrypted: a line of JSON, padded, and then the value."""
    bound = _Bound(1, name, rules.jobs, rules.branches)
    bare = len(msgspec.json.encode(bound)) + 1 + len(value)
    line = msgspec.json.encode(_Bound(1, name, rules.jobs, rules.branches, " " * (-bare % PAD)))
    return line + b"\n" + value


def unbind(name: str, rules: Rules, data: bytes) -> tuple[bytes, str | None]:
    """Return the value, and what is wrong with it: bound to another name, or to other rules."""
    line, _, value = data.partition(b"\n")
    try:
        bound = msgspec.json.decode(line, type=_Bound)
    except (msgspec.MsgspecError, UnicodeError):
        return b"", "was not encrypted by rota"
    if bound.name != name:
        return b"", f"has the value of another one, {bound.name}"
    if Rules(bound.jobs, bound.branches) != rules:
        return b"", "has other rules than it was set with"
    return value, None


def value_fault(value: bytes) -> tuple[str, str] | None:
    """Say what is wrong with a value, and what to do; nothing of it is said."""
    if len(value.strip()) < MIN_VALUE:
        return (
            f"the value has less than {MIN_VALUE} bytes: it could not be hidden in logs",
            "anybody could guess it as well; is there a longer one?",
        )
    if len(value) > MAX_VALUE:
        return (
            f"the value has {len(value)} bytes, the limit is {MAX_VALUE}",
            "encrypt the large file with a key, and make the key the secret",
        )
    return None


# -- files ----------------------------------------------------------------------------------------


def secret_path(name: str) -> str:
    """Return where a secret stands on ``main``."""
    return f"{SECRETS}{name}.toml"


def encode_secret(file: SecretFile) -> bytes:
    """Return the file of a secret: the same bytes for the same."""
    lines = []
    if file.description:
        lines.append(f"description = {toml_value(file.description)}")
    if file.rules.jobs:
        lines.append(f"jobs = {toml_value(file.rules.jobs)}")
    if file.rules.branches:
        lines.append(f"branches = {toml_value(file.rules.branches)}")
    lines.append(f"by = {toml_value(file.by)}")
    if file.at is not None:
        lines.append(f"at = {file.at.isoformat()}")
    lines.append(f'value = """\n{file.value.strip()}\n"""')
    return ("\n".join(lines) + "\n").encode()


def parse_secret(text: str, path: str) -> tuple[SecretFile | None, tuple[Problem, ...]]:
    """Return what a secret's file says, and all that is wrong with it. Never raises."""
    name = path.removeprefix(SECRETS).removesuffix(".toml")
    fault = secret_name_fault(name)
    if fault is not None or not path.endswith(".toml"):
        hint = f"{SECRETS}NAME.toml, made by: rota secret set NAME"
        return None, (Problem(path, 0, 0, "no secret's name", hint),)
    document, faults = read_document(Source(path, tuple(text.splitlines())))
    problems = list(faults)
    values = fields.read_table(document.table, Spot(document, problems), _SECRET)
    if "value" not in document.table:
        problems.append(Problem(path, 0, 0, "value is missing", f"rota secret set {name}"))
    if problems:
        return None, tuple(problems)
    rules = Rules(values.pop("jobs", ()), values.pop("branches", ()))
    return SecretFile(rules=rules, **values), ()


def encode_recipient(recipient: str, by: str, at: Instant) -> bytes:
    """Return the file of the cluster's public key."""
    who = re.sub(r"[\x00-\x1f\x7f]", "?", by)
    return f"# secrets are encrypted for this key since {at.isoformat()}, by {who}\n{recipient}\n".encode()


def parse_recipient(text: str, path: str) -> tuple[str, tuple[Problem, ...]]:
    """Return the cluster's public key. Never raises."""
    found = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(found) == 1 and RECIPIENT.fullmatch(found[0].strip()):
        return found[0].strip(), ()
    hint = "the agents write it: take the last commit's, or rota secret rotate"
    return "", (Problem(path, 0, 0, "must hold one public key, age1…", hint),)


def patterns_fault(globs: Sequence[str]) -> str | None:
    """Say what is wrong with a list of globs."""
    if len(globs) > MAX_PATTERNS:
        return f"has {len(globs)} patterns, the limit is {MAX_PATTERNS}"
    for glob in globs:
        if not glob.removeprefix("!").strip() or any(ch < " " or ch == "\x7f" for ch in glob):
            return f"has {fields.printed_value(glob)}, which is no pattern"
    return None


def unknown_uses(
    path: str, uses: Iterable[SecretUse], job: str, secrets: Mapping[str, SecretFile]
) -> Iterator[Problem]:
    """Yield a problem for each secret that a header names in vain."""
    for use in uses:
        if use.provider:
            continue
        file = secrets.get(use.name)
        if file is None:
            if use.optional:
                continue
            text = f"no secret is called {use.name!r}"
            hint = nearest(use.name, secrets) or f"rota secret set {use.name}"
            yield Problem(path, use.line, use.column, text, hint)
        elif (why := job_refusal(file.rules, job)) is not None:
            text = f"the secret {use.name} is not given to this job: {why}"
            hint = f"rota secret set {use.name} --jobs …; or leave it out"
            yield Problem(path, use.line, use.column, text, hint)


def _globs(value: Any, spot: Spot) -> tuple[str, ...]:
    found = fields.list_of(fields.text)(value, spot)
    if (fault := patterns_fault(found)) is not None:
        raise FieldError(fault)
    return found


def _instant(value: Any, _: Spot) -> Any:
    if not hasattr(value, "tzinfo") or value.tzinfo is None:
        raise FieldError("must be a date and time with its zone")
    return value


_SECRET = {
    "description": Field("description", fields.text, 'description = "publishes to npm"'),
    "jobs": Field("jobs", _globs, 'jobs = ["web/*"]'),
    "branches": Field("branches", _globs, 'branches = ["main", "release/*"]'),
    "by": Field("by", fields.text, 'by = "ann"'),
    "at": Field("at", _instant, "at = 2026-01-31T12:00:00Z"),
    "value": Field("value", fields.text, "value, as rota secret set writes it"),
}
