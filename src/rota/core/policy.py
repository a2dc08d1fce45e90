"""What the settings say of who may run when, as the fold must know it: limits, throttles, shares.

The leader writes it down (``limits.set``) whenever the settings say something else, so that every
agent judges a claim by the same numbers, at the same place of the journal.
"""

from __future__ import annotations

import msgspec

from rota.core.job import Int
from rota.core.labels import conjuncts

#: How many builds of its project may begin before a waiting one counts as a priority point higher.
AGEING = 50
#: A rank that no number of builds reaches: without ageing, priority alone decides.
NEVER = 1 << 40


class Throttle(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most so many builds run at once whose label expressions ask for all that ``labels`` does.

    ``None`` is no bound.
    """

    labels: str = ""
    total: Int | None = None
    per_agent: Int | None = None

    def is_for(self, labels: str) -> bool:
        """Whether builds with that label expression count."""
        return conjuncts(self.labels) <= conjuncts(labels)


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """``limits`` by name, weights of projects in ``share`` (others have 1), ``ageing``."""

    limits: dict[str, Int] = {}
    throttles: tuple[Throttle, ...] = ()
    share: dict[str, Int] = {}
    ageing: Int = AGEING

    def weight(self, project: str) -> int:
        """Return a project's weight; at least 1, whatever an event says."""
        return max(1, self.share.get(project, 1))

    @property
    def point(self) -> int:
        """How many builds one point of priority is worth."""
        return self.ageing if self.ageing > 0 else NEVER
