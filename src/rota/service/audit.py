"""Verbs on the audit: who did what, and where the history ends. What proves it is in ``verifying``."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta

import msgspec

from rota.core.audit import Head
from rota.core.chain import read_anchor
from rota.core.deeds import LINE, Deed, check_verb, fits, read_deed
from rota.core.moments import parse_moment
from rota.errors import NotFoundError
from rota.service import audit_messages as a
from rota.service.context import Principal, Service


async def audit(service: Service, request: a.AuditRequest, who: Principal) -> a.AuditView:
    """Return deeds, the newest first: those in memory, and then those of the history.

    Cost: where few fit, a pass over the messages of all commits; 10 µs a deed, less for one principal's.

    Raises:
        InputError: a time is none, or a verb.
    """
    if request.what:
        check_verb(request.what)
    now = service.clock.now()
    after, until = (
        parse_moment(request.after, now, "after"),
        parse_moment(request.until, now, "until"),
    )
    found: list[a.DeedView] = []
    async with contextlib.aclosing(_deeds(service, request, after)) as deeds:
        async for deed in deeds:
            if until is not None and deed.at >= until:
                continue
            if after is not None and deed.at < after:
                continue
            if not fits(deed, by=request.by, job=request.job, verb=request.what):
                continue
            if len(found) == request.limit:
                return a.AuditView(deeds=found, more=True)
            found.append(a.DeedView.of(deed))
    return a.AuditView(deeds=found, more=False)


#: Clocks of agents differ by less: so much older a deed is followed by older ones only.
SKEW = timedelta(hours=1)


async def _deeds(
    service: Service, request: a.AuditRequest, after: datetime | None
) -> AsyncGenerator[Deed]:
    last = request.before or 2**63
    # What a line must have in it is looked for before it is read.
    word = f'"by":{msgspec.json.encode(request.by).decode()}' if request.by else LINE
    for deed in tuple(service.world.deeds()):
        if deed.seq < last:
            last = deed.seq
            yield deed
    async with contextlib.aclosing(service.store.log(word)) as log:
        async for logged in log:
            told = [read_deed(line) for line in logged.message.split("\n") if word in line]
            deeds = [deed for deed in told if deed is not None]
            for deed in reversed(deeds):
                if deed.seq < last:
                    last = deed.seq
                    yield deed
            if after is not None and deeds and deeds[-1].at < after - SKEW:
                return


async def audit_head(service: Service, request: object, who: Principal) -> a.HeadView:
    """Return the end of this agent's history.

    Raises:
        NotFoundError: there is none that is anchored.
    """
    head = await anchored_head(service)
    if head is None:
        raise NotFoundError(
            "the history has no chain yet: no commit of it says what the journal was",
            hint="it begins once all agents run this version, and something was built or done",
        )
    return a.HeadView(
        agent=service.me.name,
        seq=head.seq,
        chain=head.chain,
        commit=head.commit,
        line=head.line(),
    )


async def anchored_head(service: Service) -> Head | None:
    """Return the end of this agent's history; ``None`` if its last commit has no anchor."""
    async with contextlib.aclosing(service.store.log()) as log:
        async for logged in log:
            anchor = read_anchor(logged.message)
            return None if anchor is None else Head(anchor.seq, anchor.chain, logged.commit)
    return None
