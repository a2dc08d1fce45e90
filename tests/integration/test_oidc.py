"""People who log in by a provider of identities: a good one, hostile ones, and one from PyPI."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace
from tests.harness.agent import TOKEN, Here, agent_here
from tests.harness.oidc import CLIENT, SECRET, Provider, provider, rsa_key

from rota.adapters import oidc
from rota.adapters.oidc import OidcIdentity
from rota.client import Client
from rota.client.browser_login import by_browser, by_device
from rota.client.login import Login, read_login, save_login
from rota.client.place import parse_place
from rota.core.tokens import token_digest
from rota.errors import DeniedError, UnavailableError
from rota.http.access import Access
from rota.service.credentials import Credentials

REDIRECT = "http://127.0.0.1:40000/"


class Secrets:
    """Has the one secret that is asked for."""

    async def read(self, name: str, *, build: object = None) -> bytes:
        assert name == "OIDC"
        return SECRET.encode()


class Office:
    """An agent whose people log in by a provider."""

    def __init__(self, here: Here, vouches: Provider) -> None:
        self.here, self.vouches = here, vouches

    async def commit(self, files: dict[str, bytes | None]) -> None:
        await self.here.commit(files)

    async def ask(self, method: str, path: str, body: object = None, token: str = "") -> Any:
        """Return status and JSON of an answer to somebody without a credential, or with a token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self.here.port}{path}"
        async with (
            aiohttp.ClientSession(headers=headers) as session,
            session.request(method, url, json=body) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    async def login(self, **changes: str) -> Any:
        """Log in as a browser does, with something else than it should if a test says so."""
        verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(32)
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        code = self.vouches.code(code_challenge=challenge, redirect_uri=REDIRECT, nonce=nonce)
        body = {"code": code, "verifier": verifier, "nonce": nonce, "redirect": REDIRECT, **changes}
        return await self.ask("POST", "/v1/login", body)

    async def refused(self, **changes: str) -> str:
        """Return why a login was refused; nobody was given a token."""
        before = await self.here.seq()
        status, body = await self.login(**changes)
        assert status in (401, 403), body
        assert await self.here.seq() == before
        return str(body["detail"])


def settings(issuer: str, more: str = "") -> bytes:
    return f'[oidc]\nissuer = "{issuer}"\nclient = "{CLIENT}"\nsecret = "OIDC"\n{more}'.encode()


@pytest.fixture
async def office(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    monkeypatch.setattr(oidc, "KEYS_S", 0.0)
    async with provider() as vouches, agent_here() as here:
        here.service.identity = OidcIdentity()
        here.service.secrets = Secrets()
        here.who = Access(TOKEN, users=Credentials(here.service)).principal
        office = Office(here, vouches)
        ann = b'role = "builder"\nemails = ["ann@example.org"]\n'
        roles = '[oidc.roles]\nops = "maintainer"\n'
        await office.commit(
            {"settings.toml": settings(vouches.issuer, roles), "users/ann.toml": ann}
        )
        yield office


async def test_who_is_vouched_for_is_given_a_token_that_ends(office: Office) -> None:
    status, ways = await office.ask("GET", "/v1/login")
    assert (status, ways["oidc"], ways["device"], ways["client"]) == (200, True, True, CLIENT)
    assert ways["authorization"] == f"{office.vouches.issuer}/authorize"
    status, made = await office.login()
    assert (status, made["user"], made["login"], made["by"]) == (201, "ann", True, "ann")
    status, listed = await office.ask("GET", "/v1/access/tokens", token=made["token"])
    assert (status, [it["id"] for it in listed]) == (200, [made["id"]])
    left = office.here.service.world.cluster.picture.tokens.find(made["id"])
    assert left is not None
    assert left.until is not None
    assert left.until.timestamp() - time.time() == pytest.approx(12 * 3600, abs=60)
    status, _ = await office.ask("DELETE", "/v1/access/tokens/@this", token=made["token"])
    assert (await office.ask("GET", "/v1/status", token=made["token"]))[0] == 401


async def test_a_subject_counts_before_an_address_and_an_address_only_if_verified(
    office: Office,
) -> None:
    await office.commit({"users/bob.toml": b'role = "admin"\nlogins = ["s-1"]\n'})
    assert (await office.login())[1]["user"] == "bob"
    office.vouches.claims |= {"sub": "s-2", "email_verified": False}
    assert "ann@example.org (not verified there), 's-2', which is no user here" in (
        await office.refused()
    )
    for value in ("true", 1, None):
        office.vouches.claims["email_verified"] = value
        await office.refused()
    office.vouches.claims = {"sub": "s-9"}
    assert f"{office.vouches.issuer} vouches for 's-9', which is no user" in await office.refused()


async def test_a_group_there_gives_its_role_here_and_no_longer_than_the_settings_say(
    office: Office,
) -> None:
    office.vouches.claims["groups"] = ["ops", "unknown", 3]
    made = (await office.login())[1]
    body = {"script": "#!/bin/sh\n:\n"}
    assert (await office.ask("PUT", "/v1/jobs/a", body, made["token"]))[0] == 200
    await office.commit({"settings.toml": settings(office.vouches.issuer)})
    status, said = await office.ask("PUT", "/v1/jobs/b", body, made["token"])
    assert (status, said["detail"]) == (403, "ann is a builder; `add` or `edit` needs a maintainer")


async def test_keys_may_change_and_be_of_another_kind(office: Office) -> None:
    assert (await office.login())[0] == 201
    for alg in ("ES256", "RS256"):
        office.vouches.rotate(alg)
        assert (await office.login())[0] == 201
    asked = office.vouches.asked.count("keys")
    assert (await office.login())[0] == 201
    assert office.vouches.asked.count("keys") == asked  # what is known is not asked for again


async def test_unknown_keys_are_looked_for_now_and_then_alone(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await office.login())[0] == 201
    monkeypatch.setattr(oidc, "KEYS_S", 60.0)
    office.vouches.rotate("RS256")
    office.vouches.jwks = {"keys": []}
    asked = office.vouches.asked.count("keys")
    for _ in range(3):
        assert "the provider has no such key" in await office.refused()
    assert office.vouches.asked.count("keys") - asked <= 1


# -- hostile ----------------------------------------------------------------------------------------


def claims_of(**changes: Any) -> Any:
    def change(claims: dict[str, Any]) -> None:
        for name, value in changes.items():
            if value is None:
                claims.pop(name, None)
            else:
                claims[name] = value

    return change


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"aud": "another"}, "Audience doesn't match"),
        ({"aud": None}, 'missing the "aud" claim'),
        ({"aud": [CLIENT, "another"]}, "it was given to another client"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "it was given to another client"),
        ({"azp": "another"}, "it was given to another client"),
        ({"iss": "https://evil.example"}, "Invalid issuer"),
        ({"iss": None}, 'missing the "iss" claim'),
        ({"exp": 1_000_000_000}, "Signature has expired"),
        ({"exp": None}, 'missing the "exp" claim'),
        ({"iat": 9_000_000_000}, "not yet valid"),
        ({"nbf": 9_000_000_000}, "not yet valid"),
        ({"sub": None}, 'missing the "sub" claim'),
        ({"nonce": "of another login, seen once"}, "its nonce is not ours"),
        ({"nonce": None}, "its nonce is not ours"),
        ({"nonce": ["x"]}, "its nonce is not ours"),
    ],
)
async def test_claims_that_do_not_hold_let_nobody_in(
    office: Office, changes: dict[str, Any], says: str
) -> None:
    office.vouches.change = claims_of(**changes)
    assert says in await office.refused()


