"""OpenID Connect: the code flow with PKCE, and devices; tokens verified by PyJWT.

Nothing is kept of a login: whoever began it has what ends it, at whichever agent. Kept are where a
provider is asked, and its keys, which it may change at any time.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from rota.core.settings_oidc import OidcSettings, issuer_fault
from rota.errors import ConflictError, DeniedError, UnavailableError
from rota.ports.identity import Device, Endpoints, Vouched

WITHIN_S = 10.0
MAX_BYTES = 1 << 20
AT_ONCE = 8
#: Some have a whole signed token in them.
MAX_REFRESH = 8192
#: So long where a provider is asked is believed.
FRESH_S = 3600.0
#: Keys that are not known are looked for this often, at most: anybody can name one.
KEYS_S = 10.0
#: How far clocks may be apart.
SKEW_S = 60.0
#: Signatures by a key that only the provider has. Never by one that both have, never none.
ALGORITHMS = frozenset(
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
)
REQUIRED = ("iss", "sub", "aud", "exp", "iat")
_DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_PENDING = frozenset(["authorization_pending", "slow_down"])


class _Provider:
    """What is known of one provider."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document, self.at = document, time.monotonic()
        self.keys: list[dict[str, Any]] = []
        self.keys_at = -KEYS_S
        self.turn = asyncio.Lock()


