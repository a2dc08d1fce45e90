"""OTLP over HTTP, in its JSON encoding, which every collector takes beside protobuf."""

from __future__ import annotations

from urllib.parse import urlsplit

import aiohttp

import rota
from rota.errors import UnavailableError
from rota.ports.collector import Taken

MAX_TEXT = 500


class HttpCollector:
    """See :class:`rota.ports.collector.Collector`; an asynchronous context that closes its connections."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpCollector:
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(
        self, endpoint: str, body: bytes, headers: dict[str, str], *, within_s: float
    ) -> Taken:
        """Send spans and return the answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"rota/{rota.__version__}"},
            )
        host = urlsplit(endpoint).netloc
        try:
            async with self._session.post(
                f"{endpoint}/v1/traces",
                data=body,
                headers={**headers, "Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=within_s),
                allow_redirects=False,
            ) as response:
                text = (await response.content.read(MAX_TEXT)).decode("utf-8", "replace")
                after = response.headers.get("Retry-After", "")
                seconds = float(after) if after.isascii() and after.isdigit() else 0.0
                return Taken(response.status, text, seconds)
        except TimeoutError as error:
            raise UnavailableError(f"{host} does not answer within {within_s:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = str(error) or type(error).__name__
            raise UnavailableError(f"cannot reach {host}: {why}") from error