async def test_clocks_may_be_a_little_apart(office: Office) -> None:
    now = int(time.time())
    office.vouches.change = claims_of(iat=now + 30, nbf=now + 30)
    assert (await office.login())[0] == 201
    office.vouches.change = claims_of(exp=now - 30)
    assert (await office.login())[0] == 201
    office.vouches.change = claims_of(exp=now - 90)
    assert "expired" in await office.refused()


def by_none(vouches: Provider) -> Any:
    return lambda claims: jwt.encode(claims, "", algorithm="none", headers={"kid": vouches.kid})


def by_public_key(vouches: Provider) -> Any:
    """Sign by what everybody knows, as if it were a secret that both have."""
    public = vouches.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    def sign(claims: dict[str, Any]) -> str:
        import hmac
        import json

        head = json.dumps({"alg": "HS256", "kid": vouches.kid, "typ": "JWT"}).encode()
        text = part(head) + b"." + part(json.dumps(claims).encode())
        return (text + b"." + part(hmac.digest(public, text, "sha256"))).decode()

    return sign


def by_nothing(vouches: Provider) -> Any:
    return lambda claims: "a.b.c"


def by_another_key(vouches: Provider) -> Any:
    other = rsa_key(9)
    return lambda claims: jwt.encode(claims, other, algorithm="RS256", headers={"kid": vouches.kid})


