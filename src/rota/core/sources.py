"""What each job's builds were last made of, by branch: so changes and culprits cost no search."""

from __future__ import annotations

import msgspec

from rota.core.scm import MAX_CULPRITS, Commit, Source

#: A cluster that builds more branches than this forgets which was built longest ago.
MAX_SEEN = 20_000


class Seen(msgspec.Struct, frozen=True, omit_defaults=True):
    """The commit of the last build, that of the last good one, and who committed since that."""

    commit: str
    good: str = ""
    culprits: tuple[str, ...] = ()


def source_key(job: str, source_branch: str) -> str:
    """Return what the builds of one job and branch have in common."""
    return f"{job} {source_branch}"


def lane(source: Source) -> str:
    """Return which line of builds a source belongs to: a pull request is one of its own."""
    return f"#{source.number}" if source.number else source.branch or source.ref


def culprits(seen: Seen | None, changes: tuple[Commit, ...]) -> tuple[str, ...]:
    """Return who committed since the last good build, oldest first."""
    former = seen.culprits if seen is not None else ()
    new = (change.who for change in reversed(changes))
    return tuple(dict.fromkeys([*former, *new]))[:MAX_CULPRITS]


def note_source(sources: dict[str, Seen], job: str, source: Source) -> None:
    """Take note of what a build is made of."""
    key = source_key(job, lane(source))
    known = sources.pop(key, None)
    good = known.good if known is not None else ""
    sources[key] = Seen(source.commit, good, source.culprits)
    while len(sources) > MAX_SEEN:
        del sources[next(iter(sources))]


def note_good(sources: dict[str, Seen], job: str, source: Source) -> None:
    """Take note that a build passed: what came later is still to be judged."""
    key = source_key(job, lane(source))
    known = sources.get(key)
    if known is None:
        return
    is_last = known.commit == source.commit
    sources[key] = Seen(known.commit, source.commit, () if is_last else known.culprits)
