"""What a back-up says of itself, and what becomes of a state that is taken from one.

A back-up is a tar archive: a manifest, the state as of one event of the journal, the store as of the
same, keys, logs, artifacts, and an ending that has a hash of all before it. Who restores it begins a
cluster of its own that goes on where the state is: with the same numbers, and none of the members.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from msgspec.structs import replace

from rota.core.build import Build
from rota.core.cluster import Picture
from rota.core.events import EPOCH
from rota.core.instant import Instant
from rota.core.schedules import Note, Scheduled, Skip, left
from rota.core.states import State
from rota.core.timetable import Timetable

FORMAT = 1
MANIFEST, STATE, STORE, ENDING = "rota-backup.json", "state.json", "store.bundle", "ending.json"
KEYS, SEALED = "keys.json", "keys.age"
LOGS, ARTIFACTS = "logs/", "artifacts/"
#: The ending with its header, and what ends a tar archive: always so many bytes.
TAIL_BYTES = 2048
#: No agent can have such a name: what ran on one of before is not taken for a new one's.
GONE = " (before the restore)"
WHY = "what was due between the back-up and now may have run; its cluster was restored from it"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What stands first: of which cluster, state and time it is, and what is in it."""

    format: int = FORMAT
    rota: str
    level: int
    agent: str
    at: Instant
    seq: int
    main: str
    history: str
    ca: str  # the fingerprint of the cluster's authority; empty without keys
    sealed_for: str = ""  # the age recipient whose identity opens the keys
    has_logs: bool = True
    has_artifacts: bool = True
    elsewhere: str = ""  # the bucket or folder that keeps artifacts, which are not in it

    @property
    def heads(self) -> dict[str, str]:
        """By branch of the store, the commit that it is at."""
        found = {"main": self.main, "history": self.history}
        return {branch: commit for branch, commit in found.items() if commit}


class Ending(msgspec.Struct, frozen=True):
    """What stands last: how many bytes come before it, and their SHA-256 in hex."""

    bytes: int
    sha256: str


class Keys(msgspec.Struct, frozen=True):
    """What makes a cluster the same to its secrets, webhooks and clients: PEM, and age identities."""

    ca: str
    ca_key: str
    identities: str = ""


def anew(picture: Picture, at: datetime, *, keep_missed: bool = False) -> Picture:
    """Return a state for a cluster that begins from it at ``at``, without any member.

    What ran is lost with its agents, as the new leader will record. What was due since the state was
    taken is settled as skipped, unless ``keep_missed`` leaves it to each schedule's misfire policy:
    nobody knows here whether the former cluster ran it.
    """
    fresh = msgspec.convert(msgspec.to_builtins(picture), Picture)
    fresh.agents, fresh.voters, fresh.machines, fresh.caches = {}, {}, {}, {}
    fresh.leader, fresh.leader_seq, fresh.leader_since, fresh.leader_why = "", 0, EPOCH, ""
    fresh.builds = {id_: _left(build) for id_, build in fresh.builds.items()}
    if keep_missed:
        return fresh
    skips = [
        it for it in (_due(id_, known, at) for id_, known in sorted(fresh.schedules.items())) if it
    ]
    for skip in skips:
        known = fresh.schedules[skip.schedule]
        fresh.schedules[skip.schedule] = replace(known, cursor=skip.last)
    if skips:
        fresh.ledger = (*fresh.ledger, Note(seq=fresh.seq, at=at, by="restore", skips=tuple(skips)))
    return fresh


def _left(build: Build) -> Build:
    """Return a build as its cluster left it: what ran is nobody's that could be called so again."""
    agent = f"{build.agent}{GONE}" if build.state is State.RUNNING else build.agent
    # The new journal has nothing of it: who writes next must expect that.
    return replace(build, last_seq=0, agent=agent)


def _due(id_: str, scheduled: Scheduled, at: datetime) -> Skip | None:
    """Return what a schedule had to fire by ``at``, as skipped; ``None`` if there was nothing."""
    rule = scheduled.rule
    if rule.calendars or rule.excepts:
        # What they say is not at hand: the whole time is settled, whatever was due in it.
        first = scheduled.settled + timedelta(microseconds=1)
        return Skip(id_, first, at, WHY, 0) if first <= at else None
    try:
        return left(id_, scheduled, Timetable(rule, id_, {}), at, WHY)
    except (ValueError, KeyError):
        return None
