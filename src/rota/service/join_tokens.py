"""The join tokens that this agent made: their secrets' hashes, how long and how often each holds."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from msgspec.structs import replace

from rota.core.address import Address
from rota.core.durations import format_duration
from rota.core.join_token import JoinToken
from rota.errors import DeniedError, InputError, NotFoundError
from rota.ports.clock import Clock
from rota.service import messages as m
from rota.service.durable import write_whole

logger = logging.getLogger(__name__)

VALID_S = 3600.0
MAX_VALID_S = 365 * 86400.0
MAX_USES = 10_000
MAX_TOKENS = 1000
#: So long one that has ended is still known, so that it is told from one that never was.
REMEMBERED = timedelta(days=7)
_NEW = "make a new one on a member: rota token create"


class KeptToken(msgspec.Struct, frozen=True, kw_only=True):
    """A join token without its secret. ``pins`` are the keys that it admitted.

    ``uses`` is how many machines it may admit, 0 for any number; ``id`` names it.
    """

    id: str
    digest: str
    by: str
    made_at: datetime
    ends_at: datetime
    uses: int = 0
    pins: tuple[str, ...] = ()

    def fault(self, now: datetime, pin: str | None = "") -> str:
        """Say why it does not admit this key, or a new one; empty if it does.

        ``None`` is a key that is not known yet: then uses do not count.
        """
        if now >= self.ends_at:
            return "has expired"
        is_spent = 0 < self.uses <= len(self.pins)
        if pin is not None and is_spent and pin not in self.pins:
            return "has been used as often as it may be"
        return ""

    def view(self, token: str = "") -> m.JoinTokenView:
        """Return it as REST shows it."""
        left = max(self.uses - len(self.pins), 0)
        return m.JoinTokenView(id=self.id, expires_at=self.ends_at, uses=left, token=token)


class JoinTokens:
    """Kept in one file. Every call reads or writes at most that; nothing is awaited."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._kept = _load(path)

    def create(
        self,
        *,
        by: str,
        ca: str,
        addresses: Sequence[Address],
        valid_s: float = VALID_S,
        uses: int = 0,
    ) -> tuple[KeptToken, JoinToken]:
        """Return a new token, as it is kept and with its secret, which is nowhere else.

        Args:
            by: Whom to record as the one who let machines in.
            ca: The SHA-256 of the CA's certificate in hex.
            addresses: Where this agent's listener for peers is reached.
            valid_s: Seconds.
            uses: How many machines it admits; 0 for any number.

        Raises:
            InputError: a limit is beyond what is sensible.
            UnavailableError: it cannot be written down; then there is none.
        """
        if not 1 <= valid_s <= MAX_VALID_S:
            limit = format_duration(MAX_VALID_S)
            raise InputError(f"a join token can be valid for 1s to {limit}, not {valid_s:g} s")
        if not 0 <= uses <= MAX_USES:
            raise InputError(f"a join token can be used up to {MAX_USES} times, not {uses}")
        secret, now = secrets.token_urlsafe(32), self._clock.now()
        digest = _digest(secret)
        token = KeptToken(
            id=digest[:8],
            digest=digest,
            by=by,
            made_at=now,
            ends_at=now + timedelta(seconds=valid_s),
            uses=uses,
        )
        present = [kept for kept in self._kept if kept.ends_at + REMEMBERED > now]
        self._keep([*present[-MAX_TOKENS + 1 :], token])
        return token, JoinToken(ca, secret, tuple(addresses))

    def list(self) -> Sequence[KeptToken]:
        """Return those that still admit somebody, oldest first."""
        now = self._clock.now()
        return [kept for kept in self._kept if not kept.fault(now)]

    def revoke(self, id_: str) -> KeptToken:
        """Forget a token by its id; who joined with it stays a member.

        Raises:
            NotFoundError: this agent keeps none of that id.
            UnavailableError: it cannot be written down; the token still holds.
        """
        found = next((kept for kept in self._kept if kept.id == id_), None)
        if found is None:
            raise NotFoundError(
                f"this agent keeps no join token {id_!r}",
                hint="a token is known only where it was made; see: rota token list",
            )
        self._keep([kept for kept in self._kept if kept is not found])
        return found

    def check(self, secret: str, pin: str | None = None) -> KeptToken:
        """Return the token of a secret, if it admits the machine with that key, or any.

        Who was admitted by it before may come again, as long as it has not expired.

        Raises:
            DeniedError: it does not.
        """
        digest, found = _digest(secret), None
        for kept in self._kept:
            if hmac.compare_digest(kept.digest, digest):
                found = kept
        if found is None:
            raise DeniedError("the join token is not known here", known=True, hint=_NEW)
        fault = found.fault(self._clock.now(), pin)
        if fault:
            raise DeniedError(f"the join token {fault}", known=True, hint=_NEW)
        return found

    def used(self, token: KeptToken, pin: str) -> None:
        """Write down that ``token`` admits the machine with that key. Safe to call twice."""
        self._keep(
            [
                replace(kept, pins=(*kept.pins, pin))
                if kept.id == token.id and pin not in kept.pins
                else kept
                for kept in self._kept
            ]
        )

    def _keep(self, kept: Sequence[KeptToken]) -> None:
        write_whole(self._path, msgspec.json.encode(kept))
        self._kept = list(kept)


def _load(path: Path) -> Sequence[KeptToken]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[KeptToken])
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError, UnicodeError) as error:
        logger.warning("the join tokens in %s are lost, make new ones: %s", path, error)
        return []


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
