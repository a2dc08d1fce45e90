"""Who is told what of builds: ends, questions and approvals held against what people want to know.

Pure, so that any leader finds the same. What is told of a tree is told when its root ends: its
failures by one notice, whoever wants to know of several of its jobs. Of a matrix the group speaks.

A *lane* is a job's line of builds of one branch, or of one pull request. It breaks by a build that
fails, which is everybody's first failure who is not told of the break yet, and is mended by one
that passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from typing import Literal

import msgspec

from rota.core.access import rights_of
from rota.core.build import Build
from rota.core.definitions import Definitions
from rota.core.job import Reason
from rota.core.linking import Linking
from rota.core.outbox import (
    Broken,
    Due,
    Tale,
    Telling,
    approval_mark,
    end_mark,
    question_mark,
)
from rota.core.people import open_questions, resolved, wants_approval
from rota.core.preferences import DEFAULT_ON, Preference
from rota.core.questions import Question
from rota.core.quiet import quiet_until
from rota.core.rights import Rights
from rota.core.settings_notify import networks_of, outlets_of
from rota.core.sources import lane as source_lane
from rota.core.states import Result, State
from rota.core.targets import MAIL, Target, parse_target
from rota.core.users import Users, folded
from rota.core.zones import find_zone

BAD = frozenset({Result.FAILED, Result.TIMED_OUT, Result.ERRORED, Result.LOST})
#: What may be the fault of who committed; the rest is that of machines.
_BLAMED = frozenset({Result.FAILED, Result.TIMED_OUT})
#: Of several occasions that fit a notice names the first.
_RANK = ("asked", "fixed", "first-failure", "failed", "passed", "always")
#: A notice names so many builds of a tree.
MAX_FAILED = 20
#: One end is told to so many at most: it is one event.
MAX_AT_ONCE = 2000
_EMAIL = re.compile(r"<([^<>]*)>\s*$")


def _all_see(user: str, job: str) -> bool:
    return True


class Audience(msgspec.Struct, frozen=True):
    """Everybody who may want to be told, and by what they can be.

    ``channels`` are the settings'; ``networks`` the names of those that are set up, mail and outlets
    among them; ``sessions`` who is linked on a network for as long as a session lasts. ``watchers``
    are the users who want to know of builds that are not theirs. ``sees`` says whether a user is to know
    of a job at all.
    """

    users: Users
    channels: tuple[Preference, ...] = ()
    networks: frozenset[str] = frozenset()
    outlets: frozenset[str] = frozenset()
    groups: Mapping[str, Sequence[str]] = {}
    sessions: Mapping[str, Mapping[str, str]] = {}
    watchers: tuple[str, ...] = ()
    sees: Callable[[str, str], bool] = _all_see

    @property
    def is_nobody(self) -> bool:
        """Whether nobody could be told anything, unless a job's header names somebody."""
        return not self.networks or not (self.channels or self.users)


def audience(
    users: Users,
    channels: Sequence[Preference],
    *,
    networks: Iterable[str],
    outlets: Iterable[str] = (),
    groups: Mapping[str, Sequence[str]] = {},
    sessions: Mapping[str, Mapping[str, str]] = {},
    sees: Callable[[str, str], bool] = _all_see,
) -> Audience:
    """Return who may want to be told. Cost: a look at each user."""
    watchers = tuple(
        name
        for name, user in users.items()
        if any(wish.whose == "all" for wish in user.preferences or ())
    )
    return Audience(
        users=users,
        channels=tuple(channels),
        networks=frozenset(networks) | frozenset(outlets),
        outlets=frozenset(outlets),
        groups=groups,
        sessions=sessions,
        watchers=watchers,
        sees=sees,
    )


