"""Where a client is, where else it may go, and for how long it bears that nobody answers.

It stays with one agent for as long as that one answers. When it does not, the others that it named
are tried at once, one after another; the first that answers is where the client is from then on.
Only when none does it waits, longer each time, and gives up in the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from rota.client.answer import (
    BrokenError,
    BusyError,
    Headers,
    NoQuorumError,
    RefusedError,
    TooOftenError,
)
from rota.client.connection import CONNECT_S
from rota.client.place import Place, elsewhere, local_credentials
from rota.errors import UnavailableError

#: How long to wait for a connection: to an agent that answered before, if there are others; and,
#: once one is sought, to each, doubled with each round.
HOME_CONNECT_S, FIRST_CONNECT_S = 3.0, 0.5
FIRST_DELAY_S, LAST_DELAY_S = 0.05, 1.0
#: A daemon is restarted in less; a silence that is longer is told to whoever waits.
SILENT_S = 3.0


class Whereabouts:
    """Where a client is. ``saved`` are the URLs of other agents that were known before.

    ``place`` is what is asked next, ``home`` what answered last. ``note`` is told in one line when
    the client goes on elsewhere, and when answers are stale. ``learnt`` is told of other agents.
    ``renew`` gives a token in place of one that was turned away, or None.
    """

    def __init__(
        self,
        named: Place,
        *,
        saved: Collection[str] = (),
        note: Callable[[str], None],
        learnt: Callable[[tuple[str, ...]], None] | None = None,
        moves: bool = True,
        renew: Callable[[str], str | None] | None = None,
    ) -> None:
        self._renew = renew
        self.named = self.place = self.home = named
        self.agents: tuple[str, ...] = tuple(saved)
        self.seq = 0
        self.stale_since = ""
        self.has_answered = False
        self.connect_s = HOME_CONNECT_S if saved and moves else CONNECT_S
        self._credentials: Place | None = None
        self._name = ""
        self._why = ""
        self._note, self._learnt, self._moves = note, learnt, moves

    def others(self) -> list[Place]:
        """Return where else the client may go, but not home."""
        if not self._moves:
            return []
        bearer = self.bearer()
        found = [elsewhere(bearer, url) for url in self.agents]
        if self.home != self.named:
            found.append(self.named)
        return [place for place in found if place is not None and place.url != self.home.url]

    @property
    def may_move(self) -> bool:
        """Whether the client goes elsewhere at all."""
        return self._moves

    @property
    def renews(self) -> bool:
        """Whether there may be another token when the one that is shown is turned away."""
        return self._renew is not None

    def staying(self) -> Whereabouts:
        """Return the same place for one that does not move."""
        return Whereabouts(self.place, note=self._note, moves=False, renew=self._renew)

    def another(self, note: Callable[[str], None]) -> Whereabouts:
        """Return the same place, and the same others, for one that moves by itself."""
        other = Whereabouts(
            self.named,
            saved=self.agents,
            note=note,
            learnt=self._learnt,
            moves=self._moves,
            renew=self._renew,
        )
        other.place = other.home = self.home
        return other

    def follow(self, other: Whereabouts) -> None:
        """Ask next where another client of the same agents is: it knows who answers by now."""
        if other.home != self.home:
            self.place, self._why = other.home, "does not answer"

    def bearer(self) -> Place:
        """Return the agent that was named, with the token and CA that are known by it."""
        if self._credentials is None:
            is_local = self.named.is_local
            self._credentials = local_credentials(self.named) if is_local else self.named
        return self._credentials

    def trust(self, ca: str) -> None:
        """Believe the agents that this CA vouches for, also where the one named is asked otherwise."""
        self._credentials = self.bearer()._replace(ca=ca)

    def renewed(self) -> bool:
        """Whether there is another token to show, in place of the one that was turned away."""
        shown = self.place.token
        token = self._renew(shown) if self._renew is not None and shown else None
        if token is None or token == shown:
            return False
        self.place, self.home, self.named = (
            it._replace(token=token) if it.token == shown else it
            for it in (self.place, self.home, self.named)
        )
        self._credentials = None
        return True

    def heard(self, status: int, headers: Headers) -> None:
        """Take note of what an answer says beside itself. Who gave a good one is home now."""
        is_good = status < 500 and status not in (401, 403)
        if not is_good and self.place != self.home:
            return
        self._learn(headers.get("Rota-Agents"))
        if is_good:
            self._arrived(headers)
        if status < 400:
            self._age(headers.get("Rota-Stale-Since") or "")

    def _arrived(self, headers: Headers) -> None:
        name = headers.get("Rota-Agent") or self.place.url
        if self.place != self.home:
            self._note(f"rota: {self._name or self.home.url} {self._why}; going on at {name}")
        self.home, self._name = self.place, name
        self.has_answered = True
        self.connect_s = HOME_CONNECT_S if self.agents and self._moves else CONNECT_S
        seq = headers.get("Rota-Seq") or ""
        self.seq = max(self.seq, int(seq)) if seq.isdecimal() else self.seq

    def left(self, error: UnavailableError) -> None:
        """Take note of why home is left; it is told once another agent answers."""
        if not isinstance(error, RefusedError):
            self.has_answered = True
        busy = isinstance(error, BusyError)
        self._why = f"cannot now ({error.message})" if busy else "does not answer"

    def silent(self, error: UnavailableError) -> None:
        """Tell that nobody answers, and that it is tried again."""
        why = f" ({error.message})" if isinstance(error, BusyError) else ""
        self._note(f"rota: {self._name or self.home.url} does not answer; trying again{why}")

    def _learn(self, named: str | None) -> None:
        # An agent of an older version, or something between, names none: keep those known.
        if named is None or tuple(named.split()) == self.agents:
            return
        self.agents = tuple(named.split())
        if self._learnt is not None:
            self._learnt(self.agents)

    def _age(self, stale_since: str) -> None:
        if stale_since and not self.stale_since:
            self._note(f"rota: this answer is stale since {stale_since}: no quorum")
        self.stale_since = stale_since


class Patience:
    """Bears one streak of trouble after another; :meth:`reset` says that one is over."""

    def __init__(self, where: Whereabouts, limit_s: float, *, is_sure: bool = False) -> None:
        self._where = where
        self._limit_s = limit_s
        self._is_sure = is_sure  # that there is an agent: inside a build there is
        self.reset()

    def reset(self) -> None:
        """Forget former failures: there was progress."""
        self._began: float | None = None
        self._delay, self._connect_s = FIRST_DELAY_S, FIRST_CONNECT_S
        self._is_told = False
        self._left: list[Place] = []
        self._round: list[UnavailableError] = []

    def bear(self, error: UnavailableError, *, repeat: bool = True) -> None:
        """Return when and where to try again: the client is elsewhere by then, or time has passed.

        ``repeat`` says that asking twice does no harm. Where nothing was asked, it never does.

        Raises:
            UnavailableError: it may not be repeated, trying again cannot help, or patience is over.
        """
        where = self._where
        if not (repeat or isinstance(error, (RefusedError, TooOftenError))):
            raise error
        self._round.append(error)
        if where.place == where.home:
            where.left(error)
        if self._began is None:
            self._began = time.monotonic()
            self._left = where.others()
        if not self._left:
            self._wait()
        where.place = self._left.pop(0)
        is_alone = where.place == where.home and not self._left
        where.connect_s = CONNECT_S if is_alone else self._connect_s

    def _wait(self) -> None:
        """Begin another round, after a while."""
        where = self._where
        told = _most_telling(self._round)
        left = (self._began or 0.0) + self._limit_s - time.monotonic()
        if left <= 0 or not self._may_help(told):
            where.place, where.connect_s, where.seq = where.home, CONNECT_S, 0
            self.reset()
            raise told
        if not self._is_told and left < self._limit_s - SILENT_S:
            self._is_told = True
            where.silent(told)
        wanted = told.after_s if isinstance(told, TooOftenError) else 0.0
        time.sleep(min(max(self._delay, wanted), left))
        self._delay = min(self._delay * 2, LAST_DELAY_S)
        self._connect_s = min(self._connect_s * 2, CONNECT_S)
        self._left = [where.home, *where.others()]
        self._round = []

    def _may_help(self, told: UnavailableError) -> bool:
        if self._is_sure:
            return isinstance(told, (RefusedError, BrokenError, BusyError))
        if isinstance(told, RefusedError):
            # Nobody there at all is an answer, unless somebody was a moment ago.
            return self._where.has_answered
        return isinstance(told, (BrokenError, BusyError)) and not isinstance(told, NoQuorumError)


def _most_telling(errors: list[UnavailableError]) -> UnavailableError:
    """Return the error that says most of why nobody could: a reason rather than silence."""
    return min(errors, key=_silence)


def _silence(error: Exception) -> int:
    ranks = (NoQuorumError, BusyError, BrokenError, RefusedError)
    return next((rank for rank, kind in enumerate(ranks, 1) if isinstance(error, kind)), 0)
