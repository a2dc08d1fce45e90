"""What is told of an event to somebody who does not see all jobs.

An event of what they see is told whole; of one that tells of several builds they are told the part
that they see; and of all else nothing, unless it is the cluster's or their own doing. A kind
that is not named here is not told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from rota.core.events import (
    AgentDrained,
    AgentFound,
    AgentJoined,
    AgentLabelled,
    AgentLeft,
    AgentLost,
    AgentStarted,
    AgentStopped,
    BuildEntered,
    BuildFact,
    BuildRequested,
    BuildsSwept,
    Emitted,
    Event,
    LeaderElected,
    LeaderResigned,
    PipelineRequested,
    SchedulesFired,
    SchedulesSet,
    StatusPosted,
    TokenMade,
    TokenRevoked,
    TriggerFailed,
    UserCode,
    UserLinked,
    UserUnlinked,
    VoterAppointed,
    VoterDismissed,
    VoterListening,
    Wanted,
)
from rota.core.job import Spec

Sees = Callable[[str], bool]


def as_seen(event: Event, name: str, sees: Sees, sees_build: Sees) -> Event | None:
    """Return an event as it is told; ``None`` if it is not.

    Args:
        event: As it stands in the journal.
        name: Of who is told.
        sees: Whether they see a job.
        sees_build: Whether they see the job of the build with that id.
    """
    match event:
        case BuildRequested() | TriggerFailed():
            return event if sees(event.job) else None
        case BuildFact() | BuildEntered() | StatusPosted():
            return event if sees_build(event.build) else None
        case PipelineRequested():
            return _pipeline(event, sees)
        case SchedulesSet():
            # Of one that is removed the name begins with its job's.
            removed = tuple(id_ for id_ in event.removed if sees(_job(id_)))
            set_ = {id_: it for id_, it in event.set.items() if sees(it.job)}
            skips = tuple(it for it in event.skips if sees(_job(it.schedule)))
            is_some = removed or set_ or skips
            return replace(event, removed=removed, set=set_, skips=skips) if is_some else None
        case SchedulesFired():
            return _fired(event, sees)
        case BuildsSwept():
            swept = tuple(it for it in event.swept if sees_build(it.build))
            return replace(event, swept=swept) if swept else None
        case Emitted():
            is_seen = sees_build(event.build) if event.build else event.by == name
            return event if is_seen else None
        case UserCode() | UserLinked() | UserUnlinked() | TokenMade() | TokenRevoked():
            return event if event.user == name else None
        case (
            AgentJoined()
            | AgentStarted()
            | AgentStopped()
            | AgentLost()
            | AgentDrained()
            | AgentFound()
            | AgentLabelled()
            | AgentLeft()
            | LeaderElected()
            | LeaderResigned()
            | VoterAppointed()
            | VoterListening()
            | VoterDismissed()
        ):
            return event
        case _:
            return None


def _pipeline(event: PipelineRequested, sees: Sees) -> PipelineRequested | None:
    builds = [it for it in event.builds if sees(it.job)]
    kept = _kept(builds, event.specs)
    moved = tuple(_moved(it, kept) for it in builds)
    return replace(event, builds=moved, specs=_specs(event.specs, kept)) if builds else None


def _fired(event: SchedulesFired, sees: Sees) -> SchedulesFired | None:
    seen = [it for it in event.fires if sees(_job(it.schedule))]
    kept = _kept([it for fire in seen for it in fire.builds if sees(it.job)], event.specs)
    fires = tuple(
        replace(fire, builds=tuple(_moved(it, kept) for it in fire.builds if sees(it.job)))
        for fire in seen
    )
    skips = tuple(it for it in event.skips if sees(_job(it.schedule)))
    if not fires and not skips:
        return None
    return replace(event, fires=fires, skips=skips, specs=_specs(event.specs, kept))


def _kept(builds: Sequence[Wanted], specs: Sequence[Spec]) -> list[int]:
    """Return the numbers of the settings that some of the builds have."""
    return sorted({it.spec for it in builds if 0 <= it.spec < len(specs)})


def _specs(specs: Sequence[Spec], kept: Sequence[int]) -> tuple[Spec, ...]:
    return tuple(specs[number] for number in kept)


def _moved(wanted: Wanted, kept: Sequence[int]) -> Wanted:
    """Return a build that counts into the settings that are kept."""
    return replace(wanted, spec=kept.index(wanted.spec) if wanted.spec in kept else 0)


def _job(schedule: str) -> str:
    """Return the job of a schedule, by which its name begins."""
    return schedule.partition(":")[0]