def audience_of(definitions: Definitions, linking: Linking) -> Audience:
    """Return who may want to be told, as settings, users and links are. Cost: a look at each user."""
    settings = definitions.settings
    known: dict[str, Rights] = {}

    def sees(user: str, job: str) -> bool:
        if user not in known:
            known[user] = rights_of(definitions.users, settings, user)
        return known[user].sees(job)

    return audience(
        definitions.users,
        settings.notify,
        networks=networks_of(settings),
        outlets=outlets_of(settings),
        groups=settings.groups,
        sessions={
            network: {who: it.user for who, it in found.items()}
            for network, found in linking.sessions.items()
        },
        sees=sees,
    )


def lane_of(build: Build) -> str:
    """Return which line of builds a build belongs to: its job's, of its branch or pull request."""
    data, scm = build.trigger.data, build.spec.scm
    if build.source is not None:
        lane = source_lane(build.source)
    elif data.get("number"):
        lane = f"#{data['number']}"
    elif data.get("branch"):
        lane = data["branch"]
    else:
        lane = scm.branch if scm is not None and "{" not in scm.branch else ""
    return f"{build.job} {lane}"


def is_bad(build: Build) -> bool:
    """Whether a build ended in a way that somebody has to look at."""
    return build.result in BAD


def is_told_with(build: Build, root: Build) -> bool:
    """Whether the end of a build is told with that of its root: it came first."""
    if build.id == root.id or build.finished_at is None or root.finished_at is None:
        return False
    return build.finished_at <= root.finished_at


def speaks_for_itself(build: Build, root: Build | None) -> bool:
    """Whether the end of a build is looked at by itself; a cell's never is, nor what its root tells.

    Args:
        build: A finished build.
        root: The root of its tree, if it is anywhere.
    """
    if build.cell:
        return False
    if root is None or root.id == build.id:
        return True
    return root.state is State.FINISHED and not is_told_with(build, root)


def look_at_end(
    whom: Audience,
    root: Build,
    tree: Sequence[Build],
    broken: Mapping[str, Broken],
    at: datetime,
    flaky: Set[str] = frozenset(),
) -> Telling | None:
    """Return what the end of a build gives to tell; ``None`` if that is nothing.

    Args:
        whom: Who may want to know.
        root: A finished build; its tree is told with it.
        tree: The other builds of its tree that had ended by then.
        broken: The lanes that are.
        at: Now, for quiet hours.
        flaky: The ids of those that failed by nothing but flaky tests: no committer is to blame.
    """
    members = [it for it in tree if is_told_with(it, root)]
    members.sort(key=lambda it: (it.seq, it.id))
    bad = [it for it in members if is_bad(it) and not it.cell]
    cells = [it for it in members if it.cell and is_bad(it)]
    look = _Look(whom, broken, at, flaky)
    if is_bad(root) or (root.reason is Reason.UNMET and bad):
        look.at(root, failing=True, failed=bad, culprits=[root, *bad, *cells])
        others = bad
    elif bad:
        speaks, *others = bad
        look.at(speaks, failing=True, failed=others, culprits=[*bad, *cells])
    else:
        others = []
    for build in others:
        # Who wants to know of these alone; persons know by now.
        look.at(build, failing=True, persons=False)
    passed = [root, *(it for it in members if not it.cell)]
    for build in passed:
        if not is_bad(build) and build.reason is not Reason.UNMET:
            own = [it for it in members if it.cell and it.parent == build.id]
            look.at(build, culprits=[build, *own])
    return _telling(root, end_mark(root), look.tales)


def look_at_questions(
    whom: Audience, build: Build, known: Set[str], at: datetime
) -> Iterator[Telling]:
    """Yield what is to be told of what a build asks people, but for what is ``known``: marks."""
    if wants_approval(build) and build.asked_at is not None:
        mark = approval_mark(build)
        approve = build.spec.approve
        if mark not in known and not build.cell:
            who = approve.who if approve is not None else ()
            without = {build.trigger.by} if approve and not approve.self_approval else set()
            tale = _asked(whom, build, 0, who, at, without)
            yield from _tellings(build, mark, tale)
    for question in open_questions(build):
        mark = question_mark(question.number)
        if mark not in known:
            yield from _tellings(build, mark, _question(whom, build, question, at))


