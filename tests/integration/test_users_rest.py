"""Users over REST: who may change what, two who write at once, codes and what comes of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from tests.harness.agent import TOKEN, Here, Reply

from rota.core.events import UserCode, UserLinked
from rota.core.linking import code_digest, plain_code
from rota.errors import (
    ConflictError,
    DeniedError,
    FencedError,
    InputError,
    NotFoundError,
    RotaError,
)
from rota.http.access import Access
from rota.service import linking
from rota.service.context import Principal
from rota.service.guesses import MAX_GUESSERS, TRIES, Guesses
from rota.service.verbs import Role

CHAT = b"""\
[groups]
release = ["ann", "bob"]
[mail]
server = "smtp://127.0.0.1:9"
from = "rota@example.org"
[chat.irc]
server = "irc.example.org"
nick = "bot"
[chat.matrix]
server = "https://matrix.example.org"
account = "@rota:example.org"
token = "chat-token"
"""


async def text(here: Here, path: str) -> str:
    blob = here.service.world.definitions.files[path].blob
    return (await here.store.blobs([blob]))[blob].decode()


def become(here: Here, name: str, role: Role, **more: Any) -> None:
    here.who = lambda request: Principal(name, role, **more)


async def put(here: Here, name: str, **body: object) -> Reply:
    return await here.ask("PUT", f"/v1/users/{name}", body=body)


def said(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["detail"]


async def code_of(here: Here, user: str, network: str = "") -> str:
    reply = await here.ask("POST", f"/v1/users/{user}/codes", body={"network": network})
    assert reply.status == 201, reply.text
    return str(reply.json()["code"])


async def say(here: Here, code: str, who: str, network: str = "matrix", nick: str = "nick") -> str:
    """Say a code as the leader's bot heard it; return the answer."""
    linked = await linking.link(
        here.service,
        code,
        network=network,
        who=who,
        nick=nick,
        fence=here.service.world.cluster.picture.leader_seq,
    )
    return linked.text


async def refused(here: Here, code: str, who: str, network: str = "matrix") -> RotaError:
    before = await here.seq()
    with pytest.raises((DeniedError, ConflictError, InputError)) as caught:
        await say(here, code, who, network)
    assert await here.seq() == before
    return caught.value


# -- who may change what --------------------------------------------------------------------------


async def test_an_admin_makes_changes_and_removes_users(here: Here) -> None:
    await here.commit({"settings.toml": CHAT})
    reply = await put(here, "ann", role="maintainer", emails=["ann@example.org"])
    view = reply.json()
    assert (reply.status, view["changed"]) == (200, True)
    assert (view["role"], view["is_usual"], view["groups"]) == ("maintainer", True, ["release"])
    assert [it["text"] for it in view["notify"]] == [
        "first-failure, fixed, asked of my builds to mail"
    ]
    assert await text(here, "users/ann.toml") == (
        'role = "maintainer"\nemails = ["ann@example.org"]\n'
    )
    assert (await put(here, "ann", role="maintainer")).json()["changed"] is False
    await put(here, "ann", timezone="Europe/Berlin")
    listed = (await here.ask("GET", "/v1/users")).json()
    assert [(it["name"], it["role"], it["timezone"]) for it in listed] == [
        ("ann", "maintainer", "Europe/Berlin")
    ]
    gone = await here.ask("DELETE", "/v1/users/ann")
    assert (gone.status, gone.json()["changed"]) == (200, True)
    assert said(await here.ask("GET", "/v1/users/ann")) == (404, "no user 'ann'")


