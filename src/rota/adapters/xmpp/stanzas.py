"""What stanzas mean to us, and what ours look like."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

from slixmpp import JID, Message
from slixmpp.jid import InvalidJID

from rota.core.literal import literal
from rota.errors import InputError, LaterError, RotaError
from rota.ports.networks import Saying

#: Servers cut connections of who sends more in one stanza; Prosody at 256 KiB.
MOST = 30_000
MUC_USER = "{http://jabber.org/protocol/muc#user}"
_STANZA_ID = "{urn:xmpp:sid:0}stanza-id"
_UNSTYLED = "{urn:xmpp:styling:0}unstyled"
_FENCE = "```"
#: What conditions mean of rooms (XEP-0045, 7.2).
_REASONS = {
    "conflict": "others have our names there",
    "forbidden": "we are banned",
    "gone": "it was destroyed",
    "not-allowed": "nobody may make it",
    "not-authorized": "it has a password, or another one",
    "registration-required": "it is for members only",
    "service-unavailable": "it is full",
}
#: Conditions of errors that pass, whatever type the server gives them.
_PASS = frozenset(
    {
        "internal-server-error",
        "not-acceptable",  # we are not in the room: joined again in a moment
        "policy-violation",
        "recipient-unavailable",
        "remote-server-timeout",
        "resource-constraint",
        "undefined-condition",
        "unexpected-request",
    }
)


def address(text: str, what: str) -> JID:
    """Return a bare address.

    Raises:
        InputError: it is none.
    """
    try:
        jid = JID(text)
    except InvalidJID as error:
        raise _no_address(text, what) from error
    if not jid.user or not jid.domain or jid.resource:
        raise _no_address(text, what)
    return jid


def _no_address(text: str, what: str) -> InputError:
    return InputError(f"{what} {text!r} is no XMPP address", hint="such as rota@example.org")


def body_of(saying: Saying) -> str:
    """Return the text of a message: code stands between fences (XEP-0393)."""
    text = literal(saying.text)[:MOST]
    if text.startswith("/me"):
        text = "\u200b" + text  # clients show "/me does" as "rota does" (XEP-0245)
    parts = [text] if text else []
    if saying.code:
        code = literal(saying.code)[-MOST:].rstrip("\n")
        # A line that begins with a fence would end the block.
        code = "\n".join(
            "\u200b" + line if line.startswith(_FENCE) else line for line in code.split("\n")
        )
        parts.append(f"{_FENCE}\n{code}\n{_FENCE}")
    if saying.link:
        parts.append(literal(saying.link))
    return "\n".join(parts)


def leave_unstyled(message: Message) -> None:
    """Have ``*`` and ``_`` shown as they are."""
    message.xml.append(ET.Element(_UNSTYLED))


def id_of(message: Message, room: JID) -> str:
    """Return what names a message for ever.

    That is the id that the archive of ``room`` gave it; without an archive, what its writer and
    the room say of it, which is the same for all who hear it, and later in the history.
    """
    found = [
        each.get("id", "")
        for each in message.xml.findall(_STANZA_ID)
        if each.get("by", "") == room.bare
    ]
    return archived(room, found[0]) if len(found) == 1 and found[0] else _made(message, room)


def archived(room: JID, name: str) -> str:
    """Return the name of the message that has an id in the archive of ``room``."""
    return hashlib.sha256(f"{room.bare}\n{name}".encode()).hexdigest()[:32]


def _made(message: Message, room: JID) -> str:
    said = (room.bare, _writer(message), message["id"] or "", message["body"])
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:32]


def _writer(message: Message) -> str:
    """Return the address that a message is from; as it stands where a server took what is none."""
    try:
        return str(message["from"].full)
    except InvalidJID:
        return str(message.xml.get("from", ""))


def delayed(message: Message) -> datetime | None:
    """Return since when a message that comes late was on its way, as stands in it; not to be trusted."""
    try:
        delay = message.get_plugin("delay", check=True)
        stamp = delay["stamp"] if delay is not None else None
    except ValueError:
        return None
    if not isinstance(stamp, datetime):
        return None
    return stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)


def is_whispered(message: Message) -> bool:
    """Whether it comes from one of a room, whose address stands in the place of a person's."""
    return message.xml.find(f"{MUC_USER}x") is not None


def archived_writer(message: Message) -> str:
    """Return the address of who wrote a message of an archive; empty if it is not vouched for.

    A writer can put such an element into what it sends. An archive adds its own: if there is
    not exactly one, nobody knows which is whose.
    """
    items = [
        item.get("jid", "")
        for element in message.xml.findall(f"{MUC_USER}x")
        for item in element.findall(f"{MUC_USER}item")
    ]
    if len(items) != 1 or not items[0]:
        return ""
    try:
        return str(JID(items[0]).bare)
    except InvalidJID:
        return ""


def reason(condition: str, text: str) -> str:
    """Return why something was refused: in the server's words, else in ours."""
    return literal(text) or _REASONS.get(condition, condition)


def refusal(where: str, condition: str, kind: str, text: str) -> RotaError:
    """Return what an error that a server answered with means to who spoke."""
    why = literal(text) or condition
    if kind == "wait" or condition in _PASS or condition.startswith("remote-server"):
        return LaterError(f"{where} does not take it now: {why}")
    if condition == "forbidden":
        return InputError(
            f"nobody lets us speak in {where}: {why}", hint="give the bot voice there"
        )
    return InputError(f"{where} is nothing that takes messages: {why}")
