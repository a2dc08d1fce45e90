"""Who calls a webhook, and whether they may: by headers and body alone, before any of it is believed.

A forge is known by its headers. Each signs in its own way; whatever a call shows of that must fit.
Signatures are compared in constant time, over the bytes as they came.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

import msgspec

from rota.errors import DeniedError, InputError

#: How far the time that a sender signs may be from ours; agents' clocks differ by minutes.
TOLERANCE_S = 600
MAX_HEADER = 2000

Headers = Mapping[str, Sequence[str]]
"""Lower-case name -> all lines of it."""


class Caller(msgspec.Struct, frozen=True):
    """Who called: the forge's kind (empty: none), its name for the event, and the delivery.

    ``delivery`` is the caller's own id, for people; ``key`` is what tells one delivery from others,
    made of nothing that is not signed, if anything is.
    """

    forge: str
    event: str
    delivery: str
    key: str


class _Kind(msgspec.Struct, frozen=True):
    forge: str
    event: str  # the header that names the event, by which the forge is known
    signatures: tuple[str, ...]
    deliveries: tuple[str, ...]


#: Those that also send another one's headers stand before it.
_KINDS = (
    _Kind(
        "forgejo",
        "X-Forgejo-Event",
        ("X-Forgejo-Signature", "X-Gitea-Signature", "X-Hub-Signature-256"),
        ("X-Forgejo-Delivery", "X-Gitea-Delivery"),
    ),
    _Kind(
        "gitea",
        "X-Gitea-Event",
        ("X-Gitea-Signature", "X-Hub-Signature-256"),
        ("X-Gitea-Delivery",),
    ),
    _Kind(
        "gitlab",
        "X-Gitlab-Event",
        ("X-Gitlab-Token", "Webhook-Signature"),
        ("Webhook-Id", "Idempotency-Key", "X-Gitlab-Event-UUID"),
    ),
    _Kind("bitbucket", "X-Event-Key", ("X-Hub-Signature",), ("X-Request-UUID", "X-Request-Id")),
    _Kind("github", "X-GitHub-Event", ("X-Hub-Signature-256",), ("X-GitHub-Delivery",)),
    _Kind(
        "",
        "X-Rota-Event",
        ("X-Rota-Signature", "X-Hub-Signature-256", "Webhook-Signature"),
        ("X-Rota-Delivery", "Webhook-Id"),
    ),
)
_TIMED = ("X-Rota-Signature", "Webhook-Signature")
_HINT = "give the sender the secret that `rota hook {}` prints"


def identify(hook: str, headers: Headers, body: bytes, secret: str, now_s: float) -> Caller:
    """Return who calls, once the signature is known to fit.

    Args:
        hook: Its name, for what is said.
        headers: Of the request.
        body: As it came.
        secret: The hook's.
        now_s: This agent's time, in seconds since 1970.

    Raises:
        DeniedError: there is no signature, or it does not fit, or is of another time.
        InputError: a header is there twice, or is beyond its limit.
    """
    kind = next((it for it in _KINDS if it.event.lower() in headers), _KINDS[-1])
    event = _one(headers, kind.event)
    delivery = next((text for name in kind.deliveries if (text := _one(headers, name))), "")
    shown = {name: _one(headers, name) for name in kind.signatures if name.lower() in headers}
    if not shown:
        raise DeniedError(
            f"no signature: the header {kind.signatures[0]} is missing", hint=_HINT.format(hook)
        )
    signed = [
        _check(hook, name, text, headers, body, secret, now_s) for name, text in shown.items()
    ]
    forge = kind.forge
    if forge == "bitbucket" and "x-request-uuid" not in headers and "x-hook-uuid" not in headers:
        forge = "bitbucket-server"
    moment = next((it for it in signed if it), "")
    digest = hashlib.sha256(body).hexdigest()
    if moment:
        key = f"{moment} {digest}"
    elif (kind.forge in ("", "gitlab")) and delivery:
        key = f"{delivery} {digest}"
    else:
        key = digest
    return Caller(forge, event, delivery, key)


def _check(
    hook: str, name: str, text: str, headers: Headers, body: bytes, secret: str, now_s: float
) -> str:
    """Return the moment or id that the signature covers, if it covers one."""
    match name:
        case "X-Gitlab-Token":
            fits, moment = _same(text, secret), ""
        case "X-Rota-Signature":
            fits, moment = _check_rota(text, body, secret), _field(text, "t")
        case "Webhook-Signature":
            fits, moment = _check_standard(text, headers, body, secret)
        case _:
            fits, moment = _same(_hex(text), _digest(secret.encode(), body)), ""
    if not fits:
        raise DeniedError(f"the signature in {name} does not fit", hint=_HINT.format(hook))
    if name in _TIMED:
        at = _field(text, "t") if name == "X-Rota-Signature" else _one(headers, "Webhook-Timestamp")
        _refuse_old(name, at, now_s)
    return moment


def _check_rota(text: str, body: bytes, secret: str) -> bool:
    at = _field(text, "t")
    wanted = _digest(secret.encode(), at.encode() + b"." + body)
    shown = [part.strip()[3:] for part in text.split(",") if part.strip().startswith("v1=")]
    return any(_same(one.lower(), wanted) for one in shown)


def _check_standard(text: str, headers: Headers, body: bytes, secret: str) -> tuple[bool, str]:
    id_, at = _one(headers, "Webhook-Id"), _one(headers, "Webhook-Timestamp")
    content = f"{id_}.{at}.".encode() + body
    keys = [secret.encode()]
    with contextlib.suppress(binascii.Error):
        keys.append(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    wanted = [base64.b64encode(hmac.digest(key, content, "sha256")).decode() for key in keys]
    shown = [part[3:] for part in text.split(" ") if part.startswith("v1,")]
    return any(_same(one, good) for one in shown for good in wanted), f"{id_} {at}"


def _refuse_old(name: str, at: str, now_s: float) -> None:
    if not re.fullmatch(r"[0-9]{1,12}", at):
        raise DeniedError(f"{name} signs no time", hint="seconds since 1970, as `date +%s` prints")
    off_s = round(now_s - int(at))
    if abs(off_s) > TOLERANCE_S:
        side = "behind" if off_s > 0 else "ahead of"
        raise DeniedError(
            f"{name} is of another time: {abs(off_s)} s {side} this agent's clock",
            hint=f"a call is taken within {TOLERANCE_S} s; is one of the clocks wrong?",
        )


def _digest(key: bytes, data: bytes) -> str:
    return hmac.digest(key, data, "sha256").hex()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogateescape"), other.encode())


def _hex(text: str) -> str:
    return text.strip().removeprefix("sha256=").lower()


def _field(text: str, name: str) -> str:
    parts = (part.strip().partition("=") for part in text.split(","))
    return next((value for key, _, value in parts if key == name), "")


def _one(headers: Headers, name: str) -> str:
    lines = headers.get(name.lower(), ())
    if len(lines) > 1:
        raise InputError(f"the header {name} is there {len(lines)} times", hint="send it once")
    text = lines[0].strip() if lines else ""
    if len(text) > MAX_HEADER:
        raise InputError(f"the header {name} has {len(text)} characters, the limit is {MAX_HEADER}")
    return text