async def test_a_user_changes_what_is_his_and_raises_nobody(here: Here) -> None:
    await put(here, "ann", emails=["a@b"])
    await put(here, "bob")
    become(here, "ann", Role.BUILDER)
    assert (await put(here, "@me", timezone="UTC", emails=["ann@c"])).status == 200
    assert said(await put(here, "ann", role="admin")) == (
        403,
        "a role is given by an admin; ann is a builder",
    )
    # Not even the role that she has: that is no question of hers.
    assert (await put(here, "ann", role="builder")).status == 403
    assert said(await put(here, "bob", timezone="UTC")) == (
        403,
        "ann is a builder; to change a user of bob needs an admin",
    )
    assert said(await put(here, "eve")) == (
        403,
        "ann is a builder; to change a user of eve needs an admin",
    )
    become(here, "eve", Role.MAINTAINER)
    assert said(await put(here, "@me")) == (
        403,
        "a user is made by an admin; eve is a maintainer",
    )
    for method, path, body in (
        ("DELETE", "/v1/users/ann", None),
        ("POST", "/v1/users/ann/codes", {}),
        ("DELETE", "/v1/users/ann/links?network=irc", None),
        ("POST", "/v1/users/ann/notify", {"to": ["mail"]}),
        ("DELETE", "/v1/users/ann/notify/1", None),
        ("PUT", "/v1/users/ann/quiet", {"days": ["sun"]}),
    ):
        reply = await here.ask(method, path, body=body)
        assert (reply.status, "needs an admin" in reply.text) == (403, True), path
    assert (await here.ask("GET", "/v1/users/ann")).status == 200


async def test_a_build_is_nobody(here: Here) -> None:
    await put(here, "ann")
    for more in ({"build": "x"}, {"builds": True}):
        become(here, "ann", Role.ADMIN, **more)
        for method, path, body in (
            ("PUT", "/v1/users/ann", {"role": "admin"}),
            ("POST", "/v1/users/@me/codes", {}),
            ("POST", "/v1/users/@me/notify", {"to": ["mail"]}),
        ):
            reply = await here.ask(method, path, body=body)
            assert (reply.status, "a build is no user" in reply.text) == (403, True), path


async def test_strangers_in_chat_are_not_told_who_there_is(here: Here) -> None:
    await put(here, "ann", emails=["a@b"])
    become(here, "irc:eve", Role.VIEWER, speaks=True)
    for path in ("/v1/users", "/v1/users/ann", "/v1/users/@me"):
        reply = await here.ask("GET", path)
        assert said(reply) == (403, "who there is, is told to those who are known here alone")
    become(here, "ann", Role.VIEWER, speaks=True)
    assert (await here.ask("GET", "/v1/users")).status == 200


async def test_what_is_no_user_is_told_as_such_and_changes_nothing(here: Here) -> None:
    await put(here, "ann", emails=["a@b"])
    before = here.service.world.commit
    odd = await put(here, "%D0%B0nn")  # its first letter is Cyrillic
    assert said(odd) == (400, "'\u0430nn' is no user's name")
    assert odd.json()["hint"] == "1 to 63 letters, digits and . _ -, such as ann"
    for name in ("a%20b", "..", "%2E", "a%0Ab", "-a", "@ann", "x" * 64):
        assert (await put(here, name)).status in (400, 404), name
    reply = await put(here, "ANN")
    assert [it["message"] for it in reply.json()["problems"]] == [
        "there is also users/ann.toml, which differs only in case"
    ]
    reply = await put(here, "bob", emails=["x@y", "A@B"])
    assert reply.status == 400
    assert [(it["path"], it["line"], it["message"]) for it in reply.json()["problems"]] == [
        ("users/bob.toml", 2, "A@B belongs to ann too (users/ann.toml)")
    ]
    for emails in (["a\u202eb@c"], ["a@b\r\nBcc: x@y"], ["a@b", "a@b"], ["x" * 300 + "@b"]):
        assert (await put(here, "bob", emails=emails)).status == 400
    reply = await put(here, "bob", timezone="Mars/Base")
    assert "timezone is no time zone: 'Mars/Base'" in reply.text
    assert (await put(here, "bob", role="root")).status == 400
    missing = await here.ask("GET", "/v1/users/amn")
    assert (missing.status, missing.json()["hint"]) == (404, "did you mean 'ann'?")
    me = await here.ask("GET", "/v1/users/@me")
    assert said(me)[1].endswith(" here, and no user is called so")
    assert (me.status, "an admin makes one: rota user set" in me.text) == (404, True)
    assert here.service.world.commit == before