def _question(whom: Audience, build: Build, question: Question, at: datetime) -> Tale | None:
    return _asked(whom, build, question.number, question.who, at, set())


def _tellings(build: Build, mark: str, tale: Tale | None) -> Iterator[Telling]:
    if tale is not None:
        yield Telling(build=build.id, mark=mark, tales=(tale,))


def _telling(build: Build, mark: str, tales: Sequence[Tale]) -> Telling | None:
    return Telling(build=build.id, mark=mark, tales=tuple(tales)) if tales else None


#: Who wants to know of one of these wants to know when what broke is mended, if at all.
_CARES = {"failed", "first-failure", "fixed", "always"}


class _Story(msgspec.Struct):
    """One build, what of it fits, and who hears of it."""

    fits: Set[str]
    broken: Broken | None
    notices: list[Due] = []
    concerned: dict[str, None] = {}
    handled: set[str] = set()


class _Look:
    """One look at the end of a tree: nobody is told twice, no target is."""

    def __init__(
        self, whom: Audience, broken: Mapping[str, Broken], at: datetime, flaky: Set[str]
    ) -> None:
        self._whom, self._broken, self._at = whom, broken, at
        self._flaky = flaky
        self._seen: set[str] = set()  # what of targets was told
        self._handled: set[str] = set()  # who was thought of
        self.tales: list[Tale] = []

    def at(
        self,
        build: Build,
        *,
        failing: bool = False,
        failed: Sequence[Build] = (),
        culprits: Sequence[Build] | None = None,
        persons: bool = True,
    ) -> None:
        """Look at one build; ``culprits`` are the builds whose committers it concerns."""
        if build.reason is Reason.SUPERSEDED:
            return
        lane = lane_of(build)
        broken = self._broken.get(lane)
        jobs = {build.job, *(it.job for it in failed)}
        fits = {"always"}
        if failing:
            fits |= {"failed", "first-failure"}
        elif build.result is Result.PASSED:
            fits |= {"passed", "fixed"} if broken is not None else {"passed"}
        story = _Story(fits=fits, broken=broken)
        if persons:
            blamed = [it for it in culprits or (build,) if it.id not in self._flaky]
            mine = _mine(self._whom, build, blamed, failing)
            for name in self._candidates(build.job, mine, broken, failing=failing):
                known = broken is not None and f"@{name}" in broken.concerned
                wishes = [
                    it
                    for it in wishes_of(self._whom, name)
                    if (it.whose == "all" or known or name in mine) and any(map(it.is_of, jobs))
                ]
                if wishes:
                    self._person(story, name, wishes, is_mine=name in mine)
        for wish in channels_of(self._whom, build):
            if wish.is_of(build.job):
                for target in wish.to:
                    self._hear(story, target.text, "", wish, [target], may_be_fixed=True)
        self._handled |= story.handled
        self._note(build, lane, story, failing=failing, failed=failed)

    def _candidates(
        self, job: str, mine: Iterable[str], broken: Broken | None, *, failing: bool
    ) -> Iterable[str]:
        known = () if broken is None or failing else broken.concerned
        told = [key[1:] for key in known if key.startswith("@")]
        found = dict.fromkeys([*mine, *self._whom.watchers, *told])
        return [name for name in found if name in self._whom.users and self._whom.sees(name, job)]

    def _person(
        self, story: _Story, name: str, wishes: Sequence[Preference], *, is_mine: bool
    ) -> None:
        """Let a user hear of a build by each wish; who was told that it broke hears that it is mended."""
        key = f"@{name}"
        is_known = story.broken is not None and key in story.broken.concerned
        for wish in wishes:
            if wish.whose == "all" or is_mine:
                self._hear(story, key, name, wish, wish.to, may_be_fixed=is_known)
            elif is_known and "fixed" in story.fits and "fixed" in wish.on:
                self._tell(story, name, "fixed", wish.to)

    def _hear(
        self,
        story: _Story,
        key: str,
        user: str,
        wish: Preference,
        targets: Iterable[Target],
        *,
        may_be_fixed: bool,
    ) -> None:
        if key in self._handled:
            return
        fits = story.fits if may_be_fixed else story.fits - {"fixed"}
        is_known = story.broken is not None and key in story.broken.concerned
        if _occasion(wish, fits):
            story.handled.add(key)
        if "failed" in fits and not is_known and _CARES & set(wish.on):
            story.concerned[key] = None
        occasion = _occasion(wish, fits - {"first-failure"} if is_known else fits)
        if occasion:
            self._tell(story, user, occasion, targets)

    def _tell(self, story: _Story, user: str, occasion: str, targets: Iterable[Target]) -> None:
        for target in targets:
            if len(self._seen) >= MAX_AT_ONCE:
                return
            due = _due(self._whom, target, occasion, user, self._at)
            if due is not None and (place := place_of(self._whom, due)) not in self._seen:
                self._seen.add(place)
                story.notices.append(due)

    def _note(
        self, build: Build, lane: str, story: _Story, *, failing: bool, failed: Sequence[Build]
    ) -> None:
        broken = story.broken
        turn: Literal["", "broken", "fixed"] = ""
        if failing and story.concerned:
            turn = "broken"
        elif build.result is Result.PASSED and broken is not None:
            turn = "fixed"
        if not story.notices and not turn:
            return
        self.tales.append(
            Tale(
                build=build.id,
                ref=build.ref,
                lane=lane if turn else "",
                turn=turn,
                concerned=tuple(story.concerned),
                failed=tuple(it.id for it in failed[:MAX_FAILED]),
                since=broken.ref if broken is not None and broken.ref != build.ref else "",
                notices=tuple(story.notices),
            )
        )


