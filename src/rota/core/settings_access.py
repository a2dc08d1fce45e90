"""``[[access]]`` of the settings: who may more on some jobs than on all of them."""

from __future__ import annotations

from typing import Any

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot, printed_value
from rota.core.header_people import principal
from rota.core.rights import Grant, Role

#: A rule gives one of these: an admin is one of everything, by ``users/NAME.toml``.
ROLES = ("viewer", "builder", "maintainer")
#: In place of a name: every user.
EVERYBODY = "*"
MAX_RULES = 500
MAX_GLOB = 200


class AccessRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who has at least which role on jobs that fit the globs: one ``[[access]]``."""

    jobs: tuple[str, ...] = ()
    who: tuple[str, ...] = ()
    role: str = "viewer"

    def gives(self, user: str, groups: frozenset[str]) -> bool:
        """Whether it holds for a user, who is in these groups."""
        return EVERYBODY in self.who or user in self.who or not groups.isdisjoint(self.who)

    @property
    def grant(self) -> Grant:
        """What it gives."""
        return Grant(self.jobs, Role[self.role.upper()])


def job_glob(value: Any, spot: Spot) -> str:
    """Read a glob of jobs' names."""
    glob = fields.text(value, spot)
    if (fault := glob_fault(glob)) is not None:
        raise FieldError(f"{fault}: {printed_value(glob)}", 'such as "web/**" or "web/test"')
    return glob


def glob_fault(glob: str) -> str | None:
    """Say why that fits no job at all, or ``None`` if it could."""
    if not glob or len(glob) > MAX_GLOB:
        return f"a glob has 1 to {MAX_GLOB} characters"
    if not glob.isprintable() or any(part in ("", ".", "..") for part in glob.split("/")):
        return "no job's name fits it"
    return None


def _who(value: Any, spot: Spot) -> str:
    return EVERYBODY if value == EVERYBODY else principal(value, spot)


def _some(read: Any) -> Any:
    def some(value: Any, spot: Spot) -> tuple[str, ...]:
        found: tuple[str, ...] = fields.one_or_more(read)(value, spot)
        if not found:
            raise FieldError("is empty, so that the rule holds for nothing")
        return found

    return some


_RULE = {
    "jobs": Field("jobs", _some(job_glob), 'jobs = "web/**"'),
    "who": Field("who", _some(_who), 'who = ["ann", "@release"]'),
    "role": Field("role", fields.one_of(ROLES), 'role = "maintainer"'),
}


def _rules(value: Any, spot: Spot) -> tuple[AccessRule, ...]:
    rule = fields.table(_RULE, AccessRule, required=("jobs", "who", "role"))
    found: tuple[AccessRule, ...] = fields.list_of(rule)(value, spot)
    if len(found) > MAX_RULES:
        raise FieldError(f"has {len(found)} rules, the limit is {MAX_RULES}")
    return found


#: What the settings say by this key.
ACCESS = {
    "access": Field(
        "access", _rules, '[[access]] with jobs = "web/**", who = ["ann"], role = "maintainer"'
    )
}
