"""Verbs by which people log in: a provider of identities vouches for them, and they are given a token.

Who asks is nobody yet. What began a login is with who began it, so that any agent can finish it.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from urllib.parse import urlsplit

import msgspec

from rota.core.events import TokenRevoked
from rota.core.logins import described, person_of
from rota.core.settings_oidc import OidcSettings
from rota.core.tokens import AccessToken, token_digest
from rota.errors import ConflictError, DeniedError, InputError
from rota.ports.identity import Identity, Vouched
from rota.service import login_messages as lm
from rota.service import messages as m
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


async def login(service: Service, request: lm.LoginRequest, who: Principal) -> lm.LoginView:
    """Finish a login that a browser began, and return a token.

    Raises:
        DeniedError: the provider does not vouch for it, or for nobody who is known here.
        InputError: the browser was sent elsewhere than to the machine of who asks.
    """
    settings, identity = _provider(service)
    _refuse_elsewhere(request.redirect)
    vouched = await identity.claims(
        settings,
        await _secret(service, settings),
        code=request.code,
        verifier=request.verifier,
        redirect=request.redirect,
        nonce=request.nonce,
    )
    return await _let_in(service, settings, vouched)


async def renew(service: Service, request: lm.LoginRenewRequest, who: Principal) -> lm.LoginView:
    """Give another token for one that a login gave, if the provider still vouches for its user.

    The former one opens nothing after that, and renews nothing: so that who revokes the last one of a
    login ends the login, whoever has a copy of what renews it.

    Raises:
        DeniedError: the provider does not, or vouches for another; or the former one was revoked.
    """
    settings, identity = _provider(service)
    _former(service, request.token)
    secret = await _secret(service, settings)
    vouched = await identity.renewed(settings, secret, request.refresh)
    # Somebody may have revoked it while the provider was asked.
    former = _former(service, request.token)
    made = await _let_in(service, settings, vouched, former.user)
    now = service.clock.now()
    await service.write(
        TokenRevoked(at=now, by=former.user, agent=service.me.name, user=former.user, id=former.id)
    )
    return made


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
    vouched = await identity.device_claims(settings, secret, request.code)
    if vouched is None:
        return lm.DevicePoll()
    return lm.DevicePoll(token=await _let_in(service, settings, vouched))


async def _let_in(
    service: Service, settings: OidcSettings, vouched: Vouched, user: str = ""
) -> lm.LoginView:
    """Return a token for whom a provider vouches for; only for ``user``, if one is named."""
    claims = vouched.claims
    person = person_of(claims, service.world.definitions.users, settings)
    if person is None:
        logger.warning("somebody logged in who is nobody here: %s", described(claims))
        raise DeniedError(
            f"{settings.issuer} vouches for {described(claims)}, which is no user here",
            known=True,
            hint="an admin makes one: rota user set NAME --email ADDRESS",
        )
    if user and person.user != user:
        raise _over(f"{settings.issuer} vouches for {person.user} by now, and not for {user}")
    made = await issue(
        service,
        person.user,
        by=person.user,
        until=service.clock.now() + timedelta(seconds=settings.session_s),
        note=settings.issuer,
        login=True,
        groups=person.groups,
    )
    return lm.LoginView(**msgspec.structs.asdict(made), refresh=vouched.refresh)


def _former(service: Service, text: str) -> AccessToken:
    """Return the token of a login, which may have ended, but was not revoked."""
    found = service.world.cluster.picture.tokens.by_digest.get(token_digest(text))
    if found is None or not found.login:
        raise _over("its token is not known here any more")
    if found.revoked_at is not None:
        raise _over(f"its token {found.id} was revoked by {found.revoked_by or 'somebody'}")
    return found


def _over(why: str) -> DeniedError:
    return DeniedError(
        f"the login cannot be renewed: {why}", known=True, hint="log in again: rota login URL"
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