async def test_the_file_of_a_person_keeps_its_comments(here: Here) -> None:
    hand = '# Ann\nrole = "admin"  # for now\n\n# there\n[chat]\nirc = "ann"\n'
    await here.commit({"users/ann.toml": hand.encode()})
    await put(here, "ann", role="builder")
    assert await text(here, "users/ann.toml") == hand.replace('"admin"', '"builder"')


async def test_two_who_write_at_once_lose_nothing_of_each_other(here: Here) -> None:
    await here.commit({"settings.toml": CHAT})
    await put(here, "ann")
    asked = [
        here.ask("POST", "/v1/users/ann/notify", body={"to": [f"irc:#r{n}"]}) for n in range(8)
    ]
    asked.append(put(here, "bob"))
    assert {reply.status for reply in await asyncio.gather(*asked)} == {200}
    rules = (await here.ask("GET", "/v1/users/ann")).json()["notify"]
    assert sorted(rule["to"][0] for rule in rules) == [f"irc:#r{n}" for n in range(8)]
    assert "bob" in here.service.world.definitions.users


# -- what is told ---------------------------------------------------------------------------------


async def test_rules_come_and_go_and_what_is_usual_stays_until_it_is_taken_away(
    here: Here,
) -> None:
    await here.commit({"settings.toml": CHAT})
    await put(here, "ann", emails=["a@b"])

    async def add(**body: object) -> list[str]:
        reply = await here.ask("POST", "/v1/users/ann/notify", body=body)
        assert reply.status == 200, reply.text
        return [rule["text"] for rule in reply.json()["notify"]]

    async def rm(number: int, query: str = "") -> tuple[list[str], bool]:
        reply = await here.ask("DELETE", f"/v1/users/ann/notify/{number}{query}")
        assert reply.status == 200, reply.text
        return [rule["text"] for rule in reply.json()["notify"]], reply.json()["is_usual"]

    usual = "first-failure, fixed, asked of my builds to mail"
    web = "failed of all builds of web/** to irc:#web"
    body = {"to": ["irc:#web"], "on": ["failed"], "jobs": ["web/**"], "whose": "all"}
    assert await add(**body) == [usual, web]
    assert await add(**body) == [usual, web]
    assert await rm(1) == ([web], False)
    assert said(await here.ask("DELETE", "/v1/users/ann/notify/2")) == (404, "ann has no rule 2")
    assert await rm(1) == ([], False)
    assert await rm(0, "?usual=true") == ([usual], True)
    assert await rm(0) == ([], False)
    # What is set up and does not know her is taken, and said; what is not set up is a slip.
    assert await add(to=["matrix", "irc:@bob"], on=["fixed"]) == [
        "fixed of my builds to matrix, irc:@bob"
    ]
    [rule] = (await here.ask("GET", "/v1/users/ann")).json()["notify"]
    assert rule["why_not"] == "ann is not known on matrix; bob is not known on irc"
    for wrong, text_ in (
        ({"to": ["matrx"]}, "nothing is set up as matrx: [chat.matrx], [outlet.matrx]"),
        ({"to": []}, "to is empty, so that nobody would be told"),
        ({"to": ["mail"], "on": ["fail"]}, "on[1] cannot be 'fail'"),
        ({"to": ["irc:a b"]}, "to[1] has a room with spaces or control characters"),
        ({"to": ["mail"], "jobs": ["\n"]}, "jobs[1] is no pattern of jobs' names"),
    ):
        reply = await here.ask("POST", "/v1/users/ann/notify", body=wrong)
        assert (reply.status, text_ in reply.json()["detail"]) == (400, True), reply.text


async def test_quiet_hours_are_set_and_ended(here: Here) -> None:
    await put(here, "ann")

    async def quiet(**body: object) -> Reply:
        return await here.ask("PUT", "/v1/users/ann/quiet", body=body)

    view = (await quiet(hours="22:00-07:00", days=["sun", "sat"])).json()
    assert view["quiet"] == {
        "hours": "22:00-07:00",
        "days": ["sat", "sun"],
        "text": "22:00-07:00 and on sat, sun",
    }
    for wrong, text_ in (
        ("22:00", "'22:00' are no hours"),
        ("22:00-25:00", "quiet.to is no time of day: '25:00'"),
        ("1-2-3", "is no time of day"),
        ("07:00-07:00", "quiet ends when it begins"),
    ):
        reply = await quiet(hours=wrong)
        assert (reply.status, text_ in reply.json()["detail"]) == (400, True), reply.text
    assert (await quiet()).json()["quiet"]["text"] == "never"
    assert "quiet" not in await text(here, "users/ann.toml")


