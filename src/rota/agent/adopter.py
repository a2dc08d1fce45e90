"""A leader's duty beside all others: the own jobs of watched repositories become jobs here.

What is to be adopted follows from what is known of the repository's refs, what was adopted stands on
``main``: whoever leads brings the one in step with the other, one commit a change, and then asks for
the builds that the change starts. Their ids are made of job and event, so that a new leader asks for
what the former one did not, and for nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from msgspec.structs import replace

from rota.agent.patience import persist
from rota.core.build import Trigger
from rota.core.definition_file import JOBS
from rota.core.definitions import check_file, clashes
from rota.core.events import Event, ScmChanged, ScmSeen
from rota.core.fold import Change
from rota.core.ids import derived_id, job_name_fault
from rota.core.paused import PAUSED
from rota.core.reactions import Request, scm_data
from rota.core.repository import repo_key
from rota.core.scm import Revision
from rota.core.watches import (
    ADOPTED,
    FOLDER,
    MAX_BRANCHES,
    MAX_FAULTS,
    MAX_JOBS,
    Adopted,
    Adoption,
    Entry,
    Target,
    WatchFile,
    encode_adopted,
    folder_for,
    is_meant,
    targets,
)
from rota.errors import RotaError, StaleError
from rota.ports.checkout import Checkout
from rota.ports.clock import Clock
from rota.ports.journal import Entry as Written
from rota.ports.journal import Journal
from rota.ports.store import Author, Store
from rota.service.context import Main
from rota.service.world import World

logger = logging.getLogger(__name__)

AUTHOR = Author(name="rota", email="rota@localhost")
#: What could not be had is tried again after so long.
AGAIN_S = 15.0
MAX_SCRIPT = 1 << 20
MAX_REMEMBERED = 1000
FOLD_S = 10.0

Plan = Callable[[Sequence[Request]], Sequence[tuple[Event, Sequence[str]]]]


class Adopter:
    """Adopts while this agent leads: :meth:`run` is the duty, :meth:`folded` is for the loop."""

    def __init__(
        self,
        *,
        name: str,
        world: World,
        store: Store,
        main: Main,
        journal: Journal,
        clock: Clock,
        checkout: Checkout,
        plan: Plan,
    ) -> None:
        self._name, self._world, self._store, self._main = name, world, store, main
        self._journal, self._clock, self._checkout, self._plan = journal, clock, checkout, plan
        self._woken = asyncio.Event()
        self._told: dict[str, ScmChanged] = {}
        self._asked: set[str] = set()

    def folded(self, entry: Written, change: Change) -> None:
        """Take note of what moved in repositories; returns at once."""
        event = entry.event
        if isinstance(event, ScmChanged):
            self._told[f"{event.ref} {event.new}"] = event
            while len(self._told) > MAX_REMEMBERED:
                del self._told[next(iter(self._told))]
        if isinstance(event, ScmChanged | ScmSeen):
            self._woken.set()

    def changed(self) -> None:
        """The definitions are others by now."""
        self._woken.set()

    async def run(self) -> None:
        """Keep what is adopted in step, for ever."""
        self._asked.clear()
        while True:
            self._woken.clear()
            is_done = True
            watches = self._world.definitions.watches
            for name in {**watches, **self._world.definitions.adopted}:
                is_done &= await self._settle(name, watches.get(name))
            await self._ask()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if is_done else AGAIN_S):
                    await self._woken.wait()

    # -- adopting -------------------------------------------------------------------------------

    async def _settle(self, name: str, watch: WatchFile | None) -> bool:
        """Bring one watch in step; return whether all of it could be had."""
        trouble = f"watch {name}"
        try:
            faults = await self._adopt(name, watch)
        except StaleError:
            self._woken.set()  # main moved on meanwhile
            return True
        except RotaError as error:
            faults = [error.message]
        if faults:
            self._world.troubles[trouble] = f"watch {name}: {'; '.join(faults[:3])}"
            logger.warning("watch %s: %s", name, "; ".join(faults))
        else:
            self._world.troubles.pop(trouble, None)
        return not faults

    async def _adopt(self, name: str, watch: WatchFile | None) -> list[str]:
        definitions = self._world.definitions
        before = definitions.adopted.get(name)
        picture = self._world.cluster.picture
        wanted: dict[str, Target] = {}
        faults: list[str] = []
        if watch is not None:
            if f"{repo_key(watch.git)} *" not in picture.tips:
                return []  # nobody has looked yet
            wanted = targets(watch, picture.tips, picture.pulls.values())
            if len(wanted) > MAX_BRANCHES:
                faults.append(f"{len(wanted)} branches and pull requests, {MAX_BRANCHES} are taken")
                wanted = dict(list(wanted.items())[:MAX_BRANCHES])
        known = before or Adopted()
        changes: dict[str, bytes | None] = {}
        entries = dict(known.entries)
        for folder, entry in known.entries.items():
            if entry.ref not in wanted:
                self._remove(changes, name, folder, entry.jobs)
                del entries[folder]
        for target in wanted.values():
            folder = folder_for(target, Adopted(entries))
            former = entries.get(folder)
            if former is not None and former.commit == target.commit:
                continue
            assert watch is not None
            try:
                entry = await self._take(changes, name, watch, folder, target, former)
            except RotaError as error:
                faults.append(f"{target.ref}: {error.message}")
                continue
            entries[folder] = replace(entry, seq=0) if before is None else entry
        await self._commit(name, changes, before, Adopted(dict(sorted(entries.items()))), watch)
        return faults

    async def _take(
        self,
        changes: dict[str, bytes | None],
        name: str,
        watch: WatchFile,
        folder: str,
        target: Target,
        former: Entry | None,
    ) -> Entry:
        """Note the changes that one ref's jobs make, and return what is adopted of it."""
        want = Revision(
            url=watch.git,
            ref=target.ref,
            commit=target.commit,
            base=target.base,
            number=target.number,
            head=target.head,
            head_url=target.head_url,
        )
        await self._checkout.find(want, depth=0, say=lambda _: None)
        found = await self._checkout.files(want, FOLDER, max_files=MAX_JOBS, max_bytes=MAX_SCRIPT)
        files = None
        if former is not None:
            files = await self._checkout.changed(want, former.commit)
        own = former.jobs if former is not None else ()
        jobs, faults = self._checked(changes, name, folder, found, own)
        gone = [job for job in own if job not in jobs]
        self._remove(changes, name, folder, gone)
        return Entry(
            ref=target.ref,
            commit=target.commit,
            seq=target.seq,
            jobs=tuple(jobs),
            faults=tuple(faults[:MAX_FAULTS]),
            number=target.number,
            base=target.base,
            head=target.head,
            head_url=target.head_url,
            fork=target.fork,
            files=files,
        )

    def _checked(
        self,
        changes: dict[str, bytes | None],
        name: str,
        folder: str,
        found: Mapping[str, bytes],
        own: Sequence[str],
    ) -> tuple[list[str], list[str]]:
        """Note the scripts that are jobs; of a bad one the last good version stays."""
        jobs: list[str] = []
        faults: list[str] = []
        there = self._world.definitions.files
        for short, data in sorted(found.items()):
            path = f"{JOBS}{name}/{folder}/{short}"
            fault = job_name_fault(path.removeprefix(JOBS))
            if fault is not None:
                faults.append(f"{FOLDER}/{short}: bad job name: {fault}")
                continue
            if short not in own and path in there:
                faults.append(f"{FOLDER}/{short}: there is a job {path.removeprefix(JOBS)} already")
                continue
            problems = [*check_file(path, data), *clashes([path], there)]
            if problems:
                faults += (str(it).replace(path, f"{FOLDER}/{short}") for it in problems)
                if short in own:
                    jobs.append(short)
                continue
            jobs.append(short)
            changes[path] = data
        return jobs, faults

    def _remove(
        self, changes: dict[str, bytes | None], name: str, folder: str, jobs: Sequence[str]
    ) -> None:
        for job in jobs:
            for path in (f"{JOBS}{name}/{folder}/{job}", f"{PAUSED}{name}/{folder}/{job}"):
                if path in self._world.definitions.files:
                    changes[path] = None

    async def _commit(
        self,
        name: str,
        changes: dict[str, bytes | None],
        before: Adopted | None,
        after: Adopted,
        watch: WatchFile | None,
    ) -> None:
        path = f"{ADOPTED}{name}.json"
        if watch is None:
            if path not in self._world.definitions.files:
                return
            changes[path] = None
        elif after != before:
            changes[path] = encode_adopted(after)
        if not changes:
            return
        base = self._world.commit
        there = await self._store.tree(base)
        changes = {p: data for p, data in changes.items() if data is not None or p in there}
        moved = [it for it in after.entries.values() if before is None or it not in _values(before)]
        what = ", ".join(f"{it.ref} at {it.commit[:12]}" for it in moved[:3]) or "what is gone"
        await self._main.commit(
            changes, base=base, author=AUTHOR, message=f"watch {name}: {what}", by=self._name
        )

    # -- asking ---------------------------------------------------------------------------------

    async def _ask(self) -> None:
        """Ask for the builds that what was adopted last starts."""
        causes: dict[tuple[str, str], list[Request]] = {}
        for job, definition in self._world.definitions.jobs.items():
            adoption = definition.adopted
            if adoption is None or definition.paused is not None or not is_meant(adoption):
                continue
            request = self._request(job, adoption)
            if request.id not in self._asked and self._world.find(request.id) is None:
                causes.setdefault((adoption.watch, adoption.folder), []).append(request)
        for requests in causes.values():
            for event, _ in self._plan(requests):
                with contextlib.suppress(StaleError):  # somebody asked for them, or says why not
                    append = partial(self._journal.append, event, expect=0)
                    seq = await persist("watch", append)
                    await self._world.reached(seq, FOLD_S)
            self._asked.update(request.id for request in requests)

    def _request(self, job: str, adoption: Adoption) -> Request:
        entry = adoption.entry
        watch = self._world.definitions.watches[adoption.watch]
        event = self._told.get(f"{entry.ref} {entry.commit}") or ScmChanged(
            at=self._clock.now(),
            id="",
            what="pull" if entry.number else "push",
            repo=repo_key(watch.git),
            url=watch.git,
            ref=entry.ref,
            new=entry.commit,
            number=entry.number,
            base=entry.base,
            head=entry.head,
            head_url=entry.head_url,
            fork=entry.fork,
        )
        # The job's source is the watched URL, by whichever of its names the event was told.
        data = scm_data(event) | {"repo": repo_key(watch.git), "url": watch.git}
        kind = "pull-request" if entry.number else "push"
        return Request(
            id=derived_id("adopted", job, entry.commit, str(entry.seq)),
            job=job,
            cause=entry.seq,
            trigger=Trigger(
                kind=kind,
                by=event.author or event.by,
                source=f"{job}:{kind}",
                cause=entry.seq,
                data={key: text[:200] for key, text in data.items() if text},
            ),
        )


def _values(adopted: Adopted) -> list[Entry]:
    return list(adopted.entries.values())
