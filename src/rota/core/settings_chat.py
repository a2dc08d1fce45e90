"""``[chat.NAME]`` in settings.toml: the networks on which the bot listens and speaks."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from rota.core import fields
from rota.core.fields import Field, FieldError, Spot, printed_value

#: What `tls` means, as adapters are told.
DIRECT, STARTTLS, NONE = "direct", "starttls", "none"
MAX_ROOMS = 100
_NAME = re.compile(r"[a-z][a-z0-9-]{0,29}")
_SECRET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./:-]{0,199}")
#: What prefixes of commands are made of: nothing that begins a word or a room.
_PREFIX = re.compile(r"[!$%&*+,.;:=?^~>|-]{1,3}")


class ChatNetwork(msgspec.Struct, frozen=True, kw_only=True):
    """One account of the bot on one network. What is a secret here is a secret's name."""

    kind: str  # irc, matrix, xmpp, slack, bridge
    server: str = ""  # a host; of Matrix a URL; of a bridge host:port or unix:PATH
    port: int = 0  # 0: as is usual
    tls: str = DIRECT  # true, "starttls" or false
    ca: str = ""  # a file of certificates, instead of the machine's
    nick: str = "rota"  # by which people see it, and speak to it
    account: str = ""
    device: str = "rota"  # of Matrix: the same for ever, so that nothing is said twice
    rooms: tuple[str, ...] = ()
    pace_s: float = 2.0  # pace, of IRC: so long between two lines on average
    prefix: str = "!"  # what commands begin with in rooms
    public: bool = False  # whether strangers may look
    announces: bool = False  # whether a room is told that another agent leads
    password: str = ""
    server_password: str = ""
    certificate: str = ""  # key and certificate of ours, PEM
    token: str = ""
    app_token: str = ""


#: What is the name of a secret in it.
SECRETS = ("password", "server_password", "certificate", "token", "app_token")
#: With what names of rooms on IRC begin.
_IRC_ROOMS = "#&+!"
#: Networks on which everything is said in the room itself.
THREADLESS = frozenset({"irc", "xmpp"})
_ALL = frozenset({"kind", "rooms", "prefix", "public", "announces", "nick"})
_KEYS = {
    "irc": _ALL
    | {"server", "port", "tls", "ca", "account", "pace"}
    | {"password", "server_password", "certificate"},
    "matrix": _ALL | {"server", "ca", "account", "device", "password", "token"},
    "xmpp": _ALL | {"server", "port", "tls", "ca", "account", "password"},
    "slack": _ALL | {"server", "token", "app_token"},
    "bridge": _ALL | {"server", "token"},
}
_REQUIRED = {
    "irc": ("server",),
    "matrix": ("server", "account"),
    "xmpp": ("account", "password"),
    "slack": ("token", "app_token"),
    "bridge": ("server",),
}
KINDS = tuple(_KEYS)


def chat_name_fault(name: str) -> str | None:
    """Say what is wrong with a network's name, or ``None`` if nothing is."""
    if name == "mail":
        return "cannot be a network's name: it stands for e-mail"
    if _NAME.fullmatch(name):
        return None
    return "is no name of a network: 1 to 30 small letters, digits and -, a letter first"


def _word(value: Any, spot: Spot) -> str:
    word = fields.text(value, spot)
    if not word or len(word) > 1000 or not word.isprintable() or " " in word:
        raise FieldError(f"cannot be {printed_value(word)}")
    return word


def _room(value: Any, spot: Spot) -> str:
    room = fields.text(value, spot)
    if not room.strip() or len(room) > 500 or not room.isprintable():
        raise FieldError(f"cannot be {printed_value(room)}")
    return room.strip()


def _rooms(value: Any, spot: Spot) -> tuple[str, ...]:
    found = fields.list_of(_room)(value, spot)
    if len(found) > MAX_ROOMS:
        raise FieldError(f"has {len(found)} rooms, the limit is {MAX_ROOMS}")
    return found


