"""Forges over HTTP; tokens by ``git credential``, so that they are where people keep them anyway."""

from __future__ import annotations

import asyncio
import os
import time
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import aiohttp

import rota
from rota import child
from rota.core.statuses import Post
from rota.errors import UnavailableError
from rota.ports.forges import Reply

#: A helper may ask a person or a slow vault; nobody is there to answer.
CREDENTIAL_S = 10.0
FRESH_S = 600.0
MAX_TEXT = 2000
MAX_TOKEN = 4096


class HttpForges:
    """See :class:`rota.ports.forges.Forges`; an asynchronous context that closes its connections."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[str, tuple[float, str]] = {}

    async def __aenter__(self) -> HttpForges:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def token(self, url: str, token_file: str) -> str:
        """Return this machine's token for a forge; empty if it has none."""
        if token_file:
            try:
                return (await asyncio.to_thread(Path(token_file).read_text)).strip()
            except (OSError, UnicodeError) as error:
                why = getattr(error, "strerror", None) or "it is not UTF-8"
                raise UnavailableError(f"cannot read {token_file}: {why}") from error
        at, known = self._tokens.get(url, (0.0, ""))
        if known and time.monotonic() - at < FRESH_S:
            return known
        found = await _fill(url)
        self._tokens[url] = (time.monotonic(), found)
        return found

    def forget(self, url: str) -> None:
        """Ask git anew the next time."""
        self._tokens.pop(url, None)

    async def post(self, post: Post, headers: dict[str, str], *, within_s: float) -> Reply:
        """Send a request and return the answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit_per_host=2, keepalive_timeout=30.0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"rota/{rota.__version__}"},
            )
        host = post.url.partition("://")[2].partition("/")[0]
        try:
            async with self._session.post(
                post.url,
                data=post.body or None,
                headers={**post.headers, **headers},
                timeout=aiohttp.ClientTimeout(total=within_s),
                allow_redirects=False,
            ) as response:
                text = (await response.content.read(MAX_TEXT)).decode("utf-8", "replace")
                return Reply(response.status, text, _seconds(response.headers))
        except TimeoutError as error:
            raise UnavailableError(f"{host} does not answer within {within_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise UnavailableError(f"cannot reach {host}: {why}") from error


def _seconds(headers: object) -> float | None:
    text = getattr(headers, "get", lambda _: None)("Retry-After")
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 8 else None


async def _fill(url: str) -> str:
    """Return the password that git's helpers have for a URL; empty if they have none."""
    scheme, _, host = url.partition("://")
    asked = f"protocol={scheme}\nhost={host.partition('/')[0]}\n\n".encode()
    env = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": ""}
    env["GCM_INTERACTIVE"] = "never"
    try:
        process = await child.begin(
            "git",
            "-c",
            "core.askPass=",
            "credential",
            "fill",
            stdin=PIPE,
            stderr=DEVNULL,
            env=env,
            cwd="/",
        )
    except OSError as error:
        raise UnavailableError(f"git cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(CREDENTIAL_S):
            out, _ = await process.communicate(asked)
    except TimeoutError:
        raise UnavailableError(
            f"git's credential helper for {url} does not answer within {CREDENTIAL_S:g} s"
        ) from None
    finally:
        await child.end(process)  # and its helpers
    if process.returncode:
        return ""
    lines = out.decode("utf-8", "replace").splitlines()
    found = next((line[9:] for line in lines if line.startswith("password=")), "")
    return found if len(found) <= MAX_TOKEN else ""
