"""``[mail]``, ``[outlet.NAME]`` and ``[[notify]]`` in settings.toml: by what people are told, and who is."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot, printed_value
from rota.core.preferences import Preference, read_channels
from rota.core.problem import nearest
from rota.core.targets import MAIL, address_fault, network_fault

MAX_OUTLETS = 100
_SECRET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,199}")
_SERVER = re.compile(
    r"(smtp|smtps|smtp\+starttls|smtp\+plain)://([A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::([0-9]{1,5}))?/?"
)
_SENDER = re.compile(r"(?:[^<>\"@,;:]*<([^<>]+)>|([^<>]+))")


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """How mail leaves: ``[mail]``."""

    server: str  # smtp://HOST[:PORT] encrypts if it can, smtp+starttls:// or smtps:// always
    sender: str  # from: the address that it comes from, such as "rota <rota@example.org>"
    user: str = ""
    password: str = ""  # the name of a secret
    ca: str = ""  # a file of certificates, instead of the machine's


class Outlet(msgspec.Struct, frozen=True, kw_only=True):
    """A service that takes notices one way, by Apprise: ``[outlet.NAME]``."""

    url: str  # the name of a secret that holds an Apprise URL, since these have keys in them


class Settled(Protocol):
    """What of the settings says how people are told."""

    @property
    def chat(self) -> Mapping[str, object]:
        """The chat networks."""
        ...

    @property
    def mail(self) -> Mail | None:
        """How mail leaves, if it does."""
        ...

    @property
    def outlet(self) -> Mapping[str, Outlet]:
        """The outlets."""
        ...

    @property
    def notify(self) -> tuple[Preference, ...]:
        """The channels."""
        ...


def networks_of(settings: Settled) -> Collection[str]:
    """Return the names of all that can tell anybody something."""
    if not settings.chat and settings.mail is None and not settings.outlet:
        return ()
    mail = () if settings.mail is None else (MAIL,)
    return (*settings.chat, *mail, *settings.outlet)


def outlets_of(settings: Settled) -> Collection[str]:
    """Return the names of all outlets."""
    return settings.outlet.keys()


def check_notify(settings: Settled, spot: Spot) -> None:
    """Report channels that lead nowhere, and names that are given twice."""
    for name in settings.outlet.keys() & settings.chat.keys():
        here = spot.at("outlet").at(name)
        here.key_fault(
            f"{here.name} has the name of a chat network", "targets could not tell them apart"
        )
    for index, channel in enumerate(settings.notify):
        for place, target in enumerate(channel.to):
            fault = _target_fault(settings, target.network, target.room)
            if fault is not None:
                spots = spot.at("notify").at(index).at("to")
                here = spots.at(place) if len(channel.to) > 1 else spots
                here.fault(f"{here.name} {fault[0]}", fault[1])


def job_problems(settings: Settled, channels: Iterable[Preference]) -> Iterable[tuple[str, str]]:
    """Yield what is wrong with the channels of a job's header, and a hint."""
    for channel in channels:
        for target in channel.to:
            fault = _target_fault(settings, target.network, target.room)
            if fault is not None:
                yield f"notify: {target.text} {fault[0]}", fault[1]


def _target_fault(settings: Settled, network: str, room: str) -> tuple[str, str] | None:
    known = networks_of(settings)
    if network not in known:
        table = "[mail]" if network == MAIL else f"[chat.{network}] or [outlet.{network}]"
        meant = nearest(network, known) or f"settings.toml has no {table}"
        return (f"names {network!r}, by which nobody can be told", meant)
    if network in settings.outlet and room:
        return (f"names a room of {network!r}, which is an outlet", f"write {network} alone")
    if network not in settings.outlet and not room:
        return (f"names no room of {network!r}", f"such as {network}:#web, or {network}:@ann")
    return None


def _server(value: Any, spot: Spot) -> str:
    url = fields.text(value, spot)
    found = _SERVER.fullmatch(url)
    if found is None or int(found[3] or 1) not in range(1, 65536):
        hint = "smtp://mail.example.org:587, smtp+starttls://… or smtps://…"
        raise FieldError(f"must be the URL of a mail server, not {printed_value(url)}", hint)
    return url.rstrip("/")


def _sender(value: Any, spot: Spot) -> str:
    text = fields.text(value, spot)
    found = _SENDER.fullmatch(text)
    address = (found[1] or found[2] or "").strip() if found else ""
    if not text.isprintable() or address_fault(address):
        hint = 'such as "rota@example.org", or "rota <rota@example.org>"'
        raise FieldError(f"must be an address, not {printed_value(text)}", hint)
    return text


def _secret(value: Any, spot: Spot) -> str:
    name = fields.text(value, spot)
    if not _SECRET.fullmatch(name) or "://" in name:
        hint = "rota secret set mail-password; and its name here"
        raise FieldError("must be the name of a secret, not the secret itself", hint)
    return name


def _file(value: Any, spot: Spot) -> str:
    path = fields.text(value, spot)
    if not path.startswith("/"):
        raise FieldError(f"must be absolute, not {printed_value(path)}")
    return path


def _mail(value: Any, spot: Spot) -> Mail:
    required = ("server", "from")
    mail: Mail | None = fields.table(_MAIL, _made, required=required)(value, spot)
    if mail is None:
        raise FieldError
    if bool(mail.user) != bool(mail.password):
        missing = "password" if mail.user else "user"
        raise FieldError(f"needs {missing} as well", "password is the name of a secret")
    return mail


def _made(**values: Any) -> Mail | None:
    return Mail(**values) if values.keys() >= {"server", "sender"} else None


def _outlet(value: Any, spot: Spot) -> Outlet:
    found: Outlet | None = fields.table(_OUTLET, _made_outlet, required=("url",))(value, spot)
    if found is None:
        raise FieldError
    return found


def _made_outlet(**values: Any) -> Outlet | None:
    return Outlet(**values) if "url" in values else None


def _outlet_fault(name: str) -> str | None:
    return "cannot be an outlet: it stands for e-mail" if name == MAIL else network_fault(name)


def _outlets(value: Any, spot: Spot) -> Mapping[str, Outlet]:
    found = fields.table_of(_outlet_fault, _outlet)(value, spot)
    if len(found) > MAX_OUTLETS:
        raise FieldError(f"has {len(found)} entries, the limit is {MAX_OUTLETS}")
    return found


_MAIL = {
    "server": Field("server", _server, 'server = "smtp://mail.example.org:587"'),
    "from": Field("sender", _sender, 'from = "rota@example.org"'),
    "user": Field("user", fields.text, 'user = "rota"'),
    "password": Field("password", _secret, 'password = "mail-password", the name of a secret'),
    "ca": Field("ca", _file, 'ca = "/etc/ssl/own-ca.pem"'),
}
_OUTLET = {"url": Field("url", _secret, 'url = "pager-url", the name of a secret')}

#: What the settings say by these keys.
NOTIFY = {
    "mail": Field("mail", _mail, '[mail] with server = "smtp://mail.example.org", from'),
    "outlet": Field("outlet", _outlets, '[outlet.pager] with url = "pager-url"'),
    "notify": Field("notify", read_channels, '[[notify]] with jobs = "web/**", to = ["irc:#web"]'),
}
