from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.adapters.matrix import events
from rota.ports.networks import Saying

ME = "@rota:example.org"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CONTENT = st.fixed_dictionaries(
    {},
    optional={"msgtype": JSON | st.just("m.text"), "body": JSON, "m.relates_to": JSON},
)


def message(body: str, **content: Any) -> events.Event:
    return {"type": "m.room.message", "content": {"msgtype": "m.text", "body": body, **content}}


def member(who: str, membership: str, before: str = "") -> events.Event:
    return {
        "type": "m.room.member",
        "state_key": who,
        "content": {"membership": membership},
        "unsigned": {"prev_content": {"membership": before}} if before else {},
    }


def test_a_message_of_ours() -> None:
    saying = Saying(
        id="n-1",
        room="#web:example.org",
        thread="$root",
        text="web#7 failed\n<b>step</b>",
        code="a  b & @room",
        link='https://x/?"<',
        tone="bad",
    )
    content = events.content_of(saying)
    assert content["msgtype"] == "m.notice"
    assert content["m.mentions"] == {}
    assert content[events.MARK] == "n-1"
    assert content["body"] == 'web#7 failed\n<b>step</b>\na  b & @\u200broom\nhttps://x/?"<'
    assert content["formatted_body"] == (
        '<p><span data-mx-color="#cf222e">web#7 failed</span><br>&lt;b&gt;step&lt;/b&gt;</p>'
        "<pre><code>a  b &amp; @\u200broom\n</code></pre>"
        '<p><a href="https://x/?&quot;&lt;">https://x/?&quot;&lt;</a></p>'
    )
    assert content["m.relates_to"] == {
        "rel_type": "m.thread",
        "event_id": "$root",
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": "$root"},
    }


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (message("!run web"), "!run web"),
        (message("!run web", msgtype="m.notice"), None),
        (message("* !run", **{"m.relates_to": {"rel_type": "m.replace", "event_id": "$1"}}), None),
        (
            message("> <@a:b> !x\n> y\n\n!z", **{"m.relates_to": {"m.in_reply_to": {}}}),
            "!z",
        ),
        (
            message("> quoted", **{"m.relates_to": {"rel_type": "m.thread", "event_id": "$1"}}),
            "> quoted",
        ),
        ({"type": "m.reaction", "content": {"body": "!x", "msgtype": "m.text"}}, None),
        ({"type": "m.room.message"}, None),
        ({"type": "m.room.message", "content": []}, None),
        ({"type": "m.room.message", "content": {"msgtype": "m.text", "body": 1}}, None),
    ],
)
def test_what_people_write(event: events.Event, text: str | None) -> None:
    assert events.text_of(event) == text


@given(CONTENT, JSON)
def test_whatever_a_server_sends_is_a_message_or_none(content: Any, at: Any) -> None:
    event = {"type": "m.room.message", "content": content, "origin_server_ts": at}
    assert isinstance(events.text_of(event), str | None)
    assert isinstance(events.thread_of(event), str)
    assert events.instant(event).tzinfo is not None
    assert isinstance(events.mark_of(event), str)
    assert events.since_entering([event], ME) == [event]
    entered = {"type": "m.room.member", "state_key": ME, "content": content, "unsigned": at}
    assert len(events.since_entering([entered], ME)) <= 1


def test_what_stood_there_before_we_entered_is_past() -> None:
    old, new, entered = message("old"), message("new"), member(ME, "join", "invite")
    assert events.since_entering([old, entered, new], ME) == [new]
    assert events.since_entering([old, member(ME, "join"), new], ME) == [new]
    # A change of name is no entering, and neither is that of somebody else.
    assert events.since_entering([old, member(ME, "join", "join"), new], ME)[0] is old
    assert events.since_entering([old, member("@ann:x", "join"), new], ME)[0] is old
    assert events.since_entering([old, entered, old, entered, new], ME) == [new]
