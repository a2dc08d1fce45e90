"""Mail over a real SMTP server: with TLS and a password, refusals for now and for ever, lost answers."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.harness.certificates import authority
from tests.harness.mail_server import MailServer, mail_server

from rota.adapters import mail as module
from rota.adapters.mail import MailNetwork
from rota.errors import InputError, LaterError
from rota.ports.networks import Saying

SAYING = Saying(
    id="ab12-cd",
    room="ann@example.org",
    thread="lane-x",
    text="web#7 failed: exit code 2\nagain: rota retry web#7",
    code="one\ntwo  columns",
    link="https://ci.example/v1/builds/b7",
    subject="web#7 failed: exit code 2",
)


def network(server: MailServer, scheme: str = "smtp", **more: Any) -> MailNetwork:
    url = f"{scheme}://127.0.0.1:{server.port}"
    return MailNetwork("mail", server=url, sender="rota <rota@ci.example>", **more)


async def test_what_a_mail_looks_like() -> None:
    async with mail_server() as server:
        mail = network(server)
        said = await mail.say(SAYING)
        assert await mail.was_said(SAYING) is None
        assert mail.trouble == ""
    [message] = server.taken
    assert said.id == message["Message-ID"] == "<ab12-cd@ci.example>"
    assert message["From"] == "rota <rota@ci.example>"
    assert message["To"] == "ann@example.org"
    assert message["Subject"] == "web#7 failed: exit code 2"
    assert message["References"] == message["In-Reply-To"] == "<lane-x@ci.example>"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["List-Id"] == "<rota.ci.example>"
    assert message.get_content().replace("\r\n", "\n") == (
        "web#7 failed: exit code 2\nagain: rota retry web#7\n\n    one\n    two  columns\n\n"
        "https://ci.example/v1/builds/b7\n"
    )


async def test_no_header_and_no_address_can_be_brought_in() -> None:
    evil = Saying(
        id="x",
        room="ann@example.org",
        thread="t\r\nBcc: eve@example.org",
        subject="hi\r\nBcc: eve@example.org\n\nbody \ud800 \x00",
        text="line\r\n.\r\nMAIL FROM:<eve@example.org>\r\n\ud800" + "x" * 5000,
    )
    async with mail_server() as server:
        mail = network(server)
        await mail.say(evil)
        for room in ("a@b.example\r\nRCPT TO:<c@d>", "a@b, c@d", "a", "<a@b>", "a@b>", ""):
            with pytest.raises(InputError, match="is no address"):
                await mail.say(Saying(id="y", room=room))
    [message] = server.taken
    assert "Bcc" not in message
    assert message["Subject"] == "hi  Bcc: eve@example.org  body"
    assert "MAIL FROM:<eve@example.org>" in message.get_content()


async def test_encrypted_and_with_a_password(tmp_path: Path) -> None:
    ca = authority()
    (tmp_path / "ca.pem").write_text(ca.pem)
    own = {"ca": str(tmp_path / "ca.pem"), "user": "rota", "password": "s3cret"}
    tls = ca.server(tmp_path)
    async with mail_server(tls=tls) as server:
        server.password = "s3cret"
        await network(server, "smtps", **own).say(SAYING)
        assert server.logins == [("rota", "s3cret")]
        with pytest.raises(LaterError, match="does not let rota in: 535"):
            await network(server, "smtps", **{**own, "password": "wrong"}).say(SAYING)
    async with mail_server(starttls=tls) as server:
        server.password = "s3cret"
        for scheme in ("smtp", "smtp+starttls"):
            await network(server, scheme, **own).say(SAYING)
        assert server.was_tls == [True, True]
        with pytest.raises(LaterError, match=r"cannot be used: .*certificate"):
            await network(server, "smtp").say(SAYING)
        with pytest.raises(LaterError, match="certificates of /nowhere"):
            await network(server, "smtp", ca="/nowhere").say(SAYING)


async def test_a_password_is_not_sent_in_the_clear() -> None:
    async with mail_server() as server:
        for scheme in ("smtp", "smtp+plain"):
            with pytest.raises(LaterError, match="does not encrypt: the password is not sent"):
                await network(server, scheme, user="rota", password="s3cret").say(SAYING)
        with pytest.raises(LaterError, match="cannot be used"):
            await network(server, "smtp+starttls").say(SAYING)
        assert not server.logins
        assert not server.taken


async def test_greylisting_and_refusals() -> None:
    async with mail_server() as server:
        mail = network(server)
        server.at_rcpt = ["451 4.7.1 greylisted, come back", "550 5.1.1 no such user"]
        with pytest.raises(
            LaterError, match=r"ann@example\.org: 451 4\.7\.1 greylisted, come back"
        ):
            await mail.say(SAYING)
        with pytest.raises(InputError, match=r"ann@example\.org: 550 5\.1\.1 no such user"):
            await mail.say(SAYING)
        server.at_data = ["452 disk full", "554 looks like spam"]
        with pytest.raises(LaterError, match="does not take the mail: 452 disk full"):
            await mail.say(SAYING)
        with pytest.raises(InputError, match="does not take the mail: 554 looks like spam"):
            await mail.say(SAYING)
        await mail.say(SAYING)
        assert len(server.taken) == 1


async def test_an_answer_that_is_lost_leaves_it_open_whether_it_was_taken() -> None:
    async with mail_server() as server:
        mail = network(server)
        server.at_data = ["drop"]
        with pytest.raises(LaterError, match=r"it is not known whether .* took the mail"):
            await mail.say(SAYING)
        await mail.say(SAYING)
        assert server.ids == {"<ab12-cd@ci.example>": 2}, "whoever has both can tell they are one"


async def test_a_server_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WITHIN_S", 0.2)
    never = asyncio.Event()

    async def hang() -> str:
        await never.wait()
        return "250 late"

    async with mail_server() as server:
        server.at_rcpt = [hang]
        with pytest.raises(
            LaterError, match=r"did not answer within 0.2 s|cannot be used|Timed out"
        ):
            await network(server).say(SAYING)
        never.set()


async def test_where_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        mail = MailNetwork("mail", server=f"smtp://127.0.0.1:{port}", sender="rota@ci.example")
        with pytest.raises(LaterError, match=f"127.0.0.1:{port} cannot be used"):
            await mail.say(SAYING)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(InputError, match="'http://x' is no mail server"):
        MailNetwork("mail", server="http://x", sender="a@b.example")
    with pytest.raises(InputError, match="mail: 'nobody' is no address"):
        MailNetwork("mail", server="smtp://x", sender="nobody")
