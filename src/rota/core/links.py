"""Who waits for whom, who belongs to whom, and which builds share a lane.

Derived from the builds in memory and kept in step with them; a build that stands alone costs
nothing here.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

from rota.core.build import Build
from rota.core.states import State

Key = TypeVar("Key", bound=Hashable)


class Links:
    """The links of the builds in memory.

    ``waiting`` has the held builds that wait, or waited, for each build; ``children`` what was asked
    for by it or for it; ``lanes`` the builds of each job and lane that have not finished.
    """

    __slots__ = ("children", "lanes", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, dict[str, None]] = {}
        self.children: dict[str, dict[str, None]] = {}
        self.lanes: dict[tuple[str, str], dict[str, None]] = {}

    def enter(self, build: Build) -> None:
        """Take a build in, as it is now."""
        if build.parent:
            self.children.setdefault(build.parent, {})[build.id] = None
        if build.lane and build.state is not State.FINISHED:
            self.lanes.setdefault((build.job, build.lane), {})[build.id] = None
        if build.state is State.HELD:
            for edge in build.edges:
                self.waiting.setdefault(edge.build, {})[build.id] = None

    def leave(self, build: Build) -> None:
        """Take a build out, as it was taken in."""
        if build.parent:
            _drop(self.children, build.parent, build.id)
        if build.lane and build.state is not State.FINISHED:
            _drop(self.lanes, (build.job, build.lane), build.id)
        if build.state is State.HELD:
            for edge in build.edges:
                _drop(self.waiting, edge.build, build.id)


def _drop(links: dict[Key, dict[str, None]], key: Key, build: str) -> None:
    """Remove a build; no empty entry is kept. One that waits twice for another is removed once."""
    members = links.get(key)
    if members is not None:
        members.pop(build, None)
        if not members:
            del links[key]
