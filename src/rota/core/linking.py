"""How chat identities are linked to users: one-time codes, and identities that last as long as a session.

A code is shown to its user alone. The journal has a keyed digest of it, from which nobody who reads
the journal finds the code, and every agent takes it. The first identity that says it has used it.
All of this is bounded: the oldest goes.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from rota.core.events import UserCode, UserLinked, UserUnlinked
from rota.core.hook import derived_key
from rota.core.instant import Instant
from rota.core.users import SESSION

#: Letters and digits that nobody takes for another, and that make no words.
ALPHABET = "BCDFGHJKMNPQRSTVWXYZ23456789"
#: 28 ** 8 codes, of which a few are good at a time: nobody guesses one in its ten minutes.
CODE_LENGTH = 8
MAX_CODES = 1000
MAX_CODES_EACH = 5
MAX_SESSIONS = 5000
MAX_SESSIONS_EACH = 20


class LinkCode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A code that was given out: whose it is, on which network (any, if empty), and until when.

    ``used_on`` and ``used_by`` are the network and the identity that used it.
    """

    user: str
    until: Instant
    network: str = ""
    used_on: str = ""
    used_by: str = ""


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """A user's session on a network that vouches for nothing longer."""

    user: str
    at: Instant
    nick: str = ""


class Linking(msgspec.Struct):
    """Codes by their digests, sessions by their networks and identities. ``seq`` is of the last event."""

    seq: int = 0
    codes: dict[str, LinkCode] = {}
    sessions: dict[str, dict[str, Session]] = {}

    def session(self, network: str, who: str) -> str:
        """Return whose session an identity is; empty if nobody linked it."""
        found = self.sessions.get(network, {}).get(who)
        return found.user if found is not None else ""

    def by_user(self) -> dict[str, list[tuple[str, str, Session]]]:
        """Return each user's sessions: network, identity, what is known of it. Cost: a look at all."""
        found: dict[str, list[tuple[str, str, Session]]] = {}
        for network, sessions in self.sessions.items():
            for who, it in sessions.items():
                found.setdefault(it.user, []).append((network, who, it))
        return found

    def of(self, user: str) -> list[tuple[str, str, Session]]:
        """Return a user's sessions."""
        return self.by_user().get(user, [])


def is_session(who: str) -> bool:
    """Whether an identity ends with somebody's session on a network."""
    return who.startswith(SESSION)


def plain_code(text: str) -> str:
    """Return a code as it is compared; empty if it cannot be one."""
    code = "".join(text.upper().replace("-", " ").split())
    return code if len(code) == CODE_LENGTH and set(code) <= set(ALPHABET) else ""


def shown_code(code: str) -> str:
    """Return a code as people are shown it."""
    return f"{code[:4]}-{code[4:]}"


def code_digest(ca_key: bytes, code: str) -> str:
    """Return what the journal has of a code; only members can make it, and so try codes.

    Args:
        ca_key: The key of the cluster's authority, which every member has.
        code: As of :func:`plain_code`.
    """
    key = derived_key(ca_key, b"rota link code 1")
    return hmac.digest(key, code.encode(), hashlib.sha256).hex()


def fold_linking(linking: Linking, seq: int, event: UserCode | UserLinked | UserUnlinked) -> None:
    """Take an event over. Codes whose time is over by the event's are forgotten."""
    linking.seq = seq
    for digest in [it for it, code in linking.codes.items() if code.until <= event.at]:
        del linking.codes[digest]
    match event:
        case UserCode():
            code = LinkCode(user=event.user, until=event.until, network=event.network)
            linking.codes.setdefault(event.digest, code)
            _bound(linking.codes, event.user, MAX_CODES_EACH, MAX_CODES)
        case UserLinked():
            _link(linking, event)
        case UserUnlinked():
            _unlink(linking, event)


def _link(linking: Linking, event: UserLinked) -> None:
    code = linking.codes.get(event.digest)
    if code is None or code.used_by or code.user != event.user:
        return
    linking.codes[event.digest] = msgspec.structs.replace(
        code, used_on=event.network, used_by=event.who
    )
    if not is_session(event.who):
        return  # it stands in the user's file
    sessions = linking.sessions.setdefault(event.network, {})
    # Nobody says when a session is over. One is, of whom another has the nick now.
    mine = [who for who, it in sessions.items() if it.user == event.user and it.nick == event.nick]
    for who in (event.who, *(mine if event.nick else ())):
        sessions.pop(who, None)
    sessions[event.who] = Session(user=event.user, at=event.at, nick=event.nick)
    _bound(sessions, event.user, MAX_SESSIONS_EACH, MAX_SESSIONS)


def _unlink(linking: Linking, event: UserUnlinked) -> None:
    if not event.network:  # the user is gone
        for digest in [it for it, code in linking.codes.items() if code.user == event.user]:
            del linking.codes[digest]
    for network, sessions in list(linking.sessions.items()):
        if event.network not in ("", network):
            continue
        for who, session in list(sessions.items()):
            if session.user == event.user and event.who in ("", who):
                del sessions[who]
        if not sessions:
            del linking.sessions[network]


def _bound(
    known: dict[str, LinkCode] | dict[str, Session], user: str, each: int, all_: int
) -> None:
    """Forget the oldest of the user's, and of all, beyond what may be."""
    mine = [key for key, it in known.items() if it.user == user]
    others = [key for key in known if key not in mine[:-each]]
    for key in (*mine[:-each], *others[:-all_]):
        del known[key]
