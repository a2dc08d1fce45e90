"""Pages of other origins: what a browser is told before it lets them read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import aiohttp
import pytest
from tests.harness.agent import TOKEN, Here

from rota.ports.store import Author

PAGE = "http://localhost:8000"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PREFLIGHT = {
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "authorization,last-event-id",
}


class Got(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str


async def ask(here: Here, method: str, path: str, **headers: str) -> Got:
    """Ask over TCP, as browsers do."""
    url = f"http://127.0.0.1:{here.port}{path}"
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=sent) as it:
        return Got(it.status, it.headers, await it.text())


async def allow(here: Here, *origins: str) -> None:
    await here.service.main.commit(
        {"settings.toml": f"[rest]\norigins = {list(origins)}".encode()},
        base=await here.store.head(),
        author=Author("ann", "ann@example"),
        message="a page",
        by="ann",
    )


async def test_without_settings_no_page_may_read_and_nothing_is_other_than_ever(here: Here) -> None:
    asked = await ask(here, "OPTIONS", "/v1/status", Origin=PAGE, **PREFLIGHT)
    assert asked.status == 401
    got = await ask(here, "GET", "/v1/status", Origin=PAGE, **BEARER)
    assert got.status == 200
    assert not [name for name in got.headers if name.startswith(("Access-", "Vary"))]


async def test_a_page_that_is_named_is_told_what_it_may_send_and_read(here: Here) -> None:
    await allow(here, "https://ci.example", PAGE)
    asked = await ask(here, "OPTIONS", "/v1/jobs/web/test/builds", Origin=PAGE, **PREFLIGHT)
    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Origin"] == PAGE
    assert asked.headers["Vary"] == "Origin"
    may = asked.headers["Access-Control-Allow-Headers"].lower()
    assert all(it in may for it in ("authorization", "last-event-id", "content-type"))
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert "Access-Control-Allow-Credentials" not in asked.headers
    assert not [name for name in asked.headers if name.startswith("Rota-")]
    got = await ask(here, "GET", "/v1/status", Origin=PAGE, **BEARER)
    assert (got.status, got.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
    assert "Rota-Agents" in got.headers["Access-Control-Expose-Headers"]


@pytest.mark.parametrize(
    "other",
    ["http://localhost:8001", "https://localhost:8000", "null", "http://localhost", "*", ""],
)
async def test_any_other_page_gets_no_word(here: Here, other: str) -> None:
    await allow(here, PAGE)
    asked = await ask(here, "OPTIONS", "/v1/status", Origin=other, **PREFLIGHT)
    assert asked.status == 401
    assert "Access-Control-Allow-Origin" not in asked.headers
    got = await ask(here, "GET", "/v1/status", Origin=other, **BEARER)
    assert "Access-Control-Allow-Origin" not in got.headers
    # A cache must know that the answer is another one for another page.
    assert got.headers["Vary"] == "Origin"


async def test_errors_and_streams_may_be_read_too(here: Here) -> None:
    await allow(here, PAGE)
    for path, status in {"/v1/status": 401, "/v1/jobs/none": 401}.items():
        got = await ask(here, "GET", path, Origin=PAGE)
        assert (got.status, got.headers["Access-Control-Allow-Origin"]) == (status, PAGE)
    missing = await ask(here, "GET", "/v1/jobs/none", Origin=PAGE, **BEARER)
    assert (missing.status, missing.headers["Access-Control-Allow-Origin"]) == (404, PAGE)
    url = f"http://127.0.0.1:{here.port}/v1/events?follow=true"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"Origin": PAGE, **BEARER}) as stream,
    ):
        assert stream.headers["Access-Control-Allow-Origin"] == PAGE


async def test_git_and_what_agents_say_among_themselves_is_no_page_s(here: Here) -> None:
    await allow(here, PAGE)
    for path in ("/store.git/info/refs?service=git-upload-pack", "/peer/ca"):
        asked = await ask(here, "OPTIONS", path, Origin=PAGE, **PREFLIGHT)
        assert "Access-Control-Allow-Origin" not in asked.headers
        got = await ask(here, "GET", path, Origin=PAGE, **BEARER)
        assert "Access-Control-Allow-Origin" not in got.headers


async def test_one_who_asks_what_is_allowed_and_is_no_browser_is_answered_as_ever(
    here: Here,
) -> None:
    await allow(here, PAGE)
    got = await ask(here, "OPTIONS", "/v1/status", Origin=PAGE, **BEARER)
    assert (got.status, got.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