def by_own_key(vouches: Provider) -> Any:
    """Bring the key along, in the header."""
    other = rsa_key(9)
    jwk = jwt.get_algorithm_by_name("RS256").to_jwk(other.public_key(), as_dict=True)
    headers = {"kid": "mine", "jwk": jwk, "jku": "http://127.0.0.1:9/keys"}
    return lambda claims: jwt.encode(claims, other, algorithm="RS256", headers=headers)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (by_none, "it is signed by 'none'"),
        (by_public_key, "it is signed by 'HS256'"),
        (by_another_key, "Signature verification failed"),
        (by_own_key, "the provider has no such key"),
        (by_nothing, "does not hold"),
    ],
    ids=lambda it: getattr(it, "__name__", None),
)
async def test_signatures_that_do_not_hold_let_nobody_in(
    office: Office, how: Any, says: str
) -> None:
    office.vouches.sign = how(office.vouches)
    assert says in await office.refused()


async def test_a_code_without_its_verifier_or_used_twice_is_worth_nothing(office: Office) -> None:
    said = await office.refused(verifier="x" * 43)
    assert said == "the provider refuses that login: that code is of no use"
    assert "of no use" in await office.refused(code="stolen")
    for elsewhere in ("https://evil.example/", "http://127.0.0.1.evil.example/", "http://[", ""):
        status, body = await office.login(redirect=elsewhere)
        assert (status, body["detail"]) == (
            400,
            "redirect: a login ends on the machine of who logs in",
        )


async def test_a_provider_that_is_silent_or_talks_nonsense_is_named(office: Office) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
    await office.commit({"settings.toml": settings(f"http://127.0.0.1:{port}")})
    status, body = await office.login()
    assert status == 503
    assert (
        f"cannot reach http://127.0.0.1:{port}/.well-known/openid-configuration" in body["detail"]
    )
    await office.commit({"settings.toml": settings(f"{office.vouches.issuer}/")})
    status, body = await office.login()
    assert status == 503
    assert "is of the issuer" in body["detail"]
    await office.commit({"settings.toml": b""})
    status, body = await office.login()
    assert (status, body["detail"]) == (
        409,
        "nobody logs in here but with a token: no provider of identities is set up",
    )
    assert await office.ask("GET", "/v1/login") == (
        200,
        {
            "oidc": False,
            "issuer": "",
            "client": "",
            "scopes": [],
            "authorization": "",
            "device": False,
        },
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('issuer = "http://id.example"\nclient = "x"', "oidc.issuer must be https"),
        ('issuer = "id.example"\nclient = "x"', "oidc.issuer must be a URL"),
        ('issuer = "https://id.example"', "oidc needs client"),
        ('issuer = "https://id.example"\nclient = "x"\nscopes = ["email"]', "needs openid"),
        ('issuer = "https://id.example"\nclient = "x"\nroles = { a = "boss" }', "cannot be 'boss'"),
    ],
)
def test_settings_that_cannot_be_are_said(text: str, says: str) -> None:
    from rota.core.settings import parse_settings

    _, problems = parse_settings(f"[oidc]\n{text}\n")
    assert says in str(problems[0]), problems


# -- the client's side ------------------------------------------------------------------------------


