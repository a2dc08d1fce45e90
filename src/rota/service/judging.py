"""Whether somebody may ask a verb: by the role on what it is about, as the table of verbs says."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from rota.core.rights import Role
from rota.service import messages as m
from rota.service.builds import find_build, unknown_job
from rota.service.context import Principal, Service
from rota.service.verbs import About, Verb


def refuse_early(verb: Verb, who: Principal) -> None:
    """Do nothing, unless there is nothing at all about which somebody might ask that.

    For before the request is read.

    Raises:
        DeniedError: there is nothing.
    """
    match verb.about:
        case About.EVERYTHING:
            who.require(verb.role, verb.command)
        case About.NOBODY:
            pass
        case About.ONESELF if verb.role <= Role.VIEWER:
            pass
        case _:
            who.require_anywhere(verb.role, verb.command)


def judged(service: Service, verb: Verb, wanted: m.Request, who: Principal) -> Any:
    """Return the request of somebody who may ask it. A build is named by its id in it, if need be.

    Cost: where somebody has the role over everything a comparison; else a look-up of the job or build.

    Raises:
        DeniedError: the role on what the request is about is less than the verb needs.
        NotFoundError: it is about what there is not, or what somebody does not see.
    """
    if who.role >= verb.role:
        return wanted
    match verb.about:
        case About.JOB:
            job: str = wanted.job  # type: ignore[attr-defined]  # a test holds the table to that
            # Whoever would make a job is told what is missing: that says nothing of whether it is there.
            if verb.name != "put" and not who.sees(job):
                raise unknown_job(service.world, job, who.sees)
            who.require_on(verb.role, job, verb.command)
        case About.BUILD:
            named: str = wanted.build  # type: ignore[attr-defined]  # as above
            found = find_build(service.world, named, who.sees)
            who.require_on(verb.role, found.job, verb.command)
            # The handler looks again, and at everything: by the id it finds the same one.
            return replace(wanted, build=found.id)
        case _:
            refuse_early(verb, who)
    return wanted
