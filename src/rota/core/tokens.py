"""Tokens that users show: what the journal has of them, and how one is written.

The journal has the SHA-256 of a token, never the token. With 256 random bits in it nobody finds one
from its hash, and no salt is needed. What it looks like lets a scanner for secrets find one that was
committed by mistake, and a reader tell a mistyped one from one that is not known.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from rota.core.events import TokenMade, TokenRevoked, TokenUsed
from rota.core.instant import Instant
from rota.core.rights import Role

PREFIX = "rota_"
#: Random bytes in one.
SECRET_BYTES = 32
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: Digits of the secret and of its checksum, in base 62.
_DIGITS, _CHECK_DIGITS = 43, 6
MAX_TOKENS = 20_000
MAX_EACH = 200
#: So long one that has ended is still known, so that it is told from one that never was.
REMEMBERED = timedelta(days=7)
#: A token's use is written down this often at most.
USE_NOTED_S = 3600.0


class AccessToken(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a token. ``id`` is the beginning of its hash.

    It gives at most ``role``, and only on ``jobs`` where there are any. ``login`` is one that somebody
    got by logging in, not by asking for it.
    """

    id: str
    user: str
    made_at: Instant
    role: str = ""
    jobs: tuple[str, ...] = ()
    until: Instant | None = None
    note: str = ""
    login: bool = False
    groups: tuple[str, ...] = ()
    by: str = ""
    used_at: Instant | None = None
    revoked_at: Instant | None = None
    revoked_by: str = ""

    @property
    def cap(self) -> Role:
        """The role that it gives at most."""
        return Role[self.role.upper()] if self.role.upper() in Role.__members__ else Role.ADMIN

    @property
    def is_scoped(self) -> bool:
        """Whether it allows less than its user may."""
        return bool(self.jobs) or self.cap < Role.ADMIN

    def is_over(self, now: datetime) -> bool:
        """Whether it opens nothing any more."""
        return self.revoked_at is not None or (self.until is not None and now >= self.until)


class AccessTokens(msgspec.Struct):
    """Tokens by their digests. ``seq`` is that of the last event that changed what one allows."""

    seq: int = 0
    by_digest: dict[str, AccessToken] = {}

    def find(self, id_: str) -> AccessToken | None:
        """Return the token with that id. Cost: a look at all."""
        return next((it for it in self.by_digest.values() if it.id == id_), None)

    def of(self, user: str) -> Iterator[AccessToken]:
        """Yield a user's tokens, those that are over as well. Cost: a look at all."""
        return (it for it in self.by_digest.values() if it.user == user)


def printed_token(secret: bytes) -> str:
    """Return a token's text, of :data:`SECRET_BYTES` random bytes."""
    body = _base62(int.from_bytes(secret), _DIGITS)
    return f"{PREFIX}{body}{_checksum(body)}"


def is_token(text: str) -> bool:
    """Whether a text is a token of this kind, whole and without a slip."""
    body = text[len(PREFIX) : -_CHECK_DIGITS]
    is_long_enough = len(text) == len(PREFIX) + _DIGITS + _CHECK_DIGITS
    return is_long_enough and text.startswith(PREFIX) and text == f"{PREFIX}{body}{_checksum(body)}"


def token_digest(text: str) -> str:
    """Return what the journal has of a token."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def token_id(digest: str) -> str:
    """Return how people name a token."""
    return digest[:10]


def fold_tokens(
    tokens: AccessTokens, seq: int, event: TokenMade | TokenRevoked | TokenUsed
) -> None:
    """Take an event over. What is over for long is forgotten; beyond the limits the oldest goes."""
    known = tokens.by_digest
    match event:
        case TokenUsed():
            for digest, it in known.items():
                if it.id in event.tokens:
                    known[digest] = msgspec.structs.replace(it, used_at=event.at)
            return
        case TokenMade():
            _forget(known, event.at)
            made = AccessToken(
                id=token_id(event.digest),
                user=event.user,
                made_at=event.at,
                role=event.role,
                jobs=event.jobs,
                until=event.until,
                note=event.note,
                login=event.login,
                groups=event.groups,
                by=event.by,
            )
            known.setdefault(event.digest, made)
            _bound(known, event.user)
        case TokenRevoked():
            for digest, it in known.items():
                is_meant = it.id == event.id if event.id else it.user == event.user
                if is_meant and it.revoked_at is None:
                    known[digest] = msgspec.structs.replace(
                        it, revoked_at=event.at, revoked_by=event.by
                    )
    tokens.seq = seq


def _forget(known: dict[str, AccessToken], now: datetime) -> None:
    for digest, it in list(known.items()):
        ended = min((at for at in (it.until, it.revoked_at) if at is not None), default=None)
        if ended is not None and ended + REMEMBERED <= now:
            del known[digest]


def _bound(known: dict[str, AccessToken], user: str) -> None:
    """Forget tokens beyond the limits: of the user's and then of all the one that was made first.

    Who makes tokens is refused one before; here it is so that no writer makes memory grow.
    """
    mine = [digest for digest, it in known.items() if it.user == user]
    mine.sort(key=lambda digest: not known[digest].login)  # of logins there are new ones soon
    for digest in mine[:-MAX_EACH]:
        del known[digest]
    for digest in list(known)[: max(0, len(known) - MAX_TOKENS)]:
        del known[digest]


def _base62(number: int, digits: int) -> str:
    found = []
    for _ in range(digits):
        number, digit = divmod(number, len(_ALPHABET))
        found.append(_ALPHABET[digit])
    return "".join(reversed(found))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode("utf-8", "surrogatepass")), _CHECK_DIGITS)