def _occasion(wish: Preference, fits: Set[str]) -> str:
    return next((it for it in _RANK if it in fits and it in wish.on), "")


# -- who, and where ---------------------------------------------------------------------------------


def channels_of(whom: Audience, build: Build) -> tuple[Preference, ...]:
    """Return the channels of a build's job: its header's, or the settings'.

    A fork's header may name any address: nobody is told by it, not even that somebody is to approve.
    """
    own = build.spec.notify.channels if build.trusted else None
    return whom.channels if own is None else own


def wishes_of(whom: Audience, name: str) -> tuple[Preference, ...]:
    """Return what a user wants to know, what is usual if the user said nothing."""
    user = whom.users[name]
    if user.preferences is not None:
        return user.preferences
    home = home_of(whom, name)
    return () if home is None else (Preference(to=(home,), on=DEFAULT_ON),)


def home_of(whom: Audience, name: str) -> Target | None:
    """Return where a user is told who said nothing of it: the first linked network, else mail."""
    user = whom.users[name]
    linked = [*user.chat, *whom.sessions, MAIL]
    return next((Target(it) for it in linked if identity(whom, name, it)), None)


def identity(whom: Audience, name: str, network: str) -> str:
    """Return what a network that is set up knows a user by; empty if it does not."""
    user = whom.users.get(name)
    if user is None or network not in whom.networks or network in whom.outlets:
        return ""
    if network == MAIL:
        return next(iter(user.emails), "")
    lasting = next(iter(user.chat.get(network, ())), "")
    if lasting:
        return lasting
    sessions = whom.sessions.get(network, {})
    return next((who for who, owner in reversed(list(sessions.items())) if owner == name), "")