async def test_a_browser_logs_in_and_another_page_cannot(office: Office) -> None:
    client = Client(parse_place(f"http://127.0.0.1:{office.here.port}", "a test"), moves=False)
    shown: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    ways = await asyncio.to_thread(lambda: client.call("login_ways").json())
    waiting = asyncio.create_task(
        asyncio.to_thread(
            by_browser, client, ways, lambda url: loop.call_soon_threadsafe(shown.put_nowait, url)
        )
    )
    url = await shown.get()
    query = {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}
    code = office.vouches.code(**query)
    async with aiohttp.ClientSession() as session:
        for wrong in (f"?code={code}&state=guessed", f"?code={code}", "favicon.ico"):
            async with session.get(query["redirect_uri"] + wrong) as answer:
                assert answer.status == 404
        right = f"{query['redirect_uri']}?code={code}&state={query['state']}"
        async with session.get(right) as answer:
            assert answer.status == 200
    assert (await waiting)["user"] == "ann"
    client.close()


async def test_a_device_logs_in_once_somebody_has_elsewhere(office: Office) -> None:
    client = Client(parse_place(f"http://127.0.0.1:{office.here.port}", "a test"), moves=False)
    shown: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(
        asyncio.to_thread(
            by_device, client, lambda it: loop.call_soon_threadsafe(shown.put_nowait, it)
        )
    )
    begun = await shown.get()
    assert begun["user_code"] == "WDJB-MJHT"
    assert (await office.ask("POST", "/v1/login/device/token", {"code": begun["code"]})) == (
        200,
        {"token": None},
    )
    office.vouches.finished = True
    assert (await waiting)["user"] == "ann"
    client.close()


async def test_a_provider_from_pypi_lets_people_in(office: Office) -> None:
    pytest.importorskip("werkzeug")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port), "--user-claims",
        '{"sub": "s-1", "email": "ann@example.org", "email_verified": true}',
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        issuer = f"http://127.0.0.1:{port}"
        await _answers(f"{issuer}/.well-known/openid-configuration")
        await office.commit({"settings.toml": settings(issuer)})
        verifier, nonce = secrets.token_urlsafe(48), secrets.token_urlsafe(32)
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code", "client_id": CLIENT, "redirect_uri": REDIRECT, "state": "s",
            "scope": "openid email", "nonce": nonce, "code_challenge_method": "S256",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        }  # fmt: skip
        _, ways = await office.ask("GET", "/v1/login")
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                ways["authorization"], params=query, data={"sub": "s-1"}, allow_redirects=False
            ) as answer,
        ):
            back = answer.headers["Location"]
        code = re.search(r"[?&]code=([^&]+)", back)
        assert code is not None, back
        body = {"code": code[1], "verifier": verifier, "nonce": nonce, "redirect": REDIRECT}
        status, made = await office.ask("POST", "/v1/login", body)
        assert (status, made.get("user")) == (201, "ann"), made
        status, again = await renew(office, made)
        # It renews without a token of identity, as a provider may, and is asked of whom that is.
        assert (status, again.get("user")) == (201, "ann"), again
        assert (await office.ask("GET", "/v1/status", token=again["token"]))[0] == 200
    finally:
        process.terminate()
        await process.wait()


async def _answers(url: str) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


# -- renewing -----------------------------------------------------------------------------------------


def end(office: Office, token: str) -> str:
    """Have a login's time be over, and return the id of its token."""
    tokens = office.here.service.world.cluster.picture.tokens.by_digest
    digest = token_digest(token)
    tokens[digest] = replace(tokens[digest], until=tokens[digest].made_at)
    return tokens[digest].id


async def renew(office: Office, made: Any, **changes: str) -> Any:
    body = {"token": made["token"], "refresh": made["refresh"], **changes}
    return await office.ask("POST", "/v1/login/renew", body)


async def test_without_a_providers_leave_nothing_is_renewed(office: Office) -> None:
    made = (await office.login())[1]
    assert made["refresh"] == ""
    status, said = await renew(office, made, refresh="guessed")
    assert (status, said["detail"]) == (
        403,
        "the provider refuses that login: that session is over",
    )


async def test_a_login_that_ended_is_renewed_and_the_former_token_renews_nothing(
    office: Office,
) -> None:
    office.vouches.offline = True
    made = (await office.login())[1]
    end(office, made["token"])
    status, again = await renew(office, made)
    assert (status, again["user"], again["login"]) == (201, "ann", True)
    assert again["refresh"] not in ("", made["refresh"])
    assert (await office.ask("GET", "/v1/status", token=again["token"]))[0] == 200
    status, said = await renew(office, {**again, "token": made["token"]})
    assert (status, said["detail"]) == (
        403,
        f"the login cannot be renewed: its token {made['id']} was revoked by ann",
    )
    for token in ("rota_unknown", TOKEN):
        status, said = await renew(office, {**again, "token": token})
        assert "its token is not known here any more" in said["detail"]


