"""A job as an importer makes it: a header, a script, and what it could not say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec

from rota.core.header import parse_header
from rota.core.problem import Problem
from rota.core.toml_writing import toml_key, toml_value

#: A header in comments, and what a line of it may hold before it is broken.
_MARK = "# "
_WIDTH = 100
_UNFIT = re.compile(r"[^A-Za-z0-9_.+-]+")


@dataclass
class Draft:
    """One job to be. Readers fill it in; ``keys`` and ``tables`` are those of ``[tool.rota]``."""

    name: str
    place: str
    shebang: str = "#!/bin/sh"
    keys: dict[str, object] = field(default_factory=dict)
    tables: dict[str, dict[str, object]] = field(default_factory=dict)
    body: list[str] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)

    def remark(self, line: int, message: str, hint: str | None = None) -> None:
        """Note what could not be said, and what to do about it."""
        self.remarks.append(Problem(self.place, line, 0, message, hint))

    def add(self, key: str, *values: object) -> None:
        """Add to a list of the header, each value once."""
        known = self.keys.setdefault(key, [])
        assert isinstance(known, list)
        known.extend(value for value in values if value not in known)

    def text(self) -> str:
        """Return the script with its header, remarks as comments between the two."""
        lines = [self.shebang, *self._header()]
        if self.remarks:
            lines += ["#", "# Not carried over:"]
            lines += [f"#   {remark_text(remark)}" for remark in self.remarks]
        lines += self.body
        return "\n".join(lines) + "\n"

    def _header(self) -> list[str]:
        if not self.keys and not self.tables:
            return []
        lines = ["/// script", "[tool.rota]"]
        for key, value in self.keys.items():
            lines += _entry(key, value)
        for name, table in self.tables.items():
            lines.append(f"[tool.rota.{name}]")
            for key, value in table.items():
                lines += _entry(key, value)
        return [f"{_MARK}{line}".rstrip() for line in [*lines, "///"]]


def faults(draft: Draft) -> tuple[Problem, ...]:
    """Return what is wrong with a draft's header: a value that rota does not take."""
    _, problems = parse_header(draft.text(), name=draft.name, path=draft.name)
    return problems


def remark_text(remark: Problem) -> str:
    """Return a remark in one line, without its file."""
    tail = f" ({remark.hint})" if remark.hint else ""
    text = (
        f"line {remark.line}: {remark.message}{tail}" if remark.line else f"{remark.message}{tail}"
    )
    return " ".join(text.split())


def job_name(*parts: str, taken: Iterable[str] = ()) -> str:
    """Return a job's name made of these words, another than those that are ``taken``."""
    segments = [_UNFIT.sub("-", part).strip("-.+")[:60] for part in "/".join(parts).split("/")]
    name = "/".join(segment for segment in segments if segment) or "job"
    known, number, found = set(taken), 2, name
    while found in known:
        found, number = f"{name}-{number}", number + 1
    return found


def quoted(text: str) -> str:
    """Return a word for sh that means just this text."""
    if re.fullmatch(r"[A-Za-z0-9_@%+=:,./-]+", text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def checked(drafts: Sequence[Draft]) -> list[Draft]:
    """Take out of each draft what its header may not hold, so that it can be added as it is."""
    for draft in drafts:
        for problem in faults(draft):
            key = _key_of(problem, draft)
            if key is None:
                continue
            value = draft.keys.pop(key, None) or draft.tables.pop(key, None)
            shown = msgspec.json.encode(value).decode()[:200]
            draft.remark(0, f"{key} = {shown}: {problem.message}", problem.hint)
    return list(drafts)


def _key_of(problem: Problem, draft: Draft) -> str | None:
    """Return the header's key in whose lines a problem lies."""
    found = None
    for line in draft.text().splitlines()[: problem.line]:
        entry = re.match(r"# (?:\[tool\.rota\.)?([a-z_]+)(?: =|[\].])", line)
        if entry and (entry[1] in draft.keys or entry[1] in draft.tables):
            found = entry[1]
    return found


def _entry(key: str, value: object) -> list[str]:
    """Return the lines of one entry; a long list is broken into a line for each of its values."""
    line = f"{toml_key(key)} = {toml_value(value)}"
    if len(line) <= _WIDTH or not isinstance(value, list):
        return [line]
    return [f"{toml_key(key)} = [", *(f"  {toml_value(item)}," for item in value), "]"]
