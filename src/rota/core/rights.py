"""Who may what: a role over everything, more of it on some jobs, and less by what a token allows."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

import msgspec

from rota.core.globs import matches

#: Answers that are kept for each who asks: so many jobs' roles; then it begins anew.
MAX_KEPT = 20_000
ALL_JOBS = "**"


class Role(enum.IntEnum):
    """What a caller must be allowed; each includes the former. ``NONE`` sees nothing by itself."""

    NONE = 0
    VIEWER = 1
    BUILDER = 2
    MAINTAINER = 3
    ADMIN = 4

    @property
    def title(self) -> str:
        """What somebody with it is: ``an admin``."""
        if self is Role.NONE:
            return "without a role"
        word = self.name.lower()
        return f"an {word}" if word[0] in "aeiou" else f"a {word}"


class Grant(msgspec.Struct, frozen=True):
    """At least this role, on jobs that fit one of the globs."""

    jobs: tuple[str, ...]
    role: Role


class Rights:
    """What one caller may.

    Immutable but for what it remembers: the answer for a job is worked out once. Cost: for the first
    question on a job a look at each grant, then a look-up.

    Args:
        role: Over everything: all jobs, and what is no job's.
        grants: What is more than that, on some jobs.
        cap: At most this, by the token that is shown.
        within: Only jobs that fit one of these globs, by the token; all if empty. Who is kept to some
            jobs has no role over what is no job's.
    """

    __slots__ = ("_cap", "_grants", "_known", "_role", "_within")

    def __init__(
        self,
        role: Role,
        grants: Iterable[Grant] = (),
        *,
        cap: Role = Role.ADMIN,
        within: Sequence[str] = (),
    ) -> None:
        self._role, self._cap = role, cap
        self._grants = tuple(grants)
        self._within = () if ALL_JOBS in within else tuple(within)
        self._known: dict[str, Role] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rights) and self._said == other._said

    def __hash__(self) -> int:
        return hash(self._said)

    def __repr__(self) -> str:
        return f"Rights{self._said}"

    @property
    def everywhere(self) -> Role:
        """The role over everything, jobs or not."""
        return Role.NONE if self._within else min(self._role, self._cap)

    @property
    def anywhere(self) -> Role:
        """The highest role on any job that there could be."""
        roles = [self._role, *(grant.role for grant in self._grants)]
        return min(max(roles), self._cap)

    @property
    def is_scoped(self) -> bool:
        """Whether a token allows less than its user may."""
        return bool(self._within) or self._cap < Role.ADMIN

    @property
    def sees_all(self) -> bool:
        """Whether every job there could be is seen."""
        return self.everywhere >= Role.VIEWER

    def sees(self, job: str) -> bool:
        """Whether a job is there for whoever has these."""
        return self.on(job) >= Role.VIEWER

    def on(self, job: str) -> Role:
        """Return the role on a job, whether there is one of that name or not."""
        found = self._known.get(job)
        if found is None:
            if len(self._known) >= MAX_KEPT:
                self._known.clear()
            found = self._known[job] = self._on(job)
        return found

    def _on(self, job: str) -> Role:
        if self._within and not fits(job, self._within):
            return Role.NONE
        given = [grant.role for grant in self._grants if fits(job, grant.jobs)]
        return min(max((self._role, *given)), self._cap)

    @property
    def _said(self) -> tuple[object, ...]:
        return (self._role, self._grants, self._cap, self._within)


def fits(job: str, globs: Iterable[str]) -> bool:
    """Whether a job fits any of the globs."""
    return any(matches(job, glob) for glob in globs)
