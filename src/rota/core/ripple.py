"""How one build's change moves others: what needs it, its group, its tree, its lane.

All of it happens while one event is folded, so that it happens on every agent, in the same order,
exactly once, and whoever leads or does not. It ends: within one event a build finishes at most
once, and nothing that has finished moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from msgspec.structs import replace

from rota.core import gates
from rota.core.build import Build, step
from rota.core.job import Reason
from rota.core.links import Links
from rota.core.states import Move, Result, State

NEED = "need"  # the kind of a trigger


class Ripple:
    """The changes of one event. ``changed`` has the builds as they are after it, by id.

    Args:
        builds: All in memory; ``put`` writes to it.
        links: Over the same.
        put: Replaces a build.
        seq: The event's sequence.
        at: Its time.
    """

    def __init__(
        self,
        builds: Mapping[str, Build],
        links: Links,
        put: Callable[[Build, Build], object],
        *,
        seq: int,
        at: datetime,
    ) -> None:
        self._builds, self._links, self._put = builds, links, put
        self._seq, self._at = seq, at
        self._todo: deque[str] = deque()
        self.changed: dict[str, Build] = {}

    def spread(self, builds: Iterable[str] = ()) -> None:
        """Let all follow that depends on these: they are new, or held again, or have finished."""
        self._todo.extend(builds)
        while self._todo:
            build = self._builds.get(self._todo.popleft())
            if build is None:
                continue
            if build.state is State.FINISHED:
                self._follow(build)
            elif build.state is State.HELD:
                self._judge(build)

    def look(self, build_id: str) -> None:
        """Let a held build know how those are that it waits for, as far as they are in memory."""
        build = self._builds[build_id]
        after = build
        for edge in build.edges:
            other = self._builds.get(edge.build)
            if other is not None:
                after = gates.told(after, other)
        if after != build:
            self._set(after)

    def reopen(self, build_id: str) -> None:
        """Let the held builds that wait for one know that it has not finished any more."""
        other = self._builds[build_id]
        for waiting in tuple(self._links.waiting.get(build_id, ())):
            self._set(gates.told(self._builds[waiting], other))

    def supersede(self, newer: Build) -> None:
        """End the older builds of its lane, as its policy says."""
        is_strong = newer.spec.supersede == "running"
        for build_id in tuple(self._links.lanes.get((newer.job, newer.lane), ())):
            older = self._builds[build_id]
            if older.root != newer.root and (is_strong or not self._has_begun(older)):
                self.end_tree(older.id, by=newer.ref, newer=newer.ref, spare_running=not is_strong)

    def end_tree(
        self,
        build_id: str,
        *,
        by: str,
        why: str = "",
        newer: str = "",
        spare_running: bool = False,
    ) -> None:
        """End a build, and all that was asked for by it or for it alone; :meth:`spread` follows."""
        for member in self.tree(build_id):
            if self._end(member, by=by, why=why, newer=newer, spare_running=spare_running):
                self._todo.append(member)

    def tree(self, root: str) -> list[str]:
        """Return a build and its descendants, but for what is needed by others as well."""
        found: dict[str, None] = {root: None}
        left, late = deque([root]), dict[str, None]()
        while left:
            for child in self._below(left.popleft()):
                if child in found:
                    continue
                if self._is_needed_besides(child, found):
                    late[child] = None
                else:
                    found[child] = None
                    left.append(child)
            if not left:
                # Meanwhile all that need it may have been found as well.
                free = [it for it in late if not self._is_needed_besides(it, found)]
                late = {it: None for it in late if it not in free}
                found.update(dict.fromkeys(free))
                left.extend(free)
        return list(found)

    def _below(self, build_id: str) -> Iterable[str]:
        yield from self._links.children.get(build_id, ())
        build = self._builds.get(build_id)
        for edge in build.needs if build is not None else ():
            other = self._builds.get(edge.build)
            if other is not None and other.trigger.kind == NEED:
                yield other.id

    def _is_needed_besides(self, build_id: str, found: Mapping[str, None]) -> bool:
        build = self._builds.get(build_id)
        if build is None or build.trigger.kind != NEED:
            return False
        return any(it not in found for it in self._links.waiting.get(build_id, ()))

    def _has_begun(self, build: Build) -> bool:
        if build.group is None:
            return build.attempt > 0
        cells = (self._builds.get(edge.build) for edge in build.group.cells)
        return any(cell is None or cell.attempt > 0 for cell in cells)

    def _end(self, build_id: str, *, by: str, why: str, newer: str, spare_running: bool) -> bool:
        """End one build, or ask it to end; say whether it has finished by that."""
        build = self._builds.get(build_id)
        if build is None or build.cancelled_by is not None or build.state is State.FINISHED:
            return False
        if build.state is State.RUNNING and spare_running:
            return False
        after = ended(build, at=self._at, by=by, why=why, newer=newer)
        if after is not None:
            self._set(after)
        return after is not None and after.state is State.FINISHED

    def _follow(self, build: Build) -> None:
        """Tell those that wait for a build that it has finished."""
        waiting = tuple(self._links.waiting.get(build.id, ()))
        for build_id in waiting:
            self._set(gates.told(self._builds[build_id], build))
        self._todo.extend(waiting)
        group = self._builds.get(build.parent)
        if not build.cell or group is None or group.group is None:
            return
        cells = [it for edge in group.group.cells if (it := self._builds.get(edge.build))]
        if group.group.fail_fast and build.result is not Result.PASSED:
            why = f"fail_fast: {build.ref} {build.result}"
            for cell in cells:
                if cell.state is not State.FINISHED and cell.cancelled_by is None:
                    self.end_tree(cell.id, by=group.ref, why=why)
        elif group.group.max_parallel:
            self._todo.extend(cell.id for cell in cells if cell.state is State.HELD)

    def _judge(self, build: Build) -> None:
        verdict = gates.judge(build, has_room=self._has_room(build))
        after: Build | None = None
        is_asked = gates.lacks_a_word(build)
        if verdict is None and is_asked != (build.asked_at is not None):
            # From here on people are asked, and their time runs; or what comes first came back.
            after = replace(build, asked_at=self._at if is_asked else None)
        if isinstance(verdict, gates.Release):
            after = step(build, Move.RELEASE)
        elif isinstance(verdict, gates.Settle):
            after = step(
                build,
                Move.SETTLE,
                reason=verdict.reason,
                result=verdict.result,
                message=verdict.message,
                finished_at=self._at,
            )
        if after is not None:
            self._set(after)
            if after.state is State.FINISHED:
                self._todo.append(after.id)

    def _has_room(self, build: Build) -> bool:
        """Whether its group lets one more cell go; a group that is held itself lets none.

        A group that left the memory comes back in a moment, where a cell of it is tried again.
        """
        if not build.cell:
            return True
        group = self._builds.get(build.parent)
        if group is None or group.group is None:
            return False
        if group.held or not group.group.max_parallel:
            return not group.held
        cells = (self._builds.get(edge.build) for edge in group.group.cells)
        active = sum(it is not None and it.state in (State.QUEUED, State.RUNNING) for it in cells)
        return active < group.group.max_parallel

    def _set(self, after: Build) -> None:
        after = replace(after, seq=self._seq)
        self._put(self._builds[after.id], after)
        self.changed[after.id] = after


def ended(build: Build, *, at: datetime, by: str, why: str = "", newer: str = "") -> Build | None:
    """Return a build that somebody wants to end: finished, or told to stop; ``None``: it is over.

    A group ends when its builds have; they are ended with it.
    """
    by = build.cancelled_by or by or "?"
    if build.state is State.RUNNING or build.group is not None:
        return step(build, Move.ASK_TO_STOP, cancelled_by=by, superseded_by=newer)
    return step(
        build,
        Move.CANCEL,
        cancelled_by=by,
        superseded_by=newer,
        result=Result.CANCELLED,
        reason=Reason.SUPERSEDED if newer else Reason.CANCELLED,
        message=why,
        finished_at=at,
        not_before=None,
    )
