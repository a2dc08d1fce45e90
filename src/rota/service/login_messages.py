"""What goes in and out of the verbs by which people log in."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from rota.service.messages import Request
from rota.service.token_messages import TokenView

#: A code of a provider may have a whole signed token in it.
MAX_CODE = 4096
MAX_REFRESH = 8192


class LoginRequest(Request, frozen=True, kw_only=True):
    """The end of a login that a browser began."""

    code: Annotated[
        str, Meta(description="as the provider gave it", min_length=1, max_length=MAX_CODE)
    ]
    verifier: Annotated[
        str, Meta(description="of PKCE: what the challenge is of", min_length=43, max_length=128)
    ]
    nonce: Annotated[
        str, Meta(description="that the login began with", min_length=16, max_length=128)
    ]
    redirect: Annotated[
        str,
        Meta(description="where the browser was sent: on this machine's loopback", max_length=500),
    ]


class DeviceRequest(Request, frozen=True, kw_only=True):
    """A login that somebody finishes at another machine."""


class DevicePollRequest(Request, frozen=True, kw_only=True):
    """Whether a device's login is finished."""

    code: Annotated[
        str, Meta(description="of the device, as given", min_length=1, max_length=MAX_CODE)
    ]


class LoginRenewRequest(Request, frozen=True, kw_only=True):
    """Another token for a login that has ended, or soon will."""

    token: Annotated[
        str, Meta(description="that the login gave last", min_length=1, max_length=200)
    ]
    refresh: Annotated[
        str,
        Meta(description="that came with it", min_length=1, max_length=MAX_REFRESH),
    ]


class LoginView(TokenView, frozen=True, kw_only=True):
    """The token of a login. ``refresh`` is by what it is renewed, if the provider gave something."""

    refresh: str = ""


class LoginWays(msgspec.Struct, frozen=True, kw_only=True):
    """How one logs in: by a token in any case, by a provider if there is one."""

    oidc: bool
    issuer: str = ""
    client: str = ""
    scopes: tuple[str, ...] = ()
    authorization: str = ""  # where a browser begins
    device: bool = False


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody is to do elsewhere: type ``user_code`` at ``url``."""

    code: str
    user_code: str
    url: str
    complete_url: str
    expires_s: float
    interval_s: float


class DevicePoll(msgspec.Struct, frozen=True, kw_only=True):
    """The token, once the login is finished."""

    token: LoginView | None = None
