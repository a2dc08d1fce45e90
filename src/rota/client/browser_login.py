"""A login by a browser on this machine, or on another: what the client does of it.

What began it stays here: the verifier that proves that the code is ours, and the nonce that the
provider's token must have. Whichever agent is asked can finish it.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from rota.client.client import Client
from rota.errors import DeniedError, UnavailableError

#: How long somebody may take to log in there.
PATIENCE_S = 300.0
#: The scope that asks for what renews a login.
OFFLINE = "offline_access"
_PAGE = b"""<!doctype html><meta charset="utf-8"><title>rota</title>
<p style="font: 1.2em sans-serif; margin: 3em">%s</p>"""


class _Came(NamedTuple):
    """What the browser came back with."""

    code: str = ""
    error: str = ""


def by_browser(
    client: Client,
    ways: Mapping[str, Any],
    show: Callable[[str], object],
    *,
    patience_s: float = PATIENCE_S,
) -> dict[str, Any]:
    """Return a token, as REST shows it, once somebody has logged in with the browser.

    Args:
        client: Of any agent.
        ways: As of the verb `login_ways`.
        show: Is given the URL that the browser is to open.
        patience_s: How long that may take.

    Raises:
        DeniedError: it was refused there, or here.
        UnavailableError: nobody came back in time, or no agent answers.
    """
    state, nonce, verifier = _random(), _random(), _random(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    with _Waiting(state) as waiting:
        redirect = f"http://127.0.0.1:{waiting.server_port}/"
        query = {
            "response_type": "code",
            "client_id": ways["client"],
            "redirect_uri": redirect,
            "scope": " ".join(ways["scopes"]),
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        if OFFLINE in ways["scopes"]:
            # OpenID Connect Core 11: who is to be vouched for while away has to agree to it.
            query["prompt"] = "consent"
        url = str(ways["authorization"])
        show(f"{url}{'&' if urlsplit(url).query else '?'}{urlencode(query)}")
        came = waiting.until(time.monotonic() + patience_s)
    if came.error:
        raise DeniedError(f"the provider refuses that login: {came.error}", known=True)
    answer = client.call("login", code=came.code, verifier=verifier, nonce=nonce, redirect=redirect)
    return dict(answer.json())


def by_device(client: Client, show: Callable[[Mapping[str, Any]], object]) -> dict[str, Any]:
    """Return a token once somebody has logged in at another machine; ``show`` is given what to do.

    Raises:
        DeniedError: it was refused, or took too long.
        UnavailableError: no agent, or not the provider, answers.
    """
    begun = client.call("login_device").json()
    show(begun)
    end, pause_s = time.monotonic() + float(begun["expires_s"]), float(begun["interval_s"])
    while time.monotonic() < end:
        time.sleep(max(0.1, pause_s))
        token = client.call("login_poll", code=begun["code"]).json()["token"]
        if token is not None:
            return dict(token)
    raise UnavailableError("nobody logged in in time", hint="try it again: rota login URL --device")


class _Waiting(http.server.HTTPServer):
    """Waits on this machine's loopback for a browser that comes back with our ``state``."""

    def __init__(self, state: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state, self.came = state, _Came()

    def until(self, deadline: float) -> _Came:
        """Return what the browser came with.

        Raises:
            UnavailableError: it did not come.
        """
        while not self.came.code and not self.came.error:
            self.timeout = deadline - time.monotonic()
            if self.timeout <= 0:
                raise UnavailableError(
                    "nobody logged in in time",
                    hint="without a browser here: rota login URL --device",
                )
            self.handle_request()
        return self.came


class _Handler(http.server.BaseHTTPRequestHandler):
    def setup(self) -> None:
        self.request.settimeout(10.0)  # of a connection that says nothing
        super().setup()

    def do_GET(self) -> None:
        assert isinstance(self.server, _Waiting)
        query = parse_qs(urlsplit(self.path).query)
        said = {key: values[0] for key, values in query.items()}
        # Another page of the browser may call us, too: it does not know the state.
        if said.get("state") != self.server.state:
            return self._answer(404, b"nothing is here")
        if said.get("code"):
            self.server.came = _Came(code=said["code"])
            return self._answer(200, b"You are logged in to rota once the command line says so.")
        why = said.get("error_description") or said.get("error") or "it gave no code"
        self.server.came = _Came(error=why[:300])
        return self._answer(200, b"That was refused; the command line says why.")

    def _answer(self, status: int, text: bytes) -> None:
        body = _PAGE % text
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the query has a code in it."""


def _random(size: int = 32) -> str:
    return base64.urlsafe_b64encode(os.urandom(size)).rstrip(b"=").decode()
