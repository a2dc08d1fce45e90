"""The client: what programs ask of a cluster, and what the command line is made of."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Generator, Mapping
from typing import TYPE_CHECKING, Any

from rota.client import login
from rota.client.answer import Answer
from rota.client.connection import ANSWER_S
from rota.client.moves import Whereabouts
from rota.client.place import Place, find_place
from rota.client.rest import BUILD_PATIENCE_S, FOLLOW_PATIENCE_S, PATIENCE_S, Rest
from rota.errors import RotaError

if TYPE_CHECKING:
    # Not every command follows something: see the package's text.
    from rota.client.follow import Digest, Event, Piece, Start
    from rota.client.shell import Shell

#: How long one question waits for a build's end; it is asked again until then.
WAIT_S = 60.0


class Build(dict[str, Any]):
    """A build as REST gives it; ``answer`` is where it stood."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.json())
        self.answer = answer

    @property
    def ref(self) -> str:
        """The name that people use, such as ``web/test#7``."""
        return f"{self['job']}#{self['number']}"

    @property
    def is_finished(self) -> bool:
        """Whether it is over; then ``result`` says how."""
        return bool(self["state"] == "finished")


class Client(Rest):
    """Asks one agent of a cluster, and goes on at another when that one is gone.

    Reads, triggers, followed logs and events go on by themselves, without a gap or a repeat. What
    must not be done twice, and may have been done when the connection broke, is an error that says
    so. Not for several threads at a time.

    Args:
        place: The agent to begin with; see :meth:`find`.
        patience_s: How long one question is tried again when no agent answers.
        answer_s: How long an answer may take, beyond the wait that was asked for.
        build: The build that asks, if one does.
        saved: URLs of other agents, for when this one does not answer at all.
        note: Is told, in one line, when the client goes on elsewhere or an answer is stale.
        learnt: Is told the URLs of the other agents, whenever they change.
        moves: Whether to go on at another agent at all.
        key: Names the one thing that it is made for: a trigger without an idempotency key has this.
        headers: What each request says besides.
        renew: Gives a token in place of one that was turned away, or None if there is none.
    """

    def __init__(
        self,
        place: Place,
        *,
        patience_s: float = PATIENCE_S,
        answer_s: float = ANSWER_S,
        build: str = "",
        saved: Collection[str] = (),
        note: Callable[[str], None] | None = None,
        learnt: Callable[[tuple[str, ...]], None] | None = None,
        moves: bool = True,
        key: str = "",
        headers: Mapping[str, str] = {},
        renew: Callable[[str], str | None] | None = None,
    ) -> None:
        self._key = key
        where = Whereabouts(
            place,
            saved=saved,
            note=note or _say_nothing,
            learnt=learnt,
            moves=moves,
            renew=renew,
        )
        super().__init__(
            where, patience_s=patience_s, answer_s=answer_s, build=build, headers=headers
        )

    @classmethod
    def find(
        cls,
        at: str | None = None,
        data: str | None = None,
        *,
        env: Mapping[str, str] = os.environ,
        note: Callable[[str], None] | None = None,
        moves: bool = True,
    ) -> Client:
        """Return a client for the agent that the command line would speak to; connect to nothing.

        Args:
            at: An agent's URL, ``unix:PATH``, or a data folder.
            data: An agent's data folder.
            env: ``$ROTA_SOCKET``, ``$ROTA_URL``, ``$ROTA_DATA`` and the saved login say where the
                agent is, where neither is given; ``$ROTA_TOKEN`` and ``$ROTA_CA`` what to show
                there and whom to trust.
            note: See :class:`Client`.
            moves: See :class:`Client`.

        Raises:
            InputError: what was given is no address, or the saved login cannot be read.
        """
        place = find_place(at, data, env)
        build = env.get("ROTA_BUILD", "")
        saved = login.read_login(env)
        is_saved = saved is not None and saved.url.rstrip("/") == place.url
        return cls(
            place,
            patience_s=BUILD_PATIENCE_S if build and env.get("ROTA_SOCKET") else PATIENCE_S,
            build=build,
            saved=_known(place, saved if is_saved else None),
            note=note,
            learnt=(lambda urls: login.remember(urls, env)) if is_saved else None,
            moves=moves,
            renew=_renewing(env) if is_saved and saved is not None and saved.refresh else None,
        )

    def another(self, note: Callable[[str], None] | None = None) -> Client:
        """Return a client of the same agents for the same caller, such as for another thread.

        Closing this one closes that one, too.
        """
        return self._of(self.where.another(note or _say_nothing))

    # -- builds ---------------------------------------------------------------------------------

    def run(
        self,
        job: str,
        params: Mapping[str, str] | None = None,
        /,
        *,
        key: str | None = None,
        priority: int | None = None,
        only: bool = False,
        keep_workspace: str = "",
        traceparent: str = "",
        **named: str,
    ) -> Build:
        """Request a build of a job and return it; it runs by itself.

        Args:
            job: The job's name.
            params: Its parameters; those with names that Python takes may be given by name.
            key: An idempotency key: the same one gives the same build. One of its own by default,
                so that this may be asked again at another agent without doing it twice.
            priority: -100 to 100, instead of the job's own.
            only: Without what it needs.
            keep_workspace: When to keep its workspace: on-failure, always or never; by default
                what the job's header says.
            traceparent: The trace that it is part of, as W3C Trace Context says.
            named: More parameters.

        Raises:
            NotFoundError: there is no such job.
            InputError: it does not take these parameters.
            ConflictError: it is paused.
            UnavailableError: no agent took it.
        """
        answer = self.call(
            "run",
            job=job,
            params={**(params or {}), **named},
            priority=priority,
            only=only or None,
            keep_workspace=keep_workspace or None,
            headers={
                "Idempotency-Key": key or self._key or os.urandom(12).hex(),
                **({"traceparent": traceparent} if traceparent else {}),
            },
            repeat=True,
        )
        return Build(answer)

    def shell(self, build: str, *, attempt: int | None = None) -> Shell:
        """Return a connection to a build's workspace, in which nothing runs yet. Close it.

        Raises:
            NotFoundError: there is no such build, or its workspace is not kept.
            ConflictError: it has not begun.
            UnavailableError: no agent, or not the one that has it, could be reached.
        """
        from rota.client.shell import Shell

        return Shell(self.upgraded("shell", build=build, attempt=attempt))

    def build(self, name: str) -> Build:
        """Return a build by ``job#number``, a job's name (its latest build), or an id's prefix.

        Raises:
            NotFoundError: there is none.
        """
        return Build(self.call("build", build=name))

    def wait(self, build: Mapping[str, Any] | str, timeout_s: float | None = None) -> Build:
        """Return a build once it has finished, however long that takes; or after ``timeout_s``.

        Raises:
            TimeoutError: it has not finished by then.
            UnavailableError: no agent answers any more.
        """
        name = _id(build)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left = WAIT_S if until is None else min(WAIT_S, max(0.0, until - time.monotonic()))
            found = Build(self.call("build", build=name, wait=left, wait_s=left))
            if found.is_finished:
                return found
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"{found.ref} is {found['state']} after {timeout_s} s")

    def retry(self, build: Mapping[str, Any] | str) -> Build:
        """Queue a finished build again and return it. It is not asked twice.

        Raises:
            ConflictError: it has not finished.
        """
        return Build(self.call("retry", build=_id(build)))

    def cancel(self, build: Mapping[str, Any] | str, why: str = "") -> Build:
        """Cancel a build in whatever state it is, and return it. It is not asked twice.

        Raises:
            ConflictError: it is over.
        """
        return Build(self.call("cancel", build=_id(build), why=why))

    # -- logs and artifacts ---------------------------------------------------------------------

    def log(
        self,
        build: Mapping[str, Any] | str,
        start: Start | None = None,
        *,
        grep: str | None = None,
        limit: int | None = None,
    ) -> Generator[bytes, None, None]:
        """Yield the bytes of a build's log, as far as there are any now.

        Args:
            build: A build, or its name.
            start: Which attempt, and where to begin in it; the last one's beginning by default.
            grep: Only lines that match this regular expression.
            limit: At most so many bytes of the log.

        Raises:
            NotFoundError: there is no such build, or attempt.
        """
        from rota.client.follow import Start, read_log

        return read_log(self, _id(build), start or Start(), grep=grep, limit=limit)

    def follow_log(
        self,
        build: Mapping[str, Any] | str,
        start: Start | None = None,
        *,
        skip: int = 0,
        patience_s: float = FOLLOW_PATIENCE_S,
    ) -> Generator[Piece, None, None]:
        """Yield a build's log piece by piece until it has finished: every byte, once.

        A build that is tried again is followed into its next attempt, unless ``start`` names one.

        Args:
            build: A build, or its name.
            start: Which attempt, and where to begin in it.
            skip: How many attempts are known and not wanted.
            patience_s: How long no agent may answer before it is given up.

        Raises:
            UnavailableError: none did for longer than that.
        """
        from rota.client.follow import Start, follow_log

        self.learn()
        found = self.build(build) if isinstance(build, str) else dict(build)
        return follow_log(self, found, start or Start(), skip=skip, patience_s=patience_s)

    def artifact(
        self,
        build: Mapping[str, Any] | str,
        path: str,
        *,
        start: int = 0,
        begun: Digest | None = None,
    ) -> Generator[bytes, None, None]:
        """Yield the bytes of a file that a build left, those behind the first ``start`` of them.

        Their SHA-256 goes on from ``begun``, that of the bytes the caller has already.

        Raises:
            NotFoundError: it left none of that name.
            ConflictError: it was kept anew while it was read.
        """
        from rota.client.follow import read_artifact

        return read_artifact(self, _id(build), path, start=start, begun=begun)

    # -- events ---------------------------------------------------------------------------------

    def events(
        self,
        after: int | None = None,
        kind: str | None = None,
        *,
        patience_s: float = FOLLOW_PATIENCE_S,
    ) -> Generator[Event, None, None]:
        """Yield the journal's events as they come, each once, without end.

        Events that are no longer kept are told by one whose ``kind`` is ``gap``.

        Args:
            after: The sequence of the last event that is known, 0 for all there are; by default
                those from now on.
            kind: Only kinds that match this glob, such as ``build.*``.
            patience_s: How long no agent may answer before it is given up.

        Raises:
            UnavailableError: none did for longer than that.
        """
        from rota.client.follow import follow_events

        self.learn()
        if after is None:
            # The sequence we know ourselves is where a broken follow goes on.
            after = int(self.call("status").json()["seq"])
        return follow_events(self, after, kind, patience_s=patience_s)

    # -- the cluster ----------------------------------------------------------------------------

    def learn(self) -> None:
        """Learn whom to trust elsewhere, before something that takes long; one request at most.

        Who is asked over plain HTTP is believed, as that is how the token goes there.
        """
        bearer = self.where.bearer()
        if bearer.ca or bearer.is_local or not bearer.token or not self.where.may_move:
            return
        try:
            self.where.trust(str(self.call("cluster").json().get("ca") or ""))
        except (RotaError, AttributeError):
            return


def _renewing(env: Mapping[str, str]) -> Callable[[str], str | None]:
    def renew(shown: str) -> str | None:
        from rota.client.renewal import renewed  # once in a session: no other command pays for it

        return renewed(shown, env, lambda place, agents: Client(place, saved=agents))

    return renew


def _known(place: Place, saved: login.Login | None) -> tuple[str, ...]:
    """Return the other agents that were known before, by the login or by the agent itself."""
    if saved is not None:
        return saved.agents
    return login.cluster_agents(os.path.dirname(place.path)) if place.is_local else ()  # noqa: PTH120


def _id(build: Mapping[str, Any] | str) -> str:
    return build if isinstance(build, str) else str(build["id"])


def _say_nothing(_: str) -> None:
    pass
