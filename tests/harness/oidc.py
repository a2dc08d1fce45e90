"""A provider of identities in this process, which does as a test says: also what none should."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CLIENT, SECRET = "rota", "the client's secret"


class Provider:
    """Vouches for :attr:`claims`. What a token is signed by, and says, a test may change."""

    def __init__(self) -> None:
        self.issuer = ""
        self.claims: dict[str, Any] = {
            "sub": "s-1",
            "email": "ann@example.org",
            "email_verified": True,
        }
        self.change: Callable[[dict[str, Any]], object] = lambda claims: None
        self.sign: Callable[[dict[str, Any]], str] = self.signed
        self.refreshes: set[str] = set()  # what renews a login, once each
        self.says_who = True  # also when a login is renewed
        self.offline = False  # whether logins can be renewed
        self.finished = False  # whether a device's login is
        self.asked: list[str] = []
        self.grants: dict[str, dict[str, str]] = {}
        self.rotated = 0
        self.rotate("RS256")

    def rotate(self, alg: str) -> None:
        """Have another key from now on."""
        self.alg, self.kid = alg, secrets.token_hex(4)
        self.rotated += 1
        if alg == "RS256":
            self.key: Any = rsa_key(self.rotated)
        else:
            self.key = ec.generate_private_key(ec.SECP256R1())
        algorithm = jwt.get_algorithm_by_name(alg)
        public = json.loads(algorithm.to_jwk(self.key.public_key()))
        self.jwks = {"keys": [{**public, "kid": self.kid, "use": "sig", "alg": alg}]}

    def signed(self, claims: dict[str, Any]) -> str:
        return jwt.encode(claims, self.key, algorithm=self.alg, headers={"kid": self.kid})

    def code(self, **query: str) -> str:
        """Return the code that a browser is sent back with, for what it came with."""
        code = secrets.token_hex(8)
        self.grants[code] = query
        return code

    def token(self, nonce: str = "") -> str:
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, **self.claims}
        if nonce:
            claims["nonce"] = nonce
        self.change(claims)
        return self.sign(claims)

    def given(self, nonce: str = "") -> web.Response:
        """Return the answer that vouches for somebody."""
        said = {"id_token": self.token(nonce), "access_token": "x"}
        if self.offline:
            self.refreshes.add(said.setdefault("refresh_token", secrets.token_hex(16)))
        return web.json_response(said)

    # -- what it answers --------------------------------------------------------------------------

    async def document(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
                "device_authorization_endpoint": f"{self.issuer}/device",
            }
        )

    async def keys(self, request: web.Request) -> web.Response:
        self.asked.append("keys")
        return web.json_response(self.jwks)

    async def device(self, request: web.Request) -> web.Response:
        _check_client(request)
        return web.json_response(
            {
                "device_code": "device-1", "user_code": "WDJB-MJHT", "verification_uri": f"{self.issuer}/d",
                "expires_in": 60, "interval": 0,
            }
        )  # fmt: skip

    async def answer(self, request: web.Request) -> web.Response:
        _check_client(request)
        form = await request.post()
        if str(form["grant_type"]).endswith("device_code"):
            if not self.finished:
                return web.json_response({"error": "authorization_pending"}, status=400)
            return self.given()
        if form["grant_type"] == "refresh_token":
            self.asked.append("refresh")
            if form["refresh_token"] not in self.refreshes:
                said = {"error": "invalid_grant", "error_description": "that session is over"}
                return web.json_response(said, status=400)
            self.refreshes.remove(str(form["refresh_token"]))
            return self.given() if self.says_who else web.json_response({"access_token": "x"})
        grant = self.grants.pop(str(form["code"]), None)
        verifier = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(verifier).rstrip(b"=").decode()
        if (
            grant is None
            or grant["code_challenge"] != challenge
            or grant["redirect_uri"] != form["redirect_uri"]
        ):
            said = {"error": "invalid_grant", "error_description": "that code is of no use"}
            return web.json_response(said, status=400)
        return self.given(grant.get("nonce", ""))


@functools.cache
def rsa_key(number: int) -> rsa.RSAPrivateKey:
    """Return one of some keys: making one takes half a second."""
    return rsa.generate_private_key(65537, 2048)


def _check_client(request: web.Request) -> None:
    given = request.headers.get("Authorization", "").removeprefix("Basic ")
    wanted = f"{CLIENT}:{SECRET.replace(' ', '%20').replace(chr(39), '%27')}"
    assert base64.b64decode(given).decode() == wanted


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """A provider for as long as the context is open."""
    made = Provider()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", made.document)
    app.router.add_get("/keys", made.keys)
    app.router.add_post("/device", made.device)
    app.router.add_post("/token", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
