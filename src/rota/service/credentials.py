"""Who shows a user's token, and what it allows; when each was last shown."""

from __future__ import annotations

import asyncio
import contextlib

from rota.core.events import Event, TokenRevoked, TokenUsed
from rota.core.rights import Rights, Role
from rota.core.tokens import USE_NOTED_S, AccessToken, is_token, token_digest
from rota.errors import DeniedError, RotaError, UnavailableError
from rota.service.context import Principal, Service

#: Uses are written down together, so long after the first of them.
GATHERED_S = 5.0
_AGAIN = "rota login URL; or a new token: rota token create --for NAME"


class Credentials:
    """Takes tokens for one agent. Cost of one: a hash and two look-ups."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._used: dict[str, float] = {}
        self._fresh: set[str] = set()
        self._wake = asyncio.Event()

    def principal(self, text: str, build: str = "") -> Principal:
        """Return who shows that token.

        Raises:
            DeniedError: it is none, is not known, has ended, or its user is gone.
        """
        token = self._service.world.cluster.picture.tokens.by_digest.get(token_digest(text))
        if token is None:
            known = "is not known here" if is_token(text) else "is cut off, or mistyped"
            raise DeniedError(f"the token {known}", hint=_AGAIN)
        self.refuse(token)
        self._note(token)
        rights = self._service.world.judge.token(token)
        return Principal(
            name=token.user,
            role=rights.everywhere,
            build=build,
            token=token.id,
            holds_s=self._left_s(token),
            rights=rights,
        )

    def _left_s(self, token: AccessToken) -> float | None:
        if token.until is None:
            return None
        return max(0.0, (token.until - self._service.clock.now()).total_seconds())

    def refuse(self, token: AccessToken) -> None:
        """Do nothing if a token holds.

        Raises:
            DeniedError: it does not, and why.
        """
        if token.revoked_at is not None:
            by = f" by {token.revoked_by}" if token.revoked_by else ""
            raise DeniedError(f"the token {token.id} was revoked{by}", hint=_AGAIN)
        if token.is_over(self._service.clock.now()):
            raise DeniedError(f"the token {token.id} has expired", hint=_AGAIN)
        if not self._service.world.judge.is_there(token.user):
            raise DeniedError(
                f"the token {token.id} is of {token.user}, and no user is called so", hint=_AGAIN
            )

    def rights(self, name: str, role: Role, token: str = "") -> Rights:
        """Return what somebody may for whom a peer or a speaker asks.

        Args:
            name: Who.
            role: Over everything, as who speaks says.
            token: The id of what they showed there: it says what they may, then.

        Raises:
            DeniedError: that token does not hold.
            UnavailableError: this agent has not folded yet that there is such a token.
        """
        if not token:
            return self._service.world.judge.user(name, role)
        found = self._service.world.cluster.picture.tokens.find(token)
        if found is None:
            raise UnavailableError(
                f"{self._service.me.name} does not know the token {token} yet",
                hint="try again in a moment",
            )
        self.refuse(found)
        return self._service.world.judge.token(found)

    def _note(self, token: AccessToken) -> None:
        """Have it written down that a token was shown, if that was not done within the hour."""
        now = self._service.clock.monotonic()
        if now - self._used.get(token.id, -USE_NOTED_S) < USE_NOTED_S:
            return
        self._used[token.id] = now
        known = token.used_at
        age_s = (self._service.clock.now() - known).total_seconds() if known else USE_NOTED_S
        if age_s >= USE_NOTED_S:
            self._fresh.add(token.id)
            self._wake.set()

    def followed(self) -> None:
        """Take note that the definitions are other ones: users may be gone."""
        if self._orphans():
            self._wake.set()

    async def run(self) -> None:
        """Write down which tokens are shown, and end those of users who are gone; for ever.

        What fails is told an hour later, or with the next change of the definitions.
        """
        service = self._service
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHERED_S)
            self._wake.clear()
            ids, self._fresh = tuple(sorted(self._fresh)), set()
            now, name = service.clock.now(), service.me.name
            events: list[Event] = [
                TokenRevoked(at=now, agent=name, user=it) for it in self._orphans()
            ]
            events += [TokenUsed(at=now, agent=name, tokens=ids)] if ids else []
            for event in events:
                with contextlib.suppress(RotaError):
                    await service.append(event)

    def _orphans(self) -> list[str]:
        """Return the users who are gone and have tokens, for the leader to end.

        Else these would open something again if somebody of the same name came.
        """
        picture, judge = self._service.world.cluster.picture, self._service.world.judge
        if picture.leader != self._service.me.name:
            return []
        live = (it for it in picture.tokens.by_digest.values() if it.revoked_at is None)
        return sorted({it.user for it in live if not judge.is_there(it.user)})