def _tls(value: Any, _: Spot) -> str:
    if value is True:
        return DIRECT
    if value is False:
        return NONE
    if value == STARTTLS:
        return STARTTLS
    raise FieldError(f'must be true, false or "starttls", not {printed_value(value)}')


def _secret(value: Any, spot: Spot) -> str:
    name = fields.text(value, spot)
    if not _SECRET.fullmatch(name):
        raise FieldError(
            "must be the name of a secret, not the secret itself",
            "rota secret set chat-password; and its name here",
        )
    return name


def _prefix(value: Any, spot: Spot) -> str:
    prefix = fields.text(value, spot)
    if not _PREFIX.fullmatch(prefix):
        raise FieldError(f"cannot be {printed_value(prefix)}", 'one to three signs, such as "!"')
    return prefix


def _file(value: Any, spot: Spot) -> str:
    path = fields.text(value, spot)
    if not path.startswith("/"):
        raise FieldError(f"must be absolute, not {printed_value(path)}")
    return path


_FIELDS = {
    "kind": Field("kind", fields.one_of(KINDS), 'kind = "irc"'),
    "server": Field("server", _word, 'server = "irc.example.org"'),
    "port": Field("port", fields.integer(1, 65535), "port = 6697"),
    "tls": Field("tls", _tls, 'tls = "starttls"'),
    "ca": Field("ca", _file, 'ca = "/etc/ssl/ours.pem"'),
    "nick": Field("nick", _word, 'nick = "rota"'),
    "account": Field("account", _word, 'account = "rota"'),
    "device": Field("device", _word, 'device = "rota"'),
    "rooms": Field("rooms", _rooms, 'rooms = ["#web"]'),
    "prefix": Field("prefix", _prefix, 'prefix = "!"'),
    "pace": Field("pace_s", fields.duration(0.01, 60.0), 'pace = "2s"'),
    "public": Field("public", fields.boolean, "public = true"),
    "announces": Field("announces", fields.boolean, "announces = true"),
    "password": Field("password", _secret, 'password = "chat-password", the name of a secret'),
    "server_password": Field(
        "server_password", _secret, 'server_password = "irc-server", the name of a secret'
    ),
    "certificate": Field(
        "certificate", _secret, 'certificate = "irc-certificate", the name of a secret'
    ),
    "token": Field("token", _secret, 'token = "chat-token", the name of a secret'),
    "app_token": Field("app_token", _secret, 'app_token = "slack-app", the name of a secret'),
}


def read_network(value: Any, spot: Spot) -> ChatNetwork:
    """Read one ``[chat.NAME]``; its kind is its name where it says nothing else."""
    if type(value) is not dict:
        raise FieldError(f"must be a table, not {fields.type_name(value)}")
    kind = value.get("kind", spot.path[-1])
    if kind not in KINDS:
        if "kind" not in value:
            raise FieldError("needs kind", fields.one_of_hint(KINDS))
        kind = ""
    of_kind = {key: it for key, it in _FIELDS.items() if not kind or key in _KEYS[kind]}
    before = len(spot.problems)
    values = fields.read_table(value, spot, of_kind)
    for key in _REQUIRED.get(kind, ()):
        if key not in value:
            spot.fault(f"{spot.name} needs {key}", f"such as {_FIELDS[key].example}")
    if kind == "matrix" and not {"password", "token"} & value.keys():
        spot.fault(f"{spot.name} needs token or password", f"such as {_FIELDS['token'].example}")
    if kind == "irc":
        for number, room in enumerate(values.get("rooms", ()), 1):
            if room[0] not in _IRC_ROOMS or "," in room or len(room.split()) > 2:
                fault = f"{spot.name}.rooms[{number}] cannot be {printed_value(room)}"
                spot.fault(fault, 'one room, and its key if it has one: "#web", "#ops KEY"')
    if len(spot.problems) > before:
        raise FieldError
    return ChatNetwork(**{**values, "kind": kind})


#: What the settings say by this key.
CHAT = {
    "chat": Field(
        "chat",
        fields.table_of(chat_name_fault, read_network),
        '[chat.irc] with server, nick, rooms = ["#web"]',
    )
}
