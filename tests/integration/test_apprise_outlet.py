"""Outlets by Apprise, against an endpoint of our own that takes JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from rota.adapters import apprise_outlet as module
from rota.adapters.apprise_outlet import AppriseOutlet
from rota.errors import InputError, LaterError
from rota.ports.networks import Saying

SAYING = Saying(
    id="x", room="", text="web#7 failed", code="last line", link="https://ci/b", tone="bad",
    subject="web#7 failed",
)  # fmt: skip


class Endpoint:
    """Answers with ``status``; waits for ``free`` first."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.status, self.port = 200, 0
        self.free = asyncio.Event()
        self.free.set()

    async def respond(self, request: web.Request) -> web.Response:
        await self.free.wait()
        self.said.append(json.loads(await request.read()))
        return web.Response(status=self.status)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    own = Endpoint()
    app = web.Application()
    app.router.add_post("/{tail:.*}", own.respond)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    own.port = runner.addresses[0][1]
    yield own
    own.free.set()
    await runner.cleanup()


async def test_a_service_is_told(endpoint: Endpoint) -> None:
    outlet = AppriseOutlet("pager", url=f"json://127.0.0.1:{endpoint.port}/k3y")
    await outlet.say(SAYING)
    [said] = endpoint.said
    assert said["title"] == "web#7 failed"
    assert said["message"] == "web#7 failed\n\nlast line\n\nhttps://ci/b"
    assert said["type"] == "failure"
    assert await outlet.was_said(SAYING) is None


async def test_what_is_not_taken_is_for_later_and_no_key_is_shown(
    endpoint: Endpoint, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    outlet = AppriseOutlet("pager", url=f"json://127.0.0.1:{endpoint.port}/k3y-to-hide")
    endpoint.status = 500
    with pytest.raises(LaterError, match="pager did not take it; Apprise does not say why"):
        await outlet.say(SAYING)
    endpoint.status = 200
    await outlet.say(SAYING)
    out, err = capfd.readouterr()
    assert "k3y" not in out + err + caplog.text


async def test_a_service_that_hangs_is_left(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WITHIN_S", 0.2)
    endpoint.free.clear()
    outlet = AppriseOutlet("pager", url=f"json://127.0.0.1:{endpoint.port}/")
    with pytest.raises(LaterError, match=r"pager did not answer within 0\.2 s"):
        await outlet.say(SAYING)
    endpoint.free.set()  # Apprise asks in a thread, which nobody can end


@pytest.mark.parametrize("url", ["", "nothing", "k3y://user:k3y@host", "json://"])
def test_a_url_that_means_nothing_is_not_shown(url: str) -> None:
    with pytest.raises(InputError, match="pager: Apprise makes nothing of its URL") as error:
        AppriseOutlet("pager", url=url)
    assert "user:k3y" not in str(error.value)
