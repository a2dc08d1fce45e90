"""Verbs by which people log in: a provider of identities vouches for them, and they are given a token.

Who asks is nobody yet. What began a login is with who began it, so that any agent can finish it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from rota.core.logins import described, person_of
from rota.core.settings_oidc import OidcSettings
from rota.errors import ConflictError, DeniedError, InputError
from rota.ports.identity import Identity
from rota.service import login_messages as lm
from rota.service import messages as m
from rota.service import token_messages as t
from rota.service.context import Principal, Service
from rota.service.tokens import issue

logger = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


async def ways(service: Service, request: m.Nothing, who: Principal) -> lm.LoginWays:
    """Say how one logs in."""
    settings = service.world.definitions.settings.oidc
    if not settings.is_set or service.identity is None:
        return lm.LoginWays(oidc=False)
    endpoints = await service.identity.endpoints(settings)
    return lm.LoginWays(
        oidc=True,
        issuer=settings.issuer,
        client=settings.client,
        scopes=settings.scopes,
        authorization=endpoints.authorization,
        device=bool(endpoints.device),
    )


async def login(service: Service, request: lm.LoginRequest, who: Principal) -> t.TokenView:
    """Finish a login that a browser began, and return a token.

    Raises:
        DeniedError: the provider does not vouch for it, or for nobody who is known here.
        InputError: the browser was sent elsewhere than to the machine of who asks.
    """
    settings, identity = _provider(service)
    _refuse_elsewhere(request.redirect)
    claims = await identity.claims(
        settings,
        await _secret(service, settings),
        code=request.code,
        verifier=request.verifier,
        redirect=request.redirect,
        nonce=request.nonce,
    )
    return await _let_in(service, settings, claims)


async def device(service: Service, request: lm.DeviceRequest, who: Principal) -> lm.DeviceView:
    """Begin a login that somebody finishes at another machine."""
    settings, identity = _provider(service)
    begun = await identity.device(settings, await _secret(service, settings))
    return lm.DeviceView(
        code=begun.code,
        user_code=begun.user_code,
        url=begun.url,
        complete_url=begun.complete_url,
        expires_s=begun.expires_s,
        interval_s=begun.interval_s,
    )


async def poll(service: Service, request: lm.DevicePollRequest, who: Principal) -> lm.DevicePoll:
    """Return a token, once that login is finished."""
    settings, identity = _provider(service)
    secret = await _secret(service, settings)
    claims = await identity.device_claims(settings, secret, request.code)
    if claims is None:
        return lm.DevicePoll()
    return lm.DevicePoll(token=await _let_in(service, settings, claims))


async def _let_in(
    service: Service, settings: OidcSettings, claims: Mapping[str, Any]
) -> t.TokenView:
    person = person_of(claims, service.world.definitions.users, settings)
    if person is None:
        logger.warning("somebody logged in who is nobody here: %s", described(claims))
        raise DeniedError(
            f"{settings.issuer} vouches for {described(claims)}, which is no user here",
            known=True,
            hint="an admin makes one: rota user set NAME --email ADDRESS",
        )
    return await issue(
        service,
        person.user,
        by=person.user,
        until=service.clock.now() + timedelta(seconds=settings.session_s),
        note=settings.issuer,
        login=True,
        groups=person.groups,
    )


def _provider(service: Service) -> tuple[OidcSettings, Identity]:
    settings = service.world.definitions.settings.oidc
    if not settings.is_set or service.identity is None:
        raise ConflictError(
            "nobody logs in here but with a token: no provider of identities is set up",
            hint="settings.toml: [oidc] with issuer and client; or: rota login URL --token",
        )
    return settings, service.identity


async def _secret(service: Service, settings: OidcSettings) -> str:
    if not settings.secret:
        return ""
    return (await service.read_secret(settings.secret)).decode("utf-8", "replace").strip()


def _refuse_elsewhere(redirect: str) -> None:
    """A code that was sent to another site is not taken: that site could have it from anybody."""
    try:
        parts = urlsplit(redirect)
        is_here = parts.scheme == "http" and parts.hostname in _LOOPBACK
    except ValueError:
        is_here = False
    if not is_here:
        raise InputError(
            "redirect: a login ends on the machine of who logs in",
            hint="such as http://127.0.0.1:40000/",
        )