# -- codes ----------------------------------------------------------------------------------------


@pytest.fixture
async def chat(here: Here) -> Here:
    await here.commit({"settings.toml": CHAT, "users/ann.toml": b"# Ann\n"})
    return here


async def test_a_code_says_where_it_is_to_be_said_and_the_journal_does_not_have_it(
    chat: Here,
) -> None:
    reply = await chat.ask("POST", "/v1/users/ann/codes", body={})
    made = reply.json()
    assert (reply.status, made["user"]) == (201, "ann")
    assert [(it["network"], it["server"], it["say"]) for it in made["places"]] == [
        ("irc", "irc.example.org", f"/msg bot link {made['code']}"),
        ("matrix", "https://matrix.example.org", f"link {made['code']}"),
    ]
    raw = (await chat.ask("GET", "/v1/events?kind=user.code")).text
    assert made["code"] not in raw
    assert plain_code(made["code"]) not in raw
    only = (await chat.ask("POST", "/v1/users/ann/codes", body={"network": "irc"})).json()
    assert [it["network"] for it in only["places"]] == ["irc"]


async def test_a_code_is_refused_where_it_could_not_be_used_or_would_be_seen(here: Here) -> None:
    await put(here, "ann")
    reply = await here.ask("POST", "/v1/users/ann/codes", body={})
    assert said(reply) == (409, "there is no chat network to link to")
    assert reply.json()["hint"] == "settings.toml names them: [chat.NAME]"
    await here.commit({"settings.toml": CHAT})
    reply = await here.ask("POST", "/v1/users/ann/codes", body={"network": "matrx"})
    assert said(reply) == (404, "no chat network 'matrx'")
    assert reply.json()["hint"] == "did you mean 'matrix'?"
    assert (await here.ask("POST", "/v1/users/bob/codes", body={})).status == 404
    become(here, "ann", Role.ADMIN, speaks=True)
    reply = await here.ask("POST", "/v1/users/ann/codes", body={})
    assert said(reply) == (403, "a code is shown at a terminal alone: in chat others may see it")


async def test_who_says_a_code_first_is_that_user_and_nobody_after(chat: Here) -> None:
    code = await code_of(chat, "ann")
    answer = await say(chat, code.lower().replace("-", " "), "@ann:example.org")
    assert answer == "you are ann here from now on, a builder"
    assert linking.known_as(chat.service.world, "matrix", "@ann:example.org") == "ann"
    assert await text(chat, "users/ann.toml") == (
        '# Ann\n\n[chat]\nmatrix = ["@ann:example.org"]\n'
    )
    error = await refused(chat, code, "@eve:example.org")
    assert error.message == (
        "the code opens nothing: it was never given out, is used, or is older than 10 minutes"
    )
    assert error.hint == "make a new one: rota user link"
    # The same person may say it again: the answer may have been lost.
    before = await chat.seq()
    assert await say(chat, code, "@ann:example.org") == answer
    assert await chat.seq() == before
    moved = (await chat.ask("GET", "/v1/events?kind=store.moved")).json()[-1]
    assert (moved["by"], moved["message"]) == ("ann", "ann linked @ann:example.org on matrix")


async def test_who_broke_off_between_code_and_commit_goes_on_with_the_same_code(
    chat: Here,
) -> None:
    code = await code_of(chat, "ann")
    event = UserLinked(
        at=chat.service.clock.now(),
        user="ann",
        network="matrix",
        who="@ann:example.org",
        digest=code_digest(chat.service.ca_key(), plain_code(code)),
    )
    await chat.service.write(event)
    assert linking.known_as(chat.service.world, "matrix", "@ann:example.org") == ""
    await refused(chat, code, "@eve:example.org")
    await say(chat, code, "@ann:example.org")
    assert linking.known_as(chat.service.world, "matrix", "@ann:example.org") == "ann"


