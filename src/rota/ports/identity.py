"""A provider of identities, by OpenID Connect: what logging people in needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from rota.core.settings_oidc import OidcSettings


class Endpoints(msgspec.Struct, frozen=True):
    """Where a provider is asked; ``device`` is empty where it knows no devices."""

    authorization: str
    device: str = ""


class Device(msgspec.Struct, frozen=True):
    """A login that somebody finishes elsewhere: ``user_code`` is typed at ``url``."""

    code: str
    user_code: str
    url: str
    complete_url: str = ""
    expires_s: float = 600.0
    interval_s: float = 5.0


class Vouched(msgspec.Struct, frozen=True):
    """What a provider vouches for, and by what it will again; that is empty where it gives nothing."""

    claims: Mapping[str, Any]
    refresh: str = ""


class Identity(Protocol):
    """Asks the provider that the settings name. Safe to call at the same time; keeps its keys."""

    async def endpoints(self, settings: OidcSettings) -> Endpoints:
        """Return where it is asked.

        Raises:
            UnavailableError: it does not answer, or not as one does.
        """
        ...

    async def claims(
        self,
        settings: OidcSettings,
        secret: str,
        *,
        code: str,
        verifier: str,
        redirect: str,
        nonce: str,
    ) -> Vouched:
        """Return what it vouches for, given the code that it gave somebody's browser.

        All is verified: its signature, that it is for this client, of that issuer, of now, and of the
        login that had this nonce.

        Raises:
            DeniedError: it does not take the code, or what it says does not hold.
            UnavailableError: it does not answer, or not as one does.
        """
        ...

    async def device(self, settings: OidcSettings, secret: str) -> Device:
        """Begin a login of somebody whose browser is elsewhere.

        Raises:
            ConflictError: it knows no devices.
            UnavailableError: it does not answer, or not as one does.
        """
        ...

    async def renewed(self, settings: OidcSettings, secret: str, refresh: str) -> Vouched:
        """Return what it vouches for by now, given what it gave at a login for that.

        Raises:
            DeniedError: it does not any more, or what it says does not hold.
            UnavailableError: it does not answer, or not as one does.
        """
        ...

    async def device_claims(self, settings: OidcSettings, secret: str, code: str) -> Vouched | None:
        """Return what it vouches for, once somebody has finished that login; ``None`` before.

        Raises:
            DeniedError: it was refused, or is over; or what it says does not hold.
            UnavailableError: it does not answer, or not as one does.
        """
        ...
