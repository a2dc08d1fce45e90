"""Networks, made of the settings: which there are, and the adapter of each, loaded when it is wanted."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from rota.adapters.clocks import SystemClock
from rota.core.settings import Settings
from rota.core.settings_chat import SECRETS, ChatNetwork
from rota.core.targets import MAIL
from rota.errors import InputError, RotaError
from rota.ports.chat_wire import Wanted
from rota.ports.networks import Network

ReadSecret = Callable[[str], Awaitable[bytes]]

_PORTS = {"irc": {"direct": 6697, "starttls": 6667, "none": 6667}}


async def wanted_networks(settings: Settings, read_secret: ReadSecret) -> tuple[Wanted, ...]:
    """Return all networks that the settings name, in their order, with the secrets they need."""
    found = [await _chat(name, it, read_secret) for name, it in settings.chat.items()]
    if settings.mail is not None:
        values: dict[str, object] = msgspec.to_builtins(settings.mail)
        names = {"password": str(values.pop("password"))}
        found.append(await resolved(MAIL, "mail", values, names, read_secret))
    for name, outlet in settings.outlet.items():
        found.append(await resolved(name, "outlet", {}, {"url": outlet.url}, read_secret))
    return tuple(found)


async def _chat(name: str, network: ChatNetwork, read_secret: ReadSecret) -> Wanted:
    values: dict[str, object] = msgspec.to_builtins(network)
    names = {key: str(values.pop(key)) for key in SECRETS}
    return await resolved(name, network.kind, values, names, read_secret)


async def resolved(
    name: str,
    kind: str,
    values: dict[str, object],
    secrets: dict[str, str],
    read_secret: ReadSecret,
) -> Wanted:
    """Return a network with the values of its ``secrets``, which are by their settings' names."""
    known: dict[str, str] = {}
    for key, secret in secrets.items():
        if not secret:
            continue
        try:
            known[key] = (await read_secret(secret)).decode().rstrip("\n")
        except RotaError as error:
            fault = f"{key} = {secret!r}: {error.message}"
        except UnicodeDecodeError:
            fault = f"{key} = {secret!r}: the secret is no text"
        else:
            continue
        return Wanted(name=name, kind=kind, values=values, fault=fault)
    return Wanted(name=name, kind=kind, values=values, secrets=known)


# -- adapters ---------------------------------------------------------------------------------------


def network_of(wanted: Wanted) -> Network:
    """Return the adapter of a network; it connects to nothing yet.

    Raises:
        InputError: it cannot be had: a secret is missing, or a library, or a setting cannot be.
    """
    if wanted.fault:
        raise InputError(f"{wanted.name}: {wanted.fault}")
    make = _MAKERS.get(wanted.kind)
    if make is None:
        raise InputError(f"{wanted.name}: there is no kind {wanted.kind!r} of network")
    try:
        network: Network = make(wanted)
    except ImportError as error:
        extra = "notify" if wanted.kind in ("mail", "outlet") else "chat"
        raise InputError(
            f"{wanted.name}: {error.name or wanted.kind} is not installed on this agent",
            hint=f"pip install 'rota[{extra}]'",
        ) from error
    return network


def _irc(wanted: Wanted) -> Any:
    values = _plain(wanted, "server", "tls", "ca", "nick", "account", "prefix")
    port = int(_value(wanted, "port", 0)) or _PORTS["irc"][values["tls"]]
    secrets = {key: wanted.secrets.get(key, "") for key in _IRC_SECRETS}
    return _adapter("irc", "IrcNetwork")(
        wanted.name,
        clock=SystemClock(),
        port=port,
        rooms=_rooms(wanted),
        every_s=float(_value(wanted, "pace_s", 2.0)),
        **values,
        **secrets,
    )


_IRC_SECRETS = ("password", "server_password", "certificate")


def _matrix(wanted: Wanted) -> Any:
    values = _plain(wanted, "server", "account", "device", "ca")
    secrets = {key: wanted.secrets.get(key, "") for key in ("password", "token")}
    return _adapter("matrix", "MatrixNetwork")(
        wanted.name, rooms=_rooms(wanted), **values, **secrets
    )


def _xmpp(wanted: Wanted) -> Any:
    values = _plain(wanted, "server", "account", "tls", "ca", "nick")
    return _adapter("xmpp", "XmppNetwork")(
        wanted.name,
        clock=SystemClock(),
        port=int(_value(wanted, "port", 0)),
        password=wanted.secrets.get("password", ""),
        rooms=_rooms(wanted),
        **values,
    )


def _slack(wanted: Wanted) -> Any:
    secrets = {key: wanted.secrets.get(key, "") for key in ("token", "app_token")}
    return _adapter("slack", "SlackNetwork")(
        wanted.name, rooms=_rooms(wanted), **_plain(wanted, "server", "nick"), **secrets
    )


def _bridge(wanted: Wanted) -> Any:
    return _adapter("bridge", "BridgeNetwork")(
        wanted.name,
        server=str(_value(wanted, "server", "")),
        token=wanted.secrets.get("token", ""),
    )


def _mail(wanted: Wanted) -> Any:
    values = _plain(wanted, "server", "sender", "user", "ca")
    return _adapter("mail", "MailNetwork")(
        wanted.name, password=wanted.secrets.get("password", ""), **values
    )


def _outlet(wanted: Wanted) -> Any:
    return _adapter("apprise_outlet", "AppriseOutlet")(
        wanted.name, url=wanted.secrets.get("url", "")
    )


_MAKERS: dict[str, Callable[[Wanted], Any]] = {
    "irc": _irc,
    "matrix": _matrix,
    "xmpp": _xmpp,
    "slack": _slack,
    "bridge": _bridge,
    "mail": _mail,
    "outlet": _outlet,
}


def _adapter(module: str, name: str) -> Any:
    """Return an adapter's class; what it needs is loaded now."""
    return getattr(importlib.import_module(f"rota.adapters.{module}"), name)


def _value(wanted: Wanted, key: str, default: Any) -> Any:
    return wanted.values.get(key, default)


def _plain(wanted: Wanted, *keys: str) -> dict[str, str]:
    return {key: str(_value(wanted, key, "")) for key in keys}


def _rooms(wanted: Wanted) -> tuple[str, ...]:
    return tuple(str(room) for room in _value(wanted, "rooms", ()))
