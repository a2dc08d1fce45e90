"""``[chat.NAME]``: what it takes, and what it says about what it does not."""

import pytest

from rota.core.settings import parse_settings
from rota.core.settings_chat import ChatNetwork


def problems(text: str) -> list[str]:
    """Return what is wrong with settings, with hints."""
    found = parse_settings(text)[1]
    return [f"{it.line}:{it.column} {it.message}; {it.hint}" for it in found]


def test_networks_are_read_and_their_kind_is_their_name() -> None:
    text = """
[chat.irc]
server = "irc.example.org"
tls = "starttls"
rooms = ["#web", "#ops key"]
pace = "500ms"
password = "chat-irc"

[chat.team]
kind = "matrix"
server = "https://matrix.example.org"
account = "@rota:example.org"
token = "matrix"
public = true
"""
    settings, faults = parse_settings(text)
    assert faults == ()
    assert settings.chat == {
        "irc": ChatNetwork(
            kind="irc",
            server="irc.example.org",
            tls="starttls",
            rooms=("#web", "#ops key"),
            pace_s=0.5,
            password="chat-irc",
        ),
        "team": ChatNetwork(
            kind="matrix",
            server="https://matrix.example.org",
            account="@rota:example.org",
            token="matrix",
            public=True,
        ),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[chat.team]", "chat.team needs kind; known: irc, matrix, xmpp, slack, bridge"),
        ('[chat.team]\nkind = "irk"', "chat.team.kind cannot be 'irk'; did you mean 'irc'?"),
        ("[chat.irc]", 'chat.irc needs server; such as server = "irc.example.org"'),
        ('[chat.irc]\nserver = "a"\ntoken = "x"', "unknown key chat.irc.token"),
        ('[chat.irc]\nserver = "a"\ntls = "yes"', "chat.irc.tls must be true, false or"),
        ('[chat.irc]\nserver = "a"\npassword = "s3cr et!"', "must be the name of a secret, not"),
        ('[chat.irc]\nserver = "a"\nprefix = "run"', "chat.irc.prefix cannot be 'run'; one to"),
        ('[chat.irc]\nserver = "a"\nport = 0', "chat.irc.port must be between 1 and 65535"),
        ('[chat.irc]\nserver = "a"\nrooms = ["a\\u0007"]', "chat.irc.rooms[1] cannot be"),
        (
            '[chat.irc]\nserver = "a"\nrooms = ["#a", "web"]',
            "chat.irc.rooms[2] cannot be 'web'; one",
        ),
        ('[chat.irc]\nserver = "a"\nrooms = ["#a,#b"]', "chat.irc.rooms[1] cannot be '#a,#b'; one"),
        ('[chat.irc]\nserver = "a"\npace = "1h"', "chat.irc.pace must be at most 1m, not '1h'"),
        ('[chat.irc]\nserver = "a"\nca = "x.pem"', "chat.irc.ca must be absolute, not 'x.pem'"),
        ('[chat.mail]\nkind = "irc"', "chat.mail cannot be a network's name: it stands for"),
        ('[chat.Team]\nkind = "irc"', "chat.Team is no name of a network"),
        (
            '[chat.matrix]\nserver = "https://a"\naccount = "@a:b"',
            "chat.matrix needs token or password",
        ),
        ("chat = 1", "chat must be a table"),
    ],
)
def test_what_cannot_be_is_said_with_its_place(text: str, said: str) -> None:
    found = problems(text)
    assert any(said in it for it in found), found
    assert parse_settings(text)[0].chat == {}
