"""Archives of rooms and of the own account, page by page (XEP-0313 with XEP-0059)."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from slixmpp import JID, Iq, Message
from slixmpp.xmlstream import StanzaBase
from slixmpp.xmlstream.handler import Collector
from slixmpp.xmlstream.matcher import StanzaPath

from rota.adapters.xmpp.link import ANSWER_S, Link

FEATURE = "urn:xmpp:mam:2"
PAGE = 100


class Past(msgspec.Struct, frozen=True):
    """A message of an archive."""

    name: str  # the archive's
    at: datetime
    message: Message


class Page(msgspec.Struct, frozen=True):
    """Some of an archive, the oldest first; ``first`` and ``last`` are where others begin."""

    past: tuple[Past, ...]
    first: str
    last: str
    is_last: bool


async def read_page(
    link: Link,
    jid: JID,
    *,
    start: datetime | None = None,
    after: str = "",
    before: str | None = None,
    person: JID | None = None,
) -> Page:
    """Return a page: from ``start`` or ``after`` on, or the one ``before``; empty is the end.

    Raises:
        IqError: the archive refuses.
        IqTimeout: it does not answer.
    """
    iq = link.client.make_iq_set(ito=jid)
    query = iq["mam"]
    query["queryid"] = iq["id"]
    query["start"] = start
    query["with"] = person
    query["rsm"]["max"] = str(PAGE)
    if after:
        query["rsm"]["after"] = after
    if before is not None:
        query["rsm"]["before"] = before or True
    results = Collector(f"archive {iq['id']}", StanzaPath(f"message/mam_result@queryid={iq['id']}"))
    link.client.register_handler(results)
    try:
        answer: Iq = await iq.send(timeout=int(ANSWER_S))  # type: ignore[no-untyped-call]
    finally:
        found = results.stop()
    fin = answer["mam_fin"]
    return Page(
        tuple(past for result in found for past in _past(result, jid)),
        str(fin["rsm"]["first"] or ""),
        str(fin["rsm"]["last"] or ""),
        fin.xml.get("complete") in {"true", "1"},
    )


def _past(result: StanzaBase, jid: JID) -> tuple[Past, ...]:
    inner = result["mam_result"]["forwarded"]
    try:
        message, stamp = inner["stanza"], inner["delay"]["stamp"]
    except ValueError:
        return ()  # no time that could be read
    is_its_own = result["from"].bare in {"", jid.bare}
    if not is_its_own or not isinstance(message, Message) or not isinstance(stamp, datetime):
        return ()
    at = stamp if stamp.tzinfo is not None else stamp.replace(tzinfo=UTC)
    return (Past(str(result["mam_result"]["id"]), at, message),)
