"""The source code of an attempt: found, laid out, told of in the log, and recorded.

It happens before the script begins, and its output stands first in the log, as a group of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace

from rota.agent.workplace import work
from rota.core.build import Build
from rota.core.scm import MAX_CHANGES, Revision, Scm, Source, revision, shown
from rota.core.sources import culprits, lane, source_key
from rota.errors import CheckoutError
from rota.ports.checkout import Checkout, Found, Say, Story
from rota.service.world import World

MAX_LISTED = 10


class Sources:
    """Brings the source code of this agent's attempts."""

    def __init__(self, world: World, checkout: Checkout | None) -> None:
        self._world, self._checkout = world, checkout

    async def lay(
        self, build: Build, scm: Scm, home: Path, told: Callable[[Source], None]
    ) -> Source:
        """Lay a build's source code out in its workspace; return what it is.

        ``told`` gets it as soon as it is known, which is before the tree is there.

        Raises:
            CheckoutError: it cannot be had, or not be merged.
        """
        with _printer(home / "log") as say:
            say(f"::group::Check out {shown(scm.git)}")
            try:
                source = await self._lay(build, scm, work(home), told, say)
            except CheckoutError as error:
                say(f"rota: {error.message}")
                if error.hint:
                    say(f"hint: {error.hint}")
                raise
            finally:
                say("::endgroup::")
        return source

    async def _lay(
        self, build: Build, scm: Scm, folder: Path, told: Callable[[Source], None], say: Say
    ) -> Source:
        if self._checkout is None:
            raise CheckoutError("this agent cannot check out source code")
        try:
            want = revision(scm, build.trigger.data, build.params, build.source)
        except ValueError as error:
            raise CheckoutError(str(error)) from error
        found = await self._checkout.find(want, depth=scm.depth, say=say)
        source = _found(want, found)
        seen = self._world.cluster.picture.sources.get(source_key(build.job, lane(source)))
        before = seen.commit if seen is not None else ""

        async def tell() -> Source:
            depth = 0 if want.base else scm.depth
            story = await self._story(want, found, before, depth)
            full = _told(source, story, before)
            full = replace(
                full,
                culprits=culprits(seen, full.changes),
                good=seen.good if seen is not None else "",
            )
            if not found.base:
                told(full)
            return full

        # One process tells what there is while another one lays it out.
        story, commit = await asyncio.gather(
            tell(), self._checkout.write(want, found, scm, folder, say=say)
        )
        full = replace(story, commit=commit)
        if found.base:
            told(full)
        _say(full, say)
        return full

    async def _story(self, want: Revision, found: Found, before: str, depth: int) -> Story:
        assert self._checkout is not None
        return await self._checkout.story(
            want.url, found.commit, found.base or before, depth=depth, limit=MAX_CHANGES
        )


def variables(build: Build, source: Source | None) -> dict[str, str]:
    """Return what a script is told of its source code."""
    if source is None:
        return {}
    found = {
        "ROTA_GIT_URL": source.url,
        "ROTA_GIT_COMMIT": source.commit,
        "ROTA_GIT_REF": source.ref,
        "ROTA_GIT_BRANCH": source.branch,
        "ROTA_GIT_PREVIOUS": source.good,
        "ROTA_GIT_BASE": source.base,
        "ROTA_GIT_HEAD": source.head,
        "ROTA_PULL_REQUEST": str(source.number or ""),
    }
    trusted = {"ROTA_TRUSTED": "true" if build.trusted else "false"}
    return {name: text for name, text in found.items() if text} | trusted


@contextlib.contextmanager
def _printer(log: Path) -> Iterator[Say]:
    """Write lines to a build's log, each at once."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:

        def say(line: str) -> None:
            os.write(descriptor, f"{line}\n".encode("utf-8", "replace"))

        yield say
    finally:
        os.close(descriptor)


def _found(want: Revision, found: Found) -> Source:
    ref = found.ref
    branch = ref.removeprefix("refs/heads/") if ref.startswith("refs/heads/") else ""
    return Source(
        url=want.url,
        commit=found.commit,
        ref=ref or want.ref,
        branch=branch,
        number=want.number,
        base=want.base,
        head=found.commit if found.base else "",
    )


def _told(source: Source, story: Story, before: str) -> Source:
    return replace(
        source,
        author=story.head.who,
        message=story.head.message,
        before=before,
        changes=story.changes,
        more=story.more,
    )


def _say(source: Source, say: Say) -> None:
    where = f" of {source.branch}" if source.branch else ""
    say(f"{source.commit}{where}: {source.message}")
    for change in source.changes[:MAX_LISTED]:
        say(f"  {change.commit[:12]} {change.author}: {change.message}")
    left = len(source.changes) - MAX_LISTED
    if left > 0:
        say(f"  and {left}{' or more' if source.more else ''} others")
