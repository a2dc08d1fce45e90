"""Events to bytes and back: the one codec of the journal, REST and the event stream.

JSON, because a person with ``nats`` or ``curl`` should be able to read the journal. Reading never
raises: what is not understood comes back as :class:`~rota.core.events.Unknown`, bytes kept.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from rota.core.events import EPOCH, Event, Known, Unknown

VERSION = 1
#: A time outside these is a fault of a clock or of a writer; sums with it could leave the calendar.
FIRST, LAST = EPOCH, datetime(9000, 1, 1, tzinfo=UTC)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Known)


class _Loose(msgspec.Struct):
    kind: str = "?"
    at: object = None
    by: object = None
    agent: object = None


_loose = msgspec.json.Decoder(_Loose)


def encode(event: Event) -> bytes:
    """Return the event as one line of JSON. An unknown one comes out as it came in."""
    return event.raw if isinstance(event, Unknown) else _encoder.encode(event)


def decode(raw: bytes) -> Event:
    """Return the event that ``raw`` holds; never raises."""
    try:
        event: Known = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _unknown(raw)
    is_sound = event.v <= VERSION and FIRST <= event.at < LAST
    return event if is_sound else _unknown(raw)


def _unknown(raw: bytes) -> Unknown:
    try:
        loose = _loose.decode(raw)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Unknown(kind="?", raw=raw)
    return Unknown(
        kind=loose.kind,
        raw=raw,
        at=_time(loose.at),
        by=loose.by if isinstance(loose.by, str) else "",
        agent=loose.agent if isinstance(loose.agent, str) else "",
    )


def _time(value: object) -> datetime:
    try:
        at = msgspec.convert(value, type=datetime)
    except msgspec.MsgspecError:
        return EPOCH
    return at if at.tzinfo and FIRST <= at < LAST else EPOCH