def room_of(whom: Audience, target: str) -> Target | str:
    """Return a target as its network knows it, or why there is no such place."""
    found = parse_target(target)
    if isinstance(found, str):
        return found
    if found.network not in whom.networks:
        name = found.network
        tables = "[mail]" if name == MAIL else f"[chat.{name}], [outlet.{name}]"
        return f"nothing is set up as {name}: {tables}"
    if not found.room and found.network not in whom.outlets:
        return f"{target} names no room, such as {found.network}:#web"
    if not found.user:
        return found
    who = identity(whom, found.user, found.network)
    if not who:
        return f"{found.user} is not known on {found.network}"
    return Target(found.network, who)


def place_of(whom: Audience, due: Due) -> str:
    """Return what is the same for two targets that are one place."""
    room = room_of(whom, due.target)
    if isinstance(room, str):
        return due.target
    return folded(room.text) if room.network == MAIL else room.text


def _due(whom: Audience, target: Target, occasion: str, user: str, at: datetime) -> Due | None:
    """Return a notice to a target of somebody's wish; ``None`` where it cannot be had there."""
    if user and not target.room and target.network not in whom.outlets:
        target = Target(target.network, f"@{user}")
    if isinstance(room_of(whom, target.text), str):
        return None
    is_own = user and (target.network == MAIL or target.network in whom.outlets)
    person = user if is_own else target.user
    after = None
    if person:
        known = whom.users[person]
        until = quiet_until(known.quiet, find_zone(known.timezone or "UTC"), at)
        after = until if until is not None and until > at else None
    return Due(target.text, occasion, person, after)


def _mine(whom: Audience, build: Build, culprits: Sequence[Build], failing: bool) -> Set[str]:
    """Return the users whose build it is: who committed, as far as anybody vouches, and who asked."""
    if not build.spec.notify.committers:
        return set()
    names = dict.fromkeys([asker_of(build)] if asker_of(build) else [])
    for it in culprits:
        if it.source is None or not it.trusted:
            continue  # in a fork anybody may write any name into a commit
        if failing and it.result not in _BLAMED:
            continue
        for who in it.source.culprits:
            found = _EMAIL.search(who)
            if found and (name := whom.users.by_email(found[1])):
                names[name] = None
    return names.keys()


def asker_of(build: Build) -> str:
    """Return who asked for a build by hand; empty if nobody did."""
    return build.trigger.by if build.trigger.kind in ("manual", "build", "chat") else ""


def _asked(
    whom: Audience,
    build: Build,
    number: int,
    who: Sequence[str],
    at: datetime,
    without: Set[str],
) -> Tale | None:
    named = resolved(who, whom.groups) if who else {asker_of(build)}
    names = [name for name in sorted(named - without) if name in whom.users]
    seen: set[str] = set()
    notices = []
    wishes = [(name, it) for name in names for it in wishes_of(whom, name)]
    wishes += [
        (name, it)
        for name in whom.watchers
        if name not in names and name not in without
        for it in wishes_of(whom, name)
        if it.whose == "all"
    ]
    wishes += [("", it) for it in channels_of(whom, build)]
    for name, wish in wishes:
        if "asked" not in wish.on or not wish.is_of(build.job):
            continue
        if name and not whom.sees(name, build.job):
            continue
        for target in wish.to:
            due = _due(whom, target, "asked", name, at)
            if due is not None and (place := place_of(whom, due)) not in seen:
                seen.add(place)
                notices.append(due)
    if not notices:
        return None
    return Tale(build=build.id, ref=build.ref, number=number, notices=tuple(notices[:MAX_AT_ONCE]))


def concerns(whom: Audience, build: Build) -> bool:
    """Whether a change of a build may be worth a look."""
    return not whom.is_nobody or bool(whom.networks and channels_of(whom, build))


def is_due(build: Build) -> bool:
    """Whether a build is at a point that may be worth a word: it ended, or waits for people."""
    if build.state is State.FINISHED:
        return not build.cell
    return bool(open_questions(build)) or (wants_approval(build) and build.asked_at is not None)
