"""What events mean to us, and what ours look like. Nothing here asks anybody."""

from __future__ import annotations

import html
import json
from datetime import UTC, datetime
from typing import Any

from rota.core.literal import literal
from rota.ports.networks import Saying

#: In the content of our messages: whether one was said is asked by it.
MARK = "org.rota.saying"
#: An event has 64 KiB, escapes and all; of longer texts the end is what matters.
MOST = 12_000
MOST_EVENT = 60_000
_COLOURS = {"good": "#1a7f37", "bad": "#cf222e"}

Event = dict[str, Any]


def content_of(saying: Saying) -> dict[str, object]:
    """Return the content of a message: plain for some clients, HTML in which nothing of ours is HTML."""
    text, code = _cut(_unmentioned(saying.text)), _cut(_unmentioned(saying.code)).rstrip("\n")
    link = literal(saying.link)
    content: dict[str, object] = {
        "msgtype": "m.notice",  # other bots let these be
        "body": "\n".join(part for part in (text, code, link) if part) or " ",
        "m.mentions": {},  # whatever stands in it mentions nobody
        MARK: saying.id,
    }
    if saying.thread:
        content["m.relates_to"] = {
            "rel_type": "m.thread",
            "event_id": saying.thread,
            "is_falling_back": True,
            "m.in_reply_to": {"event_id": saying.thread},
        }
    formatted = _html(text, code, link, _COLOURS.get(saying.tone, ""))
    whole = {**content, "format": "org.matrix.custom.html", "formatted_body": formatted}
    is_small = len(json.dumps(whole, ensure_ascii=False).encode()) <= MOST_EVENT
    return whole if is_small else content


def _html(text: str, code: str, link: str, colour: str) -> str:
    parts = []
    if text:
        first, *others = (html.escape(line) for line in text.split("\n"))
        if colour:
            first = f'<span data-mx-color="{colour}">{first}</span>'
        parts.append("<p>" + "<br>".join([first, *others]) + "</p>")
    if code:
        parts.append(f"<pre><code>{html.escape(code)}\n</code></pre>")
    if link:
        parts.append(f'<p><a href="{html.escape(link)}">{html.escape(link)}</a></p>')
    return "".join(parts)


def _unmentioned(text: str) -> str:
    # Old servers look for it in the text.
    return literal(text).replace("@room", "@\u200broom")


def _cut(text: str) -> str:
    data = text.encode()
    return text if len(data) <= MOST else data[-MOST:].decode("utf-8", "ignore")


def text_of(event: Event) -> str | None:
    """Return what a person wrote; ``None`` if it is no message, or one that changes another."""
    content = event.get("content")
    if event.get("type") != "m.room.message" or not isinstance(content, dict):
        return None
    body = content.get("body")
    if content.get("msgtype") != "m.text" or not isinstance(body, str):
        return None
    relation = _relation(content)
    if relation.get("rel_type") == "m.replace":
        return None
    if "m.in_reply_to" in relation and not relation.get("is_falling_back"):
        return _unquoted(body)
    return body


def mark_of(event: Event) -> str:
    """Return under which id a message was said; empty if it is none of ours."""
    content = event.get("content")
    mark = content.get(MARK) if isinstance(content, dict) else None
    return mark if isinstance(mark, str) else ""


def thread_of(event: Event) -> str:
    """Return the event that begins the thread it stands in; empty if it stands in none."""
    relation = _relation(event.get("content"))
    root = relation.get("event_id")
    return root if relation.get("rel_type") == "m.thread" and isinstance(root, str) else ""


def instant(event: Event) -> datetime:
    """Return when the server of its writer took it."""
    at = event.get("origin_server_ts")
    if not isinstance(at, int) or not 0 <= at < 2**42:
        at = 0
    return datetime.fromtimestamp(at / 1000, UTC)


def since_entering(found: list[Event], account: str) -> list[Event]:
    """Return what came after somebody entered, where that is among it: what stood there is past.

    A server shows who enters what was said before, and there may be commands in it.
    """
    for number in range(len(found) - 1, -1, -1):
        event = found[number]
        content = event.get("content")
        unsigned = event.get("unsigned")
        before = unsigned.get("prev_content") if isinstance(unsigned, dict) else None
        if (
            event.get("type") == "m.room.member"
            and event.get("state_key") == account
            and isinstance(content, dict)
            and content.get("membership") == "join"
            and not (isinstance(before, dict) and before.get("membership") == "join")
        ):
            return found[number + 1 :]
    return found


def is_encrypted(event: Event) -> bool:
    """Whether only those who have a key can read it."""
    return event.get("type") == "m.room.encrypted"


def _relation(content: Any) -> dict[str, Any]:
    found = content.get("m.relates_to") if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def _unquoted(body: str) -> str:
    """Leave out what old clients quote above an answer."""
    lines = body.split("\n")
    while lines and lines[0].startswith("> "):
        del lines[0]
    return "\n".join(lines).lstrip("\n")
