"""The first lines of a connection, as servers of many kinds answer them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.adapters.irc import handshake as module
from rota.adapters.irc import sasl
from rota.adapters.irc.handshake import Handshake, Login
from rota.adapters.irc.lines import Line, parse
from rota.adapters.irc.own_nick import OwnNick, alternatives
from rota.adapters.irc.sasl import SaslError


def begun(**login: object) -> Handshake:
    shake = Handshake(Login(nick="rota", **login), alternatives("rota"))  # type: ignore[arg-type]
    assert [line.command for line in shake.begin()][-2:] == ["NICK", "USER"]
    return shake


def told(shake: Handshake, *raw: str) -> list[str]:
    found: list[str] = []
    for text in raw:
        line = parse(text.encode())
        assert line is not None
        found += [bytes(it).decode().rstrip() for it in shake.take(line)]
    return found


def test_a_server_of_old_knows_no_capabilities() -> None:
    shake = begun(account="rota", password="pw")
    assert told(shake, ":s 421 rota CAP :Unknown command", ":s 001 rota :Welcome") == []
    assert shake.is_welcome
    assert shake.no_account == "the server has no SASL, so nobody can log in"


def test_a_list_of_capabilities_in_several_lines_is_asked_for_once() -> None:
    shake = begun()
    assert told(shake, ":s CAP * LS * :batch sasl=PLAIN", ":s CAP * LS :server-time x/y") == [
        "CAP REQ :batch server-time"
    ]
    assert told(shake, ":s CAP * ACK :batch server-time") == ["CAP END"]
    assert shake.enabled == {"batch", "server-time"}


def test_what_is_refused_together_is_asked_for_one_by_one() -> None:
    shake = begun()
    told(shake, ":s CAP * LS :batch server-time")
    assert told(shake, ":s CAP * NAK :batch server-time") == [
        "CAP REQ batch",
        "CAP REQ server-time",
    ]
    assert told(shake, ":s CAP * ACK :batch", ":s CAP * NAK :server-time") == ["CAP END"]
    assert shake.enabled == {"batch"}


def test_what_a_server_can_later_is_asked_for_and_what_it_cannot_is_forgotten() -> None:
    shake = begun()
    told(shake, ":s CAP * LS :batch", ":s CAP * ACK :batch", ":s 001 rota :Welcome")
    assert told(shake, ":s CAP rota NEW :echo-message") == ["CAP REQ echo-message"]
    assert told(shake, ":s CAP rota ACK :echo-message") == []
    told(shake, ":s CAP rota DEL :batch")
    assert shake.enabled == {"echo-message"}


def test_plain_is_said_and_a_wrong_password_told() -> None:
    shake = begun(account="bot", password="pw")
    told(shake, ":s CAP * LS :sasl=PLAIN", ":s CAP * ACK :sasl")
    secret = base64.b64encode(b"bot\0bot\0pw").decode()
    assert told(shake, "AUTHENTICATE +") == [f"AUTHENTICATE {secret}"]
    assert told(shake, ":s 904 rota :SASL authentication failed") == ["CAP END"]
    assert shake.is_wrong_login
    assert shake.no_account == "the server refuses the login: SASL authentication failed"


def test_a_long_password_goes_in_pieces() -> None:
    assert [len(it) for it in sasl.pieces(b"x" * 700)] == [400, 400, 136]
    assert sasl.pieces(b"x" * 300) == [base64.b64encode(b"x" * 300).decode(), "+"]
    assert sasl.pieces(b"") == ["+"]


@pytest.mark.parametrize(
    ("offered", "password", "certificate", "chosen"),
    [
        (["PLAIN", "SCRAM-SHA-256", "EXTERNAL"], True, False, "SCRAM-SHA-256"),
        (["PLAIN", "EXTERNAL"], True, True, "PLAIN"),
        (["PLAIN", "EXTERNAL"], False, True, "EXTERNAL"),
        (["ECDSA-NIST256P-CHALLENGE"], True, False, ""),
        ([], True, False, "PLAIN"),
    ],
)
def test_the_best_mechanism_is_chosen(
    offered: list[str], password: bool, certificate: bool, chosen: str
) -> None:
    assert sasl.choose(offered, has_password=password, has_certificate=certificate) == chosen


def test_scram_says_what_rfc_7677_has() -> None:
    talk = sasl.exchange("SCRAM-SHA-256", "user", "pencil", nonce="rOprNGfwEbeRWgbNEkqO")
    server_first = (
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    )
    assert sasl.answer(talk, "") == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert sasl.answer(talk, base64.b64encode(server_first.encode()).decode()) == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    final = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    assert sasl.answer(talk, base64.b64encode(final).decode()) == b""


@pytest.mark.parametrize(
    ("first", "why"),
    [
        (b"r=other,s=AAAA,i=4096", "right mind"),
        (b"r=nonce1,s=AAAA,i=100000000", "right mind"),
        (b"r=nonce1,i=4096", "nonsense"),
        (b"\xff\xfe", "nonsense"),
    ],
)
def test_a_server_that_is_not_honest_gets_no_proof(first: bytes, why: str) -> None:
    talk = sasl.exchange("SCRAM-SHA-256", "user", "pencil", nonce="nonce")
    sasl.answer(talk, "")
    with pytest.raises(SaslError, match=why):
        sasl.answer(talk, base64.b64encode(first).decode())


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    talk = sasl.exchange("SCRAM-SHA-256", "user", "pencil", nonce="nonce")
    sasl.answer(talk, "")
    sasl.answer(talk, base64.b64encode(b"r=nonce1,s=AAAA,i=1").decode())
    forged = base64.b64encode(hmac.digest(b"x", b"y", hashlib.sha256))
    with pytest.raises(SaslError, match="does not know the password"):
        sasl.answer(talk, base64.b64encode(b"v=" + forged).decode())


def test_services_that_do_not_answer_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    shake = begun(account="bot", password="pw")
    told(shake, ":s CAP * LS :sasl=PLAIN", ":s CAP * ACK :sasl")
    assert list(shake.due(100.0)) == []
    assert list(shake.due(100.0 + module.SASL_S)) == []
    late = [bytes(it) for it in shake.due(101.0 + module.SASL_S)]
    assert late == [b"AUTHENTICATE *\r\n", b"CAP END\r\n"]
    told(shake, ":s 001 rota :Welcome")
    assert shake.no_account == "the services do not answer"
    again = [bytes(it) for it in shake.due(102.0 + module.SASL_S + module.AGAIN_S)]
    assert again == [b"AUTHENTICATE PLAIN\r\n"]


def test_a_taken_nick_is_another_and_a_strange_one_a_fault() -> None:
    shake = begun()
    assert told(shake, ":s 433 * rota :in use", ":s 433 * rota-2 :in use") == [
        "NICK rota-2",
        "NICK rota-3",
    ]
    shake = begun()
    told(shake, *[f":s 432 * rota :Erroneous {number}" for number in range(3)])
    assert shake.fault == "'rota' is no nick here: Erroneous 2"


@given(st.text(alphabet="abc", min_size=1, max_size=30))
def test_alternatives_are_many_and_no_longer_than_servers_take(nick: str) -> None:
    found = list(itertools.islice(alternatives(nick), 20))
    assert found[0] == nick
    assert len(set(found)) == 20
    assert all(len(it) <= max(len(nick), 9) for it in found)


def own(now: float = 0.0, current: str = "rota-2") -> OwnNick:
    nick = OwnNick("rota", str.lower)
    nick.current = current
    return nick


def sent(lines: object) -> list[str]:
    return [bytes(it).decode().rstrip() for it in lines]  # type: ignore[attr-defined]


def heard(nick: OwnNick, raw: str, now: float = 0.0) -> list[str]:
    line = parse(raw.encode())
    assert isinstance(line, Line)
    return sent(nick.take(line, now))


def test_the_nick_is_taken_when_its_holder_is_seen_to_leave() -> None:
    assert heard(own(), ":ROTA!x@y QUIT :bye") == ["NICK rota"]
    assert heard(own(), ":rota!x@y NICK other") == ["NICK rota"]
    assert heard(own(), ":s 731 rota-2 :rota!x@y") == ["NICK rota"]
    assert heard(own(), ":s 303 rota-2 :") == ["NICK rota"]
    assert heard(own(), ":s 303 rota-2 :Rota") == []
    assert heard(own(current="rota"), ":s 303 rota :") == []


def test_services_are_asked_a_few_times_and_then_the_nick_is_waited_for() -> None:
    nick, now = own(), 0.0
    said = []
    for _ in range(6):
        said += sent(nick.due(now, is_logged_in=True, can_monitor=True))
        now += 1000
    assert said == [
        "MONITOR + rota",
        "PRIVMSG NickServ :REGAIN rota",
        "PRIVMSG NickServ :GHOST rota",
        "PRIVMSG NickServ :REGAIN rota",
        "PRIVMSG NickServ :GHOST rota",
        "ISON rota",
        "ISON rota",
    ]
    assert sent(nick.due(now - 999, is_logged_in=True, can_monitor=True)) == []


def test_who_renames_us_is_not_fought_at_once() -> None:
    nick = own(current="rota")
    assert heard(nick, ":rota!x@y NICK Guest1", now=50.0) == []
    assert sent(nick.due(51.0, is_logged_in=False, can_monitor=False)) == []
    assert sent(nick.due(90.0, is_logged_in=False, can_monitor=False)) == ["ISON rota"]