async def test_who_is_gone_revoked_or_another_by_now_is_not_let_in_again(office: Office) -> None:
    office.vouches.offline = True
    made = (await office.login())[1]
    office.vouches.says_who = False
    status, said = await renew(office, made)
    assert said["detail"] == f"{office.vouches.issuer} renews, and does not say of whom"
    office.vouches.says_who = True
    made = (await office.login())[1]
    await office.commit({"users/bob.toml": b'role = "admin"\nemails = ["bob@example.org"]\n'})
    office.vouches.claims = {"sub": "s-2", "email": "bob@example.org", "email_verified": True}
    status, said = await renew(office, made)
    assert f"{office.vouches.issuer} vouches for bob by now, and not for ann" in said["detail"]
    office.vouches.claims["email"] = "eve@example.org"
    made = {**made, "refresh": next(iter(office.vouches.refreshes))}
    status, said = await renew(office, made)
    assert (status, "is no user here" in said["detail"]) == (403, True)
    office.vouches.claims["email"] = "ann@example.org"
    made = (await office.login())[1]
    await office.ask("DELETE", "/v1/access/tokens/@this", token=made["token"])
    status, said = await renew(office, made)
    assert said["detail"] == (
        f"the login cannot be renewed: its token {made['id']} was revoked by ann"
    )


async def test_the_client_renews_by_itself_and_says_once_that_it_cannot(
    office: Office, tmp_path: Path
) -> None:
    office.vouches.offline = True
    url, env = f"http://127.0.0.1:{office.here.port}", {"XDG_CONFIG_HOME": str(tmp_path)}
    made = (await office.login())[1]
    save_login(Login(url, made["token"], refresh=made["refresh"]), env)

    def ask() -> str:
        return str(Client.find(env=env).call("user", user="@me").json()["name"])

    end(office, made["token"])
    # Commands that find it at once take turns: what renews a login is taken once only.
    said = await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(3)))
    assert (said, office.vouches.asked.count("refresh")) == (["ann"] * 3, 1)
    saved = read_login(env)
    assert saved is not None
    assert saved.token != made["token"]
    assert (tmp_path / "rota" / "login.json").stat().st_mode & 0o777 == 0o600
    # A client that goes on for long does so across the end as well.
    client = Client.find(env=env)
    assert (await asyncio.to_thread(lambda: client.call("status"))).status == 200
    end(office, saved.token)
    assert (await asyncio.to_thread(lambda: client.call("status"))).status == 200
    saved = read_login(env)
    assert saved is not None
    end(office, saved.token)
    office.vouches.refreshes.clear()
    with pytest.raises(DeniedError) as caught:
        await asyncio.to_thread(ask)
    assert caught.value.message == (
        f"the login at {url} has ended: the provider refuses that login: that session is over"
    )
    assert caught.value.hint == f"log in again: rota login {url}"
    # Then it is a token that has ended, as any other; the provider is left alone.
    asked = office.vouches.asked.count("refresh")
    with pytest.raises(DeniedError, match="has expired"):
        await asyncio.to_thread(ask)
    assert office.vouches.asked.count("refresh") == asked


async def test_a_provider_that_is_away_ends_no_login(office: Office, tmp_path: Path) -> None:
    office.vouches.offline = True
    url, env = f"http://127.0.0.1:{office.here.port}", {"XDG_CONFIG_HOME": str(tmp_path)}
    made = (await office.login())[1]
    save_login(Login(url, made["token"], refresh=made["refresh"]), env)
    end(office, made["token"])
    office.vouches.change = lambda claims: claims.clear()
    await office.commit({"settings.toml": settings("http://127.0.0.1:9")})
    client = Client.find(env=env)
    client.patience_s = 0.0
    with pytest.raises(UnavailableError, match=f"the login at {url} has ended, and is not renewed"):
        await asyncio.to_thread(lambda: client.call("status"))
    saved = read_login(env)
    assert saved is not None
    assert saved.refresh == made["refresh"]