async def test_a_user_who_goes_while_he_is_linked_does_not_come_back(
    chat: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, write = await code_of(chat, "ann"), chat.service.write

    async def gone(event: Any, **more: Any) -> int:
        seq = await write(event, **more)
        await chat.commit({"users/ann.toml": None})
        return seq

    monkeypatch.setattr(chat.service, "write", gone)
    with pytest.raises(NotFoundError, match="no user 'ann'"):
        await say(chat, code, "@ann:example.org")
    assert list(chat.service.world.definitions.users) == []


async def test_an_identity_of_a_session_ends_with_it(chat: Here) -> None:
    who, world = "session:irc 1", chat.service.world
    answer = await say(chat, await code_of(chat, "ann"), who, "irc")
    assert answer == "you are ann here for as long as this session, a builder"
    assert linking.known_as(world, "irc", who) == "ann"
    assert linking.known_as(world, "matrix", who) == ""
    assert await text(chat, "users/ann.toml") == "# Ann\n"
    view = (await chat.ask("GET", "/v1/users/ann")).json()
    assert [(it["network"], it["who"], it["nick"]) for it in view["sessions"]] == [
        ("irc", who, "nick")
    ]
    assert [rule["to"] for rule in view["notify"]] == [["irc"]]
    # The next one under that nick is another session, so that this one is over.
    await say(chat, await code_of(chat, "ann"), "session:irc 2", "irc")
    assert linking.known_as(world, "irc", "session:irc 2") == "ann"
    assert linking.known_as(world, "irc", who) == ""
    # A user who goes takes sessions and codes along, and a new one of that name has none of them.
    code, later = await code_of(chat, "ann"), await code_of(chat, "ann")
    await say(chat, code, who, "irc")
    await chat.commit({"users/ann.toml": None})
    assert linking.known_as(world, "irc", who) == ""
    await refused(chat, later, "session:2", "irc")
    await chat.commit({"users/ann.toml": b"\n"})
    await chat.ask("DELETE", "/v1/users/ann")
    await put(chat, "ann")
    assert linking.known_as(world, "irc", who) == ""
    await refused(chat, later, "session:2", "irc")


async def test_codes_hold_for_their_network_and_their_time(chat: Here) -> None:
    error = await refused(chat, await code_of(chat, "ann", "irc"), "@ann:example.org")
    assert error.message == "that code is for irc"
    now = chat.service.clock.now()
    digest = code_digest(chat.service.ca_key(), "BCDFGHJK")
    await chat.service.write(UserCode(at=now, user="ann", digest=digest, until=now))
    error = await refused(chat, "BCDFGHJK", "@ann:example.org")
    assert "older than 10 minutes" in error.message
    for wrong in ("", "x" * 100_000, "BCDFGHJ", "\0", "BCDF-GHJ\u212a"):
        await refused(chat, wrong, "@eve" + str(len(wrong)))


async def test_whom_the_network_does_not_vouch_for_is_nobody(chat: Here) -> None:
    code = await code_of(chat, "ann")
    error = await refused(chat, code, "")
    assert error.message.startswith("matrix does not say who you are")
    error = await refused(chat, code, "ann\x07")
    assert "is no identity on a network: 'ann\\x07'" in error.message
    await say(chat, code, "@ann:example.org")


async def test_an_identity_of_another_user_stays_his_and_the_code_good(chat: Here) -> None:
    await chat.commit({"users/bob.toml": b'[chat]\nmatrix = "@b"\n'})
    code = await code_of(chat, "ann")
    error = await refused(chat, code, "@b")
    assert (error.message, error.hint) == (
        "nick is bob on matrix",
        "bob can end that: rota user unlink matrix",
    )
    await say(chat, code, "@ann:example.org")


async def test_who_guesses_is_not_listened_to_for_a_while(chat: Here) -> None:
    code = await code_of(chat, "ann")
    for _ in range(TRIES):
        error = await refused(chat, "BBBB-BBBB", "@eve")
        assert "opens nothing" in error.message
    error = await refused(chat, code, "@eve")
    assert error.message == "too many wrong codes; try again in 10 minutes"
    await say(chat, code, "@ann:example.org")  # others are


def test_guesses_are_forgotten_in_time_and_bounded() -> None:
    guesses = Guesses()
    for _ in range(TRIES):
        guesses.note("irc", "eve", 0.0)
    with pytest.raises(DeniedError):
        guesses.refuse("irc", "eve", timedelta(minutes=9).total_seconds())
    guesses.refuse("irc", "eve", timedelta(minutes=10).total_seconds())
    guesses.refuse("xmpp", "eve", 0.0)
    for n in range(3 * MAX_GUESSERS):
        guesses.note("irc", f"eve{n}", 1.0)
    assert len(guesses._wrong) == MAX_GUESSERS
    with pytest.raises(DeniedError):
        guesses.refuse("irc", "somebody", 1.0)  # too many of that network


async def test_a_leader_of_yesterday_links_nobody(chat: Here) -> None:
    code = await code_of(chat, "ann")
    with pytest.raises(FencedError):
        await linking.link(chat.service, code, network="matrix", who="@ann", nick="", fence=10_000)
    assert linking.known_as(chat.service.world, "matrix", "@ann") == ""
    await say(chat, code, "@ann")


async def test_links_are_ended_by_their_user(chat: Here) -> None:
    await say(chat, await code_of(chat, "ann"), "@ann:example.org")
    await say(chat, await code_of(chat, "ann"), "@ann:home.example")
    await say(chat, await code_of(chat, "ann"), "session:1")
    become(chat, "ann", Role.BUILDER)
    reply = await chat.ask("DELETE", "/v1/users/@me/links?network=matrix&who=@ann:home.example")
    assert reply.json()["chat"] == {"matrix": ["@ann:example.org"]}
    assert len(reply.json()["sessions"]) == 1
    reply = await chat.ask("DELETE", "/v1/users/@me/links?network=matrix")
    assert (reply.json()["chat"], reply.json()["sessions"]) == ({}, [])
    reply = await chat.ask("DELETE", "/v1/users/@me/links?network=irc")
    assert said(reply) == (404, "ann is not linked on irc")
    kinds = [it["kind"] for it in (await chat.ask("GET", "/v1/events?kind=user.unlinked")).json()]
    assert kinds == ["user.unlinked"]


async def test_a_linked_user_approves_and_not_what_he_asked_for_himself(chat: Here) -> None:
    header = 'approve = { who = ["@release"], self = false }'
    script = f"#!/bin/sh\n# /// script\n# [tool.rota]\n# {header}\n# ///\n"
    await chat.commit({"users/bob.toml": b'role = "builder"\n'})
    await chat.put("deploy", script)
    with chat.service.speakers.admitted() as token:
        chat.who = Access(TOKEN, speaks=chat.service.speakers.knows).principal

        async def as_(name: str, method: str, path: str) -> Reply:
            role = linking.role_of(chat.service.world, name).name
            return await chat.ask(
                method,
                path,
                body={},
                Authorization=f"Bearer {token}",
                Rota_Principal=f"{name};{role}",
            )

        asked = await as_("ann", "POST", "/v1/jobs/deploy/builds")
        assert (asked.status, asked.json()["trigger"]["by"]) == (201, "ann")
        reply = await as_("ann", "POST", "/v1/builds/deploy%231/approve")
        assert said(reply) == (
            403,
            "ann asked for deploy#1, and somebody else has to approve it (`self`)",
        )
        assert said(await as_("eve", "POST", "/v1/builds/deploy%231/approve")) == (
            403,
            "eve is without a role; `approve` needs a builder",
        )
        reply = await as_("bob", "POST", "/v1/builds/deploy%231/approve")
        assert reply.status == 200, reply.text
    events = (await chat.ask("GET", "/v1/events?kind=build.approved")).json()
    assert [it["by"] for it in events] == ["bob"]


def test_a_code_is_hidden_where_commands_are_written_down() -> None:
    assert linking.hidden(["link", "BCDF-GHJK"]) == ("link", "…")
    assert linking.hidden(["LINK", "BCDF", "GHJK"]) == ("LINK", "…")
    assert linking.hidden(["run", "web"]) == ("run", "web")
    assert linking.hidden(["link"]) == ("link",)
