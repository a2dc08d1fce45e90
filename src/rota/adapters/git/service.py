"""Git over HTTP, smart protocol, without a web framework: what an HTTP edge calls.

A request goes to ``git http-backend`` and its answer comes back, both in pieces as they arrive.
Who may do what is the edge's to decide before it calls; what a push may contain is the hook's.

A fetch whose client went away is ended. A push that arrived whole is brought to its end without
its client. git takes and checks it, but does not move ``main``: a hook asks ``on_push`` over a
socket that it inherits, and git tells the client what that decided. So whoever pushed and then
asks for the new job finds it.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from types import TracebackType
from typing import Self

import msgspec

from rota.adapters.git.call import Call
from rota.adapters.git.hooks import ASK
from rota.adapters.git.process import environment
from rota.adapters.git.store import GitStore
from rota.adapters.git.stream import NO_COMMIT
from rota.adapters.git.tasks import Tasks
from rota.errors import RotaError, StaleError, UnavailableError
from rota.ports.git_http import Allow, anything
from rota.ports.store import MAIN

OnPush = Callable[[str, str, str], Awaitable[None]]
"""Moves ``main`` for good: told old commit, new commit, and who pushes.

Raises StaleError where another move came first, and any other RotaError to refuse with its words.
"""

#: git itself says something every 5 s while it works; so long a silence is a dead client.
IDLE_S = 60.0
#: Each clone may take a core and 100 MB for a while; the others wait for their turn.
MAX_AT_ONCE = 4

_UPLOAD, _RECEIVE = "git-upload-pack", "git-receive-pack"
_PROTOCOL = re.compile(r"[a-z0-9=:]{1,50}")
_QUERY = re.compile(r"service=(git-upload-pack|git-receive-pack)")


class GitReply(msgspec.Struct, frozen=True):
    """An HTTP answer. ``body`` is to be read to its end, or closed (``aclosing``)."""

    status: int
    headers: dict[str, str]
    body: AsyncGenerator[bytes]


class GitService:
    """Serves one store while its ``async with`` block lasts; any number of requests at once."""

    def __init__(self, store: GitStore, on_push: OnPush, *, idle_s: float = IDLE_S) -> None:
        self._store = store
        self._on_push = on_push
        self._idle_s = idle_s
        self._room = asyncio.Semaphore(MAX_AT_ONCE)
        self._tasks = Tasks()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._tasks.__aexit__(kind, error, trace)

    async def handle(
        self,
        method: str,
        path_info: str,
        query: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes],
        principal: str,
        allow: Allow = anything,
    ) -> GitReply:
        """Answer one request; the answer's body is still being made when this returns.

        Args:
            method: ``GET`` or ``POST``.
            path_info: What follows the repository's URL: ``/info/refs``, ``/git-upload-pack`` or
                ``/git-receive-pack``.
            query: As in the URL, without the question mark.
            headers: Of the request. Content-Type and Git-Protocol matter.
            body: Of the request, as sent or already decompressed. What it raises is raised to the
                reader of the answer.
            principal: Who asks; the edge has found that they may.
            allow: Is asked, for each push that git takes, whether what it changes may be changed.

        Raises:
            UnavailableError: git could not be started, or ended without an answer.
        """
        refusal = _refusal(method, path_info, query)
        if refusal is not None:
            return refusal
        call = Call(self._store.git, aiter(body), self._idle_s)
        fields = {name.lower(): value for name, value in headers.items()}
        env = {
            **environment({}),
            "GIT_PROJECT_ROOT": str(self._store.path.parent),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{self._store.path.name}{path_info}",
            "REQUEST_METHOD": method,
            "QUERY_STRING": query,
            "CONTENT_TYPE": fields.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": await call.peek(),
            "REMOTE_USER": principal,
        }
        if _PROTOCOL.fullmatch(fields.get("git-protocol", "")):
            env["GIT_PROTOCOL"] = fields["git-protocol"]
        if path_info == f"/{_RECEIVE}":
            return await self._reply(call, self._push(call, env, principal, allow), is_push=True)
        return await self._reply(call, self._fetch(call, env), is_push=False)

    async def _reply(
        self, call: Call, work: Coroutine[None, None, None], *, is_push: bool
    ) -> GitReply:
        cancel = self._tasks.start(work, "git http-backend")
        try:
            status, fields = await call.head
        except BaseException:
            cancel()
            raise
        return GitReply(status, fields, _body(call, call.abandon if is_push else cancel))

    async def _run(self, call: Call, env: Mapping[str, str], fds: tuple[int, ...] = ()) -> None:
        try:
            async with asyncio.timeout(self._idle_s):
                await self._room.acquire()
        except TimeoutError:
            call.fail(UnavailableError("too many clones and pushes at once"))
            return
        try:
            await call.run(env, fds)
        finally:
            self._room.release()

    async def _fetch(self, call: Call, env: Mapping[str, str]) -> None:
        await self._run(call, env)
        call.finish()

    async def _push(self, call: Call, env: Mapping[str, str], principal: str, allow: Allow) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            async with Tasks() as tasks:
                tasks.start(self._answer(ours, principal, allow), "git push")
                number = theirs.fileno()
                await self._run(call, {**env, ASK: str(number)}, (number,))
        call.finish()

    async def _answer(self, ours: socket.socket, principal: str, allow: Allow) -> None:
        """Answer the hook's questions, for as long as git runs."""
        reading, writing = await asyncio.open_unix_connection(sock=ours.dup())
        try:
            while question := await reading.readline():  # unbounded: git's run bounds it
                old, new, ref = question.decode().split()
                answer = await self._decide(old, new, ref, principal, allow)
                writing.write(f"{answer}\n".encode())
                await writing.drain()
        finally:
            writing.close()

    async def _decide(self, old: str, new: str, ref: str, principal: str, allow: Allow) -> str:
        """Return ``ok`` once main has moved, or why it has not, on one line."""
        if ref != f"refs/heads/{MAIN}" or new == NO_COMMIT:
            return f"only {MAIN} can be pushed"
        try:
            await allow(old.replace(NO_COMMIT, ""), new)
            await self._on_push(old.replace(NO_COMMIT, ""), new, principal)
        except StaleError:
            return "non-fast-forward"
        except RotaError as error:
            return " ".join(error.message.split())
        return "ok"


def _refusal(method: str, path_info: str, query: str) -> GitReply | None:
    """Return the answer to what is no request of the smart protocol, before git sees it."""
    if path_info == "/info/refs":
        if not _QUERY.fullmatch(query):
            return _text(403, "this server speaks git's smart HTTP protocol only")
        return None if method == "GET" else _text(405, f"{method} is not for {path_info}")
    if path_info in {f"/{_UPLOAD}", f"/{_RECEIVE}"}:
        return None if method == "POST" else _text(405, f"{method} is not for {path_info}")
    return _text(404, f"no {path_info}")


async def _body(call: Call, leave: Callable[[], object]) -> AsyncGenerator[bytes]:
    """Yield the answer, and ``leave`` when nobody reads on."""
    try:
        async for piece in call.pieces():
            yield piece
    finally:
        leave()


def _text(status: int, text: str) -> GitReply:
    async def body() -> AsyncGenerator[bytes]:
        yield f"{text}\n".encode()

    return GitReply(status, {"Content-Type": "text/plain; charset=utf-8"}, body())
