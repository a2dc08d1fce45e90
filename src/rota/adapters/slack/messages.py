"""What messages of Slack mean to us, and what ours look like. Nothing here asks anybody."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from rota.core.literal import literal
from rota.ports.networks import Saying

#: The metadata of our messages: whether one was said is asked by it.
MARK = "rota_saying"
MOST = 3000  # of one element of text
_EMOJI = {"good": "white_check_mark", "bad": "x"}
_SPECIAL = re.compile(r"<([^<>|]+)(?:\|([^<>]*))?>")
_ENTITIES = {"&lt;": "<", "&gt;": ">", "&amp;": "&"}
#: Kinds of messages that a person writes; others tell of changes.
_WRITTEN = frozenset({"", "thread_broadcast", "file_share"})

Message = dict[str, Any]


def body_of(saying: Saying) -> Message:
    """Return what a message is made of: elements in which text is text, and means nothing."""
    text, code = literal(saying.text)[:MOST], literal(saying.code)[-MOST:].rstrip("\n")
    link = literal(saying.link)
    prose: list[Message] = []
    if (emoji := _EMOJI.get(saying.tone)) is not None:
        prose += [{"type": "emoji", "name": emoji}, _text(" ")]
    if text:
        prose.append(_text(text))
    elements: list[Message] = []
    if prose:
        elements.append({"type": "rich_text_section", "elements": prose})
    if code:
        elements.append({"type": "rich_text_preformatted", "elements": [_text(code)]})
    if link:
        shown = {"type": "link", "url": link}
        elements.append({"type": "rich_text_section", "elements": [shown]})
    elements = elements or [{"type": "rich_text_section", "elements": [_text(" ")]}]
    return {
        "text": escaped((text or code or link).split("\n")[0])[:MOST]
        or " ",  # in notices of clients
        "blocks": [{"type": "rich_text", "elements": elements}],
        "metadata": {"event_type": MARK, "event_payload": {"id": saying.id}},
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _text(text: str) -> Message:
    return {"type": "text", "text": text}


def escaped(text: str) -> str:
    """Return text as Slack's own markup shows it: ``<!here>`` is no mention then."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def said_id(message: Message) -> str:
    """Return under which id a message was said; empty if it is none of ours."""
    metadata = message.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("event_type") != MARK:
        return ""
    payload = metadata.get("event_payload")
    found = payload.get("id") if isinstance(payload, dict) else None
    return found if isinstance(found, str) else ""


def text_of(message: Message, me: str, nick: str) -> str | None:
    """Return what a person wrote; ``None`` if it is no message, or one of a bot.

    Args:
        message: As Slack has it.
        me: The bot's user.
        nick: What the bot is called: who mentions it at the beginning speaks to it.
    """
    subtype, text = message.get("subtype") or "", message.get("text")
    if message.get("type") != "message" or subtype not in _WRITTEN or message.get("hidden"):
        return None
    if message.get("bot_id") or message.get("bot_profile") or message.get("app_id"):
        return None
    user = message.get("user")
    if not isinstance(text, str) or not isinstance(user, str) or user == me:
        return None
    return unescaped(_SPECIAL.sub(_plain, addressed(text, me, nick)))


def unescaped(text: str) -> str:
    """Return the text behind entities."""
    return re.sub(r"&(?:lt|gt|amp);", lambda match: _ENTITIES[match[0]], text)


def _plain(match: re.Match[str]) -> str:
    target, label = match[1], match[2]
    if target[0] in "@#":
        return target[0] + (label or target[1:])
    if target[0] == "!":
        return "@" + (label or target[1:]).lstrip("@")
    if label and target in {f"mailto:{label}", f"http://{label}", f"tel:{label}"}:
        return label  # Slack made a link of what was written
    return target


def nick_of(user: Message) -> str:
    """Return what people see a user as; empty if Slack does not say."""
    found = user.get("profile")
    profile = found if isinstance(found, dict) else {}
    for name in (profile.get("display_name"), profile.get("real_name"), user.get("name")):
        if isinstance(name, str) and name.strip():
            return " ".join(literal(name).split())[:80]
    return ""


def addressed(text: str, me: str, nick: str) -> str:
    """Return a text with the mention that it begins with as a name: ``rota: status``."""
    mention = f"<@{me}>"
    if not text.startswith(mention):
        return text
    return f"{nick}: {text[len(mention) :].lstrip(' :,')}"


def instant(ts: str) -> datetime:
    """Return when a message was taken: that is its name, too."""
    try:
        return datetime.fromtimestamp(float(ts), UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def thread_of(message: Message) -> str:
    """Return the message that begins the thread it stands in; empty if it stands in none."""
    root = message.get("thread_ts")
    return root if isinstance(root, str) and root != message.get("ts") else ""
