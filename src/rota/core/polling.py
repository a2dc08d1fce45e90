"""Looking for pushes where nobody tells of them: which repositories, which refs, and what is new.

The first look at a ref whose repository nobody had looked at, or not for such refs, only notes where
it is: otherwise a new job would be started for each branch there ever was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

from rota.core.definitions import Definitions
from rota.core.events import ScmChanged, ScmSeen
from rota.core.ids import derived_id
from rota.core.patterns import matches
from rota.core.reactions import scm_rules
from rota.core.repository import repo_key
from rota.core.scm import OWN
from rota.core.told import Tip
from rota.core.triggers import Push

BRANCH, TAG = "refs/heads/", "refs/tags/"
EVERY = "*"
#: More refs than this are not followed in one repository: let it tell by a webhook.
MAX_REFS = 5000


class Poll(msgspec.Struct, frozen=True):
    """A repository to look at: how often, and for which branches and tags. A list of lists of globs."""

    url: str
    every_s: float
    branches: frozenset[tuple[str, ...]] = frozenset()
    tags: frozenset[tuple[str, ...]] = frozenset()

    @property
    def digest(self) -> str:
        """Return what tells it from one that follows other refs."""
        text = repr((sorted(self.branches), sorted(self.tags)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def follows(self, ref: str) -> bool:
        """Whether it is to be known when a ref moves."""
        if ref.startswith(BRANCH):
            return any(matches(globs, ref.removeprefix(BRANCH)) for globs in self.branches)
        if ref.startswith(TAG):
            return any(matches(globs, ref.removeprefix(TAG)) for globs in self.tags)
        return False


def polls(definitions: Definitions) -> dict[str, Poll]:
    """Return all repositories to look at, by their URL; of several wishes the most frequent one."""
    found: dict[str, Poll] = {}
    for definition in definitions.jobs.values():
        scm = definition.job.spec.scm
        if scm is None or scm.poll_s is None or scm.git == OWN or definition.paused is not None:
            continue
        for rule in scm_rules(definition.job):
            if isinstance(rule, Push) and not rule.repo:
                wish = Poll(scm.git, scm.poll_s, _one(rule.branches), _one(rule.tags))
                found[scm.git] = both(found.get(scm.git), wish)
    for watch in definitions.watches.values():
        wish = Poll(watch.git, watch.poll_s, _one(watch.branches))
        found[watch.git] = both(found.get(watch.git), wish)
    return found


def both(one: Poll | None, other: Poll) -> Poll:
    """Return what does for both."""
    if one is None:
        return other
    return Poll(
        one.url,
        min(one.every_s, other.every_s),
        one.branches | other.branches,
        one.tags | other.tags,
    )


def _one(globs: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    return frozenset([globs]) if globs else frozenset()


def news(
    poll: Poll, refs: Mapping[str, str], tips: Mapping[str, Tip], *, at: datetime, agent: str
) -> Iterator[ScmChanged | ScmSeen]:
    """Yield what a look found that is not known: each event with an id of its own.

    Args:
        poll: What was looked for.
        refs: All refs that are there now.
        tips: Where refs are known to be.
        at: Now.
        agent: Who looked.
    """
    repo = repo_key(poll.url)
    there = {ref: commit for ref, commit in refs.items() if poll.follows(ref)}
    marker = tips.get(f"{repo} {EVERY}")
    since = marker.seq if marker is not None else 0
    if marker is None or marker.commit != poll.digest:
        unknown = {ref: it for ref, it in there.items() if f"{repo} {ref}" not in tips}
        id_ = derived_id("seen", repo, poll.digest, str(since))
        yield ScmSeen(
            at=at, by=agent, agent=agent, id=id_, repo=repo, what=poll.digest, refs=unknown
        )
        there = {ref: commit for ref, commit in there.items() if ref not in unknown}
    for ref, commit in there.items():
        known = tips.get(f"{repo} {ref}")
        if known is None or known.commit != commit:
            yield _changed(poll.url, repo, ref, known or Tip("", since), commit, at=at, agent=agent)
    prefix = f"{repo} refs/"
    for key, known in tips.items():
        if key.startswith(prefix):
            ref = key.removeprefix(f"{repo} ")
            if ref not in refs and poll.follows(ref):
                yield _changed(poll.url, repo, ref, known, "", at=at, agent=agent)


def _changed(
    url: str, repo: str, ref: str, known: Tip, new: str, *, at: datetime, agent: str
) -> ScmChanged:
    what = "tag" if ref.startswith(TAG) else "push"
    return ScmChanged(
        at=at,
        by=agent,
        agent=agent,
        id=derived_id("poll", repo, ref, known.commit, new, str(known.seq)),
        what="removed" if not new else "tag" if what == "tag" else "push",
        repo=repo,
        url=url,
        ref=ref,
        old=known.commit,
        new=new,
    )