class OidcIdentity:
    """See :class:`rota.ports.identity.Identity`."""

    def __init__(self) -> None:
        self._providers: dict[str, _Provider] = {}
        self._room = asyncio.Semaphore(AT_ONCE)

    async def endpoints(self, settings: OidcSettings) -> Endpoints:
        """Return where a provider is asked."""
        provider = await self._provider(settings)
        authorization = _endpoint(provider.document, "authorization_endpoint")
        device = provider.document.get("device_authorization_endpoint")
        return Endpoints(authorization, device if isinstance(device, str) else "")

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
        """Return what a provider vouches for, given a code."""
        provider = await self._provider(settings)
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": redirect,
        }
        answer = await self._post(provider, settings, secret, "token_endpoint", form)
        claims = await self._verified(provider, settings, answer)
        said = claims.get("nonce")
        if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
            raise _refused("the provider's token is of another login: its nonce is not ours")
        return Vouched(claims, _refresh(answer))

    async def renewed(self, settings: OidcSettings, secret: str, refresh: str) -> Vouched:
        """Return what a provider vouches for by now. It may give another token for the next time."""
        provider = await self._provider(settings)
        form = {"grant_type": "refresh_token", "refresh_token": refresh}
        answer = await self._post(provider, settings, secret, "token_endpoint", form)
        if "id_token" in answer:
            claims = await self._verified(provider, settings, answer)
        else:
            claims = await self._userinfo(provider, settings, answer)
        return Vouched(claims, _refresh(answer) or refresh)

    async def device(self, settings: OidcSettings, secret: str) -> Device:
        """Begin a login of somebody whose browser is elsewhere."""
        provider = await self._provider(settings)
        if "device_authorization_endpoint" not in provider.document:
            raise ConflictError(
                f"{settings.issuer} knows no logins of devices",
                hint="rota login URL opens a browser; or a token: rota login URL --token",
            )
        form = {"scope": " ".join(settings.scopes)}
        answer = await self._post(provider, settings, secret, "device_authorization_endpoint", form)
        try:
            return Device(
                code=_text(answer["device_code"]),
                user_code=_text(answer["user_code"]),
                url=_text(answer.get("verification_uri") or answer["verification_url"]),
                complete_url=_text(answer.get("verification_uri_complete", "")),
                expires_s=float(answer.get("expires_in", 600)),
                interval_s=float(answer.get("interval", 5)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _nonsense(settings.issuer, f"of a device ({error})") from error

    async def device_claims(self, settings: OidcSettings, secret: str, code: str) -> Vouched | None:
        """Return what a provider vouches for, once a device's login is finished."""
        provider = await self._provider(settings)
        form = {"grant_type": _DEVICE_GRANT, "device_code": code}
        answer = await self._post(provider, settings, secret, "token_endpoint", form)
        if answer.get("error") in _PENDING:
            return None
        return Vouched(await self._verified(provider, settings, answer), _refresh(answer))

    async def _userinfo(
        self, provider: _Provider, settings: OidcSettings, answer: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return what a provider says of who is meant by an answer without a token of identity.

        With a renewal that one may be missing (OpenID Connect Core 12.2). What is read is said by the
        provider itself, over TLS, of whom it renewed for: a signature would say no more.

        Raises:
            DeniedError: it does not say.
        """
        token = answer.get("access_token")
        if not isinstance(token, str) or "userinfo_endpoint" not in provider.document:
            raise _refused(f"{settings.issuer} renews, and does not say of whom")
        url = _endpoint(provider.document, "userinfo_endpoint")
        claims = await self._json("GET", url, headers={"Authorization": f"Bearer {token}"})
        if not isinstance(claims.get("sub"), str):
            raise _refused(f"{settings.issuer} renews, and does not say of whom")
        return claims

    # -- verifying --------------------------------------------------------------------------------

    async def _verified(
        self, provider: _Provider, settings: OidcSettings, answer: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return the claims of an answer's identity token.

        Raises:
            DeniedError: it does not hold, and why.
        """
        import jwt

        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _nonsense(settings.issuer, "without an identity token")
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(provider, settings, header)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[header["alg"]],
                audience=settings.client,
                issuer=settings.issuer,
                leeway=SKEW_S,
                options={"require": list(REQUIRED)},
            )
        except jwt.PyJWTError as error:
            raise _refused(f"the provider's token does not hold: {error}") from error
        others = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        party = claims.get("azp", settings.client if len(others) == 1 else "")
        if party != settings.client:
            raise _refused("the provider's token does not hold: it was given to another client")
        return claims

    async def _key(
        self, provider: _Provider, settings: OidcSettings, header: Mapping[str, Any]
    ) -> Any:
        """Return the key that a token names; the keys are fetched anew if it is not known."""
        import jwt

        if header.get("alg") not in ALGORITHMS:
            raise _refused(
                f"the provider's token does not hold: it is signed by {header.get('alg')!r}"
            )
        found = _named(provider.keys, header)
        if found is None:
            async with provider.turn:
                if time.monotonic() - provider.keys_at >= KEYS_S:
                    url = _endpoint(provider.document, "jwks_uri")
                    answer = await self._json("GET", url)
                    keys = answer.get("keys")
                    provider.keys = (
                        [it for it in keys if isinstance(it, dict)]
                        if isinstance(keys, list)
                        else []
                    )
                    provider.keys_at = time.monotonic()
            found = _named(provider.keys, header)
        if found is None:
            raise _refused("the provider's token does not hold: the provider has no such key")
        return jwt.PyJWK.from_dict(found, algorithm=header["alg"]).key

    # -- asking -----------------------------------------------------------------------------------

    async def _provider(self, settings: OidcSettings) -> _Provider:
        known = self._providers.get(settings.issuer)
        if known is not None and time.monotonic() - known.at < FRESH_S:
            return known
        url = f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        document = await self._json("GET", url)
        if document.get("issuer") != settings.issuer:
            raise UnavailableError(
                f"{url} is of the issuer {document.get('issuer')!r}, not of {settings.issuer!r}",
                hint="settings.toml, [oidc] issuer: exactly as the provider writes it",
            )
        made = self._providers[settings.issuer] = _Provider(document)
        return made

    async def _post(
        self,
        provider: _Provider,
        settings: OidcSettings,
        secret: str,
        name: str,
        form: dict[str, str],
    ) -> Mapping[str, Any]:
        """Return the answer to a form; of errors only that a login goes on."""
        headers = {}
        ways = provider.document.get("token_endpoint_auth_methods_supported")
        if secret and (not isinstance(ways, list) or "client_secret_basic" in ways):
            pair = f"{quote(settings.client, safe='')}:{quote(secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        elif secret:
            form["client_secret"] = secret
        form["client_id"] = settings.client
        answer = await self._json("POST", _endpoint(provider.document, name), form, headers)
        error = answer.get("error")
        if error is not None and error not in _PENDING:
            why = answer.get("error_description") or error
            raise _refused(f"the provider refuses that login: {str(why)[:300]}")
        return answer

    async def _json(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] = {},
    ) -> Mapping[str, Any]:
        """Return the JSON object that is answered.

        Raises:
            UnavailableError: none is, in time.
        """
        try:
            async with (
                asyncio.timeout(WITHIN_S),
                self._room,
                aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
                session.request(
                    method,
                    url,
                    data=form,
                    headers={"Accept": "application/json", **headers},
                    allow_redirects=False,
                ) as response,
            ):
                raw = await response.content.read(MAX_BYTES)
                found = json.loads(raw)
        except TimeoutError as error:
            raise UnavailableError(f"{url} does not answer within {WITHIN_S:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"cannot reach {url}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise UnavailableError(f"{url} does not answer in JSON") from error
        is_good = isinstance(found, dict) and (response.status == 200 or "error" in found)
        if not is_good:
            raise UnavailableError(f"{url} answers with status {response.status}")
        return dict(found)


def _refresh(answer: Mapping[str, Any]) -> str:
    """Return by what a login is renewed; nothing where there is none, or one that is no text."""
    given = answer.get("refresh_token")
    return given if isinstance(given, str) and 0 < len(given) <= MAX_REFRESH else ""


def _refused(why: str) -> DeniedError:
    """Return the error of a login that is none: whoever asks is known well enough to be told."""
    return DeniedError(why, known=True, hint="log in again: rota login URL")


def _endpoint(document: Mapping[str, Any], name: str) -> str:
    url = document.get(name)
    if not isinstance(url, str) or issuer_fault(url.partition("?")[0]) is not None:
        raise UnavailableError(f"the provider names no good {name}: {url!r}")
    return url


def _named(keys: list[dict[str, Any]], header: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the key that a header names; where it names none, the only one there is."""
    usable = [it for it in keys if it.get("use", "sig") == "sig"]
    if "kid" in header:
        usable = [it for it in usable if it.get("kid") == header["kid"]]
    if len(usable) != 1 or usable[0].get("alg", header["alg"]) != header["alg"]:
        return None
    return usable[0]


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise ValueError(f"{value!r} is no text")
    return value


def _nonsense(issuer: str, what: str) -> UnavailableError:
    return UnavailableError(f"{issuer} gave an answer {what}")
