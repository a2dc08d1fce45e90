"""What ``rota top`` asks, of an agent that answers as a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.daemon import wait_until
from tests.harness.fake_agent import BUILD, Asked, FakeAgent, Reply, answer, fake_agent, problem
from tests.unit.test_cli_top import OVERVIEW

from rota.cli.top.feed import Feed, Wish
from rota.cli.top.view import Cancel
from rota.client.client import Client

BUILD_ID = str(BUILD["id"])
DELAY_S = 0.1


class Site:
    """An agent, and what it answers by route."""

    def __init__(self, agent: FakeAgent) -> None:
        self.agent = agent
        self.routes: dict[str, Callable[[Asked], Reply | None]] = {
            "GET /v1/overview": lambda _: answer(OVERVIEW)
        }
        agent.respond = self.respond

    def respond(self, asked: Asked) -> Reply | None:
        found = self.routes.get(f"{asked.method} {asked.path}")
        return found(asked) if found else problem(404, f"no {asked.path}")

    def feed(self) -> Feed:
        return Feed(lambda tell: Client.find(self.agent.url, env={}, note=tell), DELAY_S)

    def asked(self, path: str) -> list[Asked]:
        return [it for it in self.agent.asked if it.path == path]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with fake_agent(lambda _: None, tmp_path / "rota.sock") as agent:
        yield Site(agent)


def test_the_first_look_is_answered_at_once_and_later_ones_wait_for_news(site: Site) -> None:
    with site.feed() as feed:
        wait_until("an overview", lambda: feed.seen().overview)
        wait_until("two looks", lambda: len(site.asked("/v1/overview")) > 1)
    first, second = site.asked("/v1/overview")[:2]
    assert "wait" not in first.query
    assert (second.query["after"], second.query["wait"]) == ("9", "1.0")


def test_who_wants_something_else_is_not_kept_waiting(site: Site) -> None:
    with site.feed() as feed:
        wait_until("two looks", lambda: len(site.asked("/v1/overview")) > 1)
        feed.wish(Wish(match="web/*", sort="job", rows=7))
        asked = wait_until(
            "the filter",
            lambda: [it for it in site.asked("/v1/overview") if it.query["match"] == "web/*"],
        )
    assert "wait" not in asked[0].query
    assert (asked[0].query["sort"], asked[0].query["rows"]) == ("job", "7")


def test_a_log_is_read_until_its_build_is_over(site: Site) -> None:
    states = iter(["running", "finished"])
    log = b"one\r\n10%\r50%\r100%\n\x1b[31mred\x1b[0m \x1b]0;title\x07\tend\n"
    site.routes[f"GET /v1/builds/{BUILD_ID}"] = lambda _: answer(
        {
            **BUILD,
            "state": (state := next(states)),
            "result": "passed" if state == "finished" else None,
        }
    )
    site.routes[f"GET /v1/builds/{BUILD_ID}/log"] = lambda _: Reply(log)
    with site.feed() as feed:
        feed.wish(Wish(log=BUILD_ID, rows=3))
        wait_until("its end", lambda: "passed" in feed.seen().log_said)
        seen = feed.seen()
    assert list(seen.log) == ["one", "100%", "red     end"]
    assert seen.log_of == BUILD_ID
    assert len(site.asked(f"/v1/builds/{BUILD_ID}/log")) == 2
    assert site.asked(f"/v1/builds/{BUILD_ID}/log")[0].query["tail"] == "3"


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (answer({**BUILD, "state": "running", "result": None}), "web/test#7 is being ended"),
        (answer({**BUILD, "result": "cancelled"}), "web/test#7 is cancelled"),
        (problem(403, "viewers may not cancel"), "viewers may not cancel"),
    ],
)
def test_what_came_of_a_cancel_is_said_once(site: Site, reply: Reply, said: str) -> None:
    site.routes[f"POST /v1/builds/{BUILD_ID}/cancel"] = lambda _: reply
    with site.feed() as feed:
        feed.cancel(Cancel(BUILD_ID, "web/test#7"))
        assert wait_until("a word", feed.said) == said
        assert feed.said() == ""


def test_an_agent_s_no_is_shown_and_what_was_known_stays(site: Site) -> None:
    with site.feed() as feed:
        wait_until("an overview", lambda: feed.seen().overview)
        site.routes["GET /v1/overview"] = lambda _: problem(403, "the token is not known here")
        wait_until("its no", lambda: feed.seen().trouble == "the token is not known here")
        assert feed.seen().overview == OVERVIEW


def test_what_nobody_foresaw_is_raised_where_it_is_seen(site: Site) -> None:
    strange: Any = ["no overview"]
    site.routes["GET /v1/overview"] = lambda _: answer(strange)

    def look(feed: Feed) -> bool:
        feed.seen()
        return False

    with site.feed() as feed, pytest.raises(TypeError):
        wait_until("the fault", lambda: look(feed))
