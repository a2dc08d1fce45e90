"""Workspaces that stay after their attempt, and the end of all others.

What is known of one that stays is in its home, as ``kept.json``, so that it survives the daemon. One
that goes is moved to ``builds/.trash/`` at once, and removed in the background by a process of its
own, however many files it has; a daemon that is killed meanwhile finds it there when it comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from rota.agent.workplace import Workplace
from rota.core.build import Build
from rota.core.kept import Kept, Limits, is_wanted, surplus, until
from rota.core.states import Result, State
from rota.core.workspace import Workspace
from rota.errors import ConflictError, RotaError
from rota.ports.clock import Clock
from rota.ports.disk import Disk

logger = logging.getLogger(__name__)

RECORD = "kept.json"
#: Times are looked at this often at the latest: wall clocks are set, and machines sleep.
MAX_WAIT_S = 3600.0
MIN_WAIT_S = 1.0

Find = Callable[[str], Build | None]


@dataclasses.dataclass(kw_only=True)
class Workspaces:
    """What is kept on this agent. :meth:`run` is a task of the agent."""

    workplace: Workplace
    disk: Disk
    clock: Clock
    limits: Callable[[], Limits]
    _kept: dict[tuple[str, int], Kept] = dataclasses.field(default_factory=dict)
    _entered: Counter[tuple[str, int]] = dataclasses.field(default_factory=Counter)
    _work: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    _stuck: set[Path] = dataclasses.field(default_factory=set)

    def load(self, running: set[Path], find: Find) -> None:
        """Take up what a former daemon kept; ``running`` are the homes of attempts that go on.

        One that was killed before it could write what becomes of a workspace has left that to us.
        """
        for build, attempt, home in self.workplace.homes():
            if home in running:
                continue
            record = _read(home / RECORD)
            if record is not None:
                self._kept[build, attempt] = replace(record, build=build, attempt=attempt)
                continue
            known = find(build)
            if known is None or (result := _result(known, attempt)) is None:
                self._keep(home, _record(build, attempt, datetime.fromtimestamp(_mtime(home), UTC)))
            else:
                self.settle(known, attempt, result)
        self._work.set()

    def kept(self) -> list[Kept]:
        """Return what is kept, in the order of its ends."""
        return sorted(self._kept.values(), key=lambda it: (it.kept_at, it.build, it.attempt))

    def home(self, kept: Kept) -> Path:
        """Return the home of a kept workspace."""
        return self.workplace.home(kept.build, kept.attempt)

    def find(self, build: str, attempt: int = 0) -> Kept | None:
        """Return what is kept of a build: of this attempt, or of the last one of which there is."""
        found = [it for it in self._kept.values() if it.build == build]
        if attempt:
            found = [it for it in found if it.attempt == attempt]
        return max(found, key=lambda it: it.attempt, default=None)

    def entered(self, kept: Kept) -> int:
        """Return how many shells are open in a workspace."""
        return self._entered[kept.key]

    @contextlib.contextmanager
    def inside(self, kept: Kept) -> Iterator[None]:
        """Keep a workspace for as long as the context is open, whatever else ends."""
        self._entered[kept.key] += 1
        try:
            yield
        finally:
            self._entered[kept.key] -= 1
            if not self._entered[kept.key]:
                del self._entered[kept.key]
            self._work.set()

    def settle(
        self,
        build: Build,
        attempt: int,
        result: Result,
        *,
        counts: bool = True,
        is_alone: bool = False,
    ) -> None:
        """Keep the workspace of an attempt that ended, or let it go.

        Args:
            build: Of which it is.
            attempt: Which try.
            result: How it ended.
            counts: Whether that is on record; of an attempt that was given up nothing is kept.
            is_alone: Whether surely no process of it is left.
        """
        home = self.workplace.home(build.id, attempt)
        if not home.exists():
            return
        limits, now = self.limits(), self.clock.now()
        wanted = is_wanted(build.spec.workspace, result) if counts else False
        if wanted is False or (wanted is None and not limits.unasked):
            self._discard(home, is_alone=is_alone)
            return
        record = Kept(
            build=build.id,
            attempt=attempt,
            job=build.job,
            number=build.number,
            result=result,
            kept_at=now,
            until=until(build.spec.workspace, limits, now),
            is_asked=wanted is True,
        )
        self._keep(home, record)

    def remove(self, build: str, ref: str) -> list[Kept]:
        """Let go of all that is kept of a build; return what it was.

        Raises:
            ConflictError: somebody is in it.
        """
        found = [it for it in self.kept() if it.build == build]
        busy = sum(self.entered(it) for it in found)
        if busy:
            raise ConflictError(
                f"{busy} shell{'s are' if busy > 1 else ' is'} open in the workspace of {ref}",
                hint="leave first: exit",
            )
        for it in found:
            self._let_go(it)
        return found

    async def run(self) -> None:
        """Count, let go of what is too much, and empty the trash, whenever there is cause."""
        while True:
            self._work.clear()
            try:
                await self._tidy()
            except RotaError as error:
                logger.warning("workspaces are not cleaned: %s", error.message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s()):
                    await self._work.wait()

    async def _tidy(self) -> None:
        self._let_go_of_surplus()
        await self._empty_trash()
        for it in self.kept():
            if it.bytes is None and it.key in self._kept:
                size = await self.disk.size(self.home(it))
                if it.key in self._kept:
                    self._keep(self.home(it), replace(it, bytes=size or 0))
                self._let_go_of_surplus()
        await self._empty_trash()

    def _let_go_of_surplus(self) -> None:
        busy = self._entered.keys()
        for it in surplus(self._kept.values(), self.limits(), self.clock.now(), busy):
            self._let_go(it)

    async def _empty_trash(self) -> None:
        while there := [path for path in self.workplace.trash() if path not in self._stuck]:
            words = await self.disk.remove(there)
            left = [path for path in there if os.path.lexists(path)]
            if left:
                # It is tried again when the daemon starts: what is in the way is no matter of time.
                self._stuck.update(left)
                paths = ", ".join(map(str, left))
                logger.warning("%s cannot be removed, and takes space: %s", paths, words)

    def _wait_s(self) -> float:
        ends = [it.until for it in self._kept.values() if it.key not in self._entered]
        left = (min(ends) - self.clock.now()).total_seconds() if ends else MAX_WAIT_S
        return min(max(left, MIN_WAIT_S), MAX_WAIT_S)

    def _keep(self, home: Path, record: Kept) -> None:
        self._kept[record.key] = record
        aside = home / f"{RECORD}.new"
        try:
            aside.write_bytes(msgspec.json.encode(record))
            aside.rename(home / RECORD)
        except OSError as error:
            # Known until the daemon ends; the next one takes it for one that nobody asked for.
            logger.warning("cannot write %s: %s", home / RECORD, error.strerror)
        if record.bytes is None:
            self._work.set()

    def _let_go(self, kept: Kept) -> None:
        del self._kept[kept.key]
        self._discard(self.home(kept))

    def _discard(self, home: Path, *, is_alone: bool = False) -> None:
        if not self.workplace.clean_bare(home, is_alone=is_alone):
            self.workplace.throw_away(home)
            self._work.set()


def _record(build: str, attempt: int, at: datetime) -> Kept:
    return Kept(build=build, attempt=attempt, kept_at=at, until=until(Workspace(), Limits(), at))


def _result(build: Build, attempt: int) -> Result | None:
    """Return how an attempt ended, as far as that is on record."""
    if build.attempt == attempt and build.state is State.FINISHED:
        return build.result
    return next((it.result for it in build.former if it.attempt == attempt), None)


def _mtime(home: Path) -> float:
    try:
        return home.stat().st_mtime
    except OSError:
        return 0.0


def _read(path: Path) -> Kept | None:
    """Return a record; ``None`` if there is none, or a script has written there."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return None
