"""What outsiders' bytes are read by: each target takes any bytes, and raises only where there is a fault.

``RotaError`` is an answer. Anything else that a target raises, or fails to hold, is found by
``python -m tests.fuzz`` (led by coverage, for minutes) or by ``tests/property/test_hostile.py`` (by chance).
"""

from __future__ import annotations

import contextlib
import json
import re
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from slixmpp import JID, Message

from rota.adapters.bridge import read_line
from rota.adapters.irc.lines import parse
from rota.adapters.irc.texts import harmless, plain
from rota.adapters.matrix import events as matrix
from rota.adapters.reports.casefile import read_cases, read_run
from rota.adapters.slack import messages as slack
from rota.adapters.xmpp import stanzas as xmpp
from rota.cli.line import steps, typing_at_end, words
from rota.cli.logview import LogView
from rota.client.place import parse_place
from rota.core import webhook
from rota.core.address import parse_address
from rota.core.calendar_file import parse_calendar
from rota.core.certificate import certificates, read_certificate
from rota.core.chat_words import command_in, first_word, quoted
from rota.core.cluster import Cluster, decode_picture, encode_picture
from rota.core.codec import decode, encode
from rota.core.coverage import format_of, parser_of
from rota.core.cron import CronError, parse_cron
from rota.core.definition_file import parse_file
from rota.core.durations import parse_duration
from rota.core.events import Unknown
from rota.core.fold import apply
from rota.core.header import parse_header
from rota.core.hook import parse_hook
from rota.core.ids import parse_build_ref, parse_job_name
from rota.core.join_token import parse_join_token
from rota.core.junit import JunitParser
from rota.core.labels import parse_labels, print_labels
from rota.core.masks import Masks
from rota.core.paused import parse_paused
from rota.core.payload import is_ping, read_changes, read_lines
from rota.core.problem import Problem
from rota.core.promotions import parse_promotion
from rota.core.records import decode as decode_record
from rota.core.schedules import decode_notes
from rota.core.secrets import parse_secret
from rota.core.settings import parse_settings
from rota.core.sizes import parse_size
from rota.core.tap import TapParser
from rota.core.targets import parse_target
from rota.core.users import parse_user
from rota.core.watches import parse_adopted, parse_watch
from rota.core.workflow import Scanner
from rota.core.xml_reading import ReportError
from rota.errors import RotaError
from rota.http.arguments import read as read_arguments
from rota.service.verbs import VERBS

SECRET = "s3cret"
HEAD = "#!/bin/sh\n# /// script\n# [tool.rota]\n# "


class Target(NamedTuple):
    """A target, and some input that reaches far into it: what is fuzzed begins there."""

    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]
    #: Words that mean something there, for the fuzzer's dictionary.
    words: tuple[str, ...] = ()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape" if data[:1] == b"\xff" else "replace")


def _shown(problems: tuple[Problem, ...]) -> None:
    """Whoever is told of a fault can print it."""
    for problem in problems:
        assert problem.message
        str(problem).encode()


def _header(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for script in (text, HEAD + text.replace("\n", "\n# ") + "\n# ///\n"):
        job, problems = parse_header(script, name="a/b", path="jobs/a/b")
        assert (job is None) == bool(problems)
        _shown(problems)


def _labels(data: bytes) -> None:
    expression, faults = parse_labels(data.decode("utf-8", "replace"))
    if expression is not None and not faults:
        printed = print_labels(expression)
        again, faults = parse_labels(printed)
        assert not faults
        assert again is not None
        assert print_labels(again) == printed


def _event(data: bytes) -> None:
    event = decode(data)
    raw = encode(event)
    assert raw == data or decode(raw) == event
    if isinstance(event, Unknown):
        assert raw == data


def _fold(data: bytes) -> None:
    one, other = Cluster(), Cluster()
    for seq, line in enumerate(data.split(b"\n")[:40], 1):
        apply(one, seq, decode(line))
        apply(other, seq, decode(encode(decode(line))))
    packed = encode_picture(one)
    assert packed == encode_picture(other)
    again = decode_picture(packed)
    assert again is not None
    assert encode_picture(again) == packed


def _picture(data: bytes) -> None:
    cluster = decode_picture(data)
    if cluster is not None:
        encode_picture(cluster)


def _log(data: bytes) -> None:
    """A log fed in pieces is the log fed at once."""
    masks, whole = Masks(), Scanner(masks=Masks())
    whole.feed(data)
    whole.finish()
    pieces = Scanner(masks=masks)
    size, start = (data[0] % 61 + 1 if data else 1), 0
    while start < len(data):
        pieces.feed(data[start : start + size])
        assert 0 <= pieces.safe_end <= pieces.end
        start += size
    pieces.finish()
    assert pieces.shown_annotations() == whole.shown_annotations()
    assert pieces.shown_steps() == whole.shown_steps()
    assert masks.values == whole.masks.values
    assert len(masks.apply(data)) == len(data)


#: What a terminal may be sent of a log: text, tabs, ends of lines and colours.
_HARMLESS = re.compile(r"\x1b\[[0-9;:]*m")


def _view(data: bytes) -> None:
    for color in (True, False):
        view, out, size = LogView(color=color), "", (data[0] % 17 + 1 if data else 1)
        for start in range(0, len(data), size):
            out += view.feed(data[start : start + size])
        out += view.finish()
        rest = _HARMLESS.sub("", out) if color else out
        odd = {it for it in rest if unicodedata.category(it) == "Cc"} - set("\n\r\t")
        assert not odd, odd


def _irc(data: bytes) -> None:
    line = parse(data)
    if line is not None:
        assert not set(line.command) & set("\r\n\0")
        assert "\n" not in harmless(plain(line.text)).replace("\n", " ")
        with contextlib.suppress(ValueError):
            assert bytes(line).count(b"\n") == 1


def _chat(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    command = command_in(text, prefix="!", nick="rota", is_direct=bool(len(data) % 2))
    if command is None:
        return
    assert "\n" not in command
    first_word(command)
    with contextlib.suppress(RotaError):
        words(command)
    with contextlib.suppress(RotaError):
        assert words(quoted(command)) == [command]


def _line(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(RotaError):
        steps(text)
    typing_at_end(text)


def _json(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _slack(data: bytes) -> None:
    message = _json(data)
    text = slack.text_of(message, "U1", "rota")
    assert text is None or isinstance(text, str)
    slack.said_id(message)
    slack.thread_of(message)
    slack.nick_of(message)
    slack.instant(str(message.get("ts")))


def _matrix(data: bytes) -> None:
    event = _json(data)
    text = matrix.text_of(event)
    assert text is None or isinstance(text, str)
    matrix.mark_of(event)
    matrix.thread_of(event)
    matrix.instant(event)
    matrix.is_encrypted(event)
    matrix.since_entering([event, event], "@rota:x")


def _xmpp(data: bytes) -> None:
    """A stanza that a server passed on: it is XML by then, and anything else that somebody likes."""
    try:
        element = ET.fromstring(data)
    except (ET.ParseError, ValueError, LookupError, RecursionError):
        return  # slixmpp reads by the same parser, and ends the connection
    message = Message(xml=element)  # type: ignore[no-untyped-call]
    room = JID("room@conference.example")
    for name in (xmpp.id_of(message, room), xmpp.archived(room, str(message["id"]))):
        assert re.fullmatch("[0-9a-f]{32}", name)
    since = xmpp.delayed(message)
    assert since is None or since.tzinfo is not None
    assert isinstance(xmpp.is_whispered(message), bool)
    assert "/" not in xmpp.archived_writer(message)
    with contextlib.suppress(RotaError):
        assert xmpp.address(message["body"], "a room").user


def _bridge(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        line = read_line(data)
        assert line.heard is None or isinstance(line.heard.position, str)


FORGES = (
    ("github", "push"),
    ("github", "delete"),
    ("github", "pull_request"),
    ("gitea", "push"),
    ("gitlab", "Push Hook"),
    ("gitlab", "Tag Push Hook"),
    ("gitlab", "Merge Request Hook"),
    ("bitbucket", "repo:push"),
    ("bitbucket", "pullrequest:created"),
    ("bitbucket-server", "repo:refs_changed"),
    ("bitbucket-server", "pr:opened"),
)


def _payload(data: bytes) -> None:
    body = _json(data)
    for forge, event in FORGES:
        with contextlib.suppress(RotaError):
            for moved in read_changes(forge, event, body) or ():
                assert not set(moved.ref) & set("\0\n ")
                msgspec.json.encode(moved)
        is_ping(forge, event, body)
    with contextlib.suppress(RotaError):
        read_lines(data.decode("utf-8", "replace"), "git.example/web", "ann")


def _signature(data: bytes) -> None:
    """No header is believed that was not made with the secret."""
    head, _, body = data.partition(b"\n\n")
    headers: dict[str, list[str]] = {}
    for line in head.decode("utf-8", "replace").split("\n"):
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), []).append(value.strip())
    try:
        webhook.identify("x", headers, body, SECRET, 1_800_000_000.0)
    except RotaError:
        return
    # The only way in is the secret itself, as GitLab sends it.
    assert SECRET in data.decode("utf-8", "replace")


def _toml(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    _, problems = parse_settings(text)
    _shown(problems)
    _shown(parse_user(text, "users/ann.toml")[-1])
    _shown(parse_hook(text, "hooks/x.toml")[-1])
    _shown(parse_watch(text, "watches/x.toml")[-1])
    _shown(parse_paused(text, "paused.toml")[-1])
    _shown(parse_secret(text, "secrets/x.toml")[-1])
    _shown(parse_calendar(text, "calendars/x.toml")[-1])
    parse_promotion(data)
    parse_adopted(data)


#: Paths of definitions: what a push may bring.
PATHS = (
    "jobs/a/b",
    "settings.toml",
    "users/ann.toml",
    "calendars/x.toml",
    "calendars/x.ics",
    "hooks/x.toml",
    "watches/x.toml",
    "paused/x.toml",
    "secrets/x.toml",
    "secrets/x.age",
    "promoted/a/v1.json",
)


def _definition(data: bytes) -> None:
    for path in PATHS:
        parse_file(path, "0" * 40, data)


def _cron(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(CronError):
        parse_cron(text, "a/b")
    parse_duration(text)
    parse_size(text)


def _small(data: bytes) -> None:
    """What is one word: names, addresses, tokens."""
    text = _text(data)
    readers: tuple[Callable[[str], object], ...] = (
        parse_address,
        parse_job_name,
        parse_build_ref,
        parse_join_token,
        parse_target,
        lambda it: parse_place(it, "$ROTA_URL"),
    )
    for read in readers:
        try:
            read(text)
        except RotaError as error:
            error.message.encode("utf-8", "surrogateescape")


def _certificate(data: bytes) -> None:
    with contextlib.suppress(RotaError):
        read_certificate(data)
    with contextlib.suppress(RotaError):
        certificates(data)


def _junit(data: bytes) -> None:
    cases: list[object] = []
    for size in (len(data) or 1, 7):
        parser = JunitParser(cases.append)
        with contextlib.suppress(ReportError):
            for start in range(0, len(data), size):
                parser.feed(data[start : start + size])
            parser.finish()


def _tap(data: bytes) -> None:
    one: list[object] = []
    other: list[object] = []
    for cases, size in ((one, len(data) or 1), (other, 5)):
        parser = TapParser(cases.append, "x")
        for start in range(0, len(data), size):
            parser.feed(data[start : start + size])
        parser.finish()
    assert one == other


def _coverage(data: bytes) -> None:
    known = format_of(data[:1000])
    for name in {known, "cobertura", "jacoco", "clover", "lcov", "go", "json"} - {""}:
        parser = parser_of(name)
        with contextlib.suppress(ReportError):
            parser.feed(data)
            parser.finish()


def _stored(data: bytes) -> None:
    """What this agent reads from its own disk, or from the engine: broken is not there."""
    decode_record(data)
    decode_notes(data)
    with contextlib.suppress(ValueError):
        read_cases(data, lambda _: True, bad=False, limit=10)
    with contextlib.suppress(ValueError):
        read_run(data)


def _rest(data: bytes) -> None:
    body = _json(data)
    for verb in VERBS:
        for strict in (True, False):
            with contextlib.suppress(RotaError):
                read_arguments(verb.request, dict(body), strict=strict)


_AT = datetime(2026, 11, 28, tzinfo=UTC).isoformat()
_EVENTS = "\n".join(
    json.dumps({"v": 1, "at": _AT, "by": "a", **it})
    for it in (
        {"kind": "agent.started", "agent": "a", "labels": {"x": ""}, "slots": 2, "version": "1"},
        {
            "kind": "build.requested",
            "build": "aaaaaaaaaaaaaaaa",
            "job": "j",
            "number": 1,
            "commit": "0" * 40,
            "script": "0" * 40,
            "spec": {"labels": "x"},
        },
        {"kind": "build.started", "build": "aaaaaaaaaaaaaaaa", "agent": "a", "attempt": 1},
        {
            "kind": "build.finished",
            "build": "aaaaaaaaaaaaaaaa",
            "agent": "a",
            "attempt": 1,
            "reason": "script",
            "exit_code": 0,
        },
        {"kind": "history.sealed", "builds": ["aaaaaaaaaaaaaaaa"], "through": 4, "commit": ""},
    )
).encode()
_PUSH = {
    "ref": "refs/heads/main",
    "before": "0" * 40,
    "after": "1" * 40,
    "forced": False,
    "commits": [{"id": "1" * 40, "added": ["a"], "modified": [], "removed": [], "message": "m"}],
    "repository": {"clone_url": "https://git.example/web.git", "ssh_url": "git@git.example:web"},
    "project": {"git_http_url": "https://git.example/web.git", "id": 1},
    "object_kind": "push",
    "pull_request": {"number": 1, "head": {"sha": "1" * 40, "ref": "x"}, "base": {"ref": "main"}},
    "action": "opened",
    "changes": [{"ref": {"id": "refs/heads/main"}, "fromHash": "0" * 40, "toHash": "1" * 40}],
    "push": {"changes": [{"new": {"name": "main", "target": {"hash": "1" * 40}}, "old": None}]},
}
_SIGNED = b"X-GitHub-Event: push\nX-Hub-Signature-256: sha256=" + b"0" * 64 + b"\n\n{}"

TARGETS: Mapping[str, Target] = {
    "header": Target(
        _header,
        (
            (b'labels = "linux && !arm"\ntimeout = "20m"\non = [{ cron = "H 2 * * *" }, { push = "main" }]\n'
            b'[params]\nsuite = { default = "fast", choices = ["fast", "full"] }'),
            b'retry = { times = 2, on = ["lost"] }\nmatrix = { axes = { a = [1, 2] } }\nneeds = ["x"]',
            b'image = "debian:12"\nscm = { git = "https://git.example/web.git" }\nsecrets = ["TOKEN"]',
        ),
        ("labels", "timeout", "on", "params", "matrix", "needs", "image", "scm", "secrets", "env",
         "retry", "concurrency", "limits", "resources", "isolation", "reports", "artifacts", "cache"),
    ),
    "labels": Target(_labels, (b"linux && !(arm || gpu=a100)", b"a || b && c"), ("&&", "||", "!", "=")),
    "event": Target(_event, tuple(_EVENTS.split(b"\n")), ('"kind"', '"at"', '"v"')),
    "fold": Target(_fold, (_EVENTS,), ("build.requested", "build.cancelled", "build.retried",
                   "leader.elected", "agent.lost", "build.held", "voter.appointed")),
    "picture": Target(_picture, (encode_picture(Cluster()),)),
    "log": Target(
        _log,
        (b"::group::a\nx\n::endgroup::\n::add-mask::hunter22\nhunter22 aHVudGVyMjI=\n",
         b"::error file=a,line=3::boom %0A\n::metric name=x::3\n##[group]x\n"),
        ("::error ", "::add-mask::", "::group::", "::endgroup::", "::step::", "%0A", "\x1b[31m"),
    ),
    "view": Target(_view, (b"\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J ::error::x\n", b"\x1bP q\x1b\\")),
    "irc": Target(_irc, (b"@time=x;a=b\\s :ann!u@h PRIVMSG #web :!status \x02b\x03", b"PING :x")),
    "chat": Target(_chat, (b"!run web x=1", b"rota: status 'a b' \"c\"", b"@rota, builds")),
    "line": Target(_line, (b"run web x='a b' && builds; log \\\n web#1", b"run \"we")),
    "slack": Target(_slack, (b'{"type":"message","user":"U2","text":"<@U1> <http://a|a> &lt;","ts":"1.2"}',)),
    "matrix": Target(
        _matrix,
        ((b'{"type":"m.room.message","content":{"msgtype":"m.text","body":"> <@a:b> x\\n\\ny",'
         b'"m.relates_to":{"rel_type":"m.thread","event_id":"$1","m.in_reply_to":{}}},"origin_server_ts":1}'),),
        ("m.relates_to", "m.replace", "m.new_content", "m.notice"),
    ),
    "xmpp": Target(
        _xmpp,
        ((b'<message xmlns="jabber:client" type="groupchat" from="room@conference.example/ann" id="1"><body>!run</body>'
         b'<stanza-id xmlns="urn:xmpp:sid:0" id="7" by="room@conference.example"/>'
         b'<delay xmlns="urn:xmpp:delay" stamp="2026-11-28T10:00:00Z"/>'
         b'<x xmlns="http://jabber.org/protocol/muc#user"><item jid="ann@example.org/phone"/></x></message>'),
         b'<message xmlns="jabber:client" from="a..b@x y/n" id="1"><body>x</body></message>'),
        ("stanza-id", "urn:xmpp:delay", "stamp=", "jid=", "<item", "xmlns="),
    ),
    "bridge": Target(
        _bridge,
        (b'{"hello":{}}', b'{"heard":{"id":"1","room":"a","who":"b","nick":"b","text":"x","position":"1"}}',
         b'{"n":1,"said":{}}', b'{"n":1,"later":1.5,"why":"busy"}', b'{"x":' + b"[" * 2000),
    ),
    "payload": Target(_payload, (json.dumps(_PUSH).encode(),), ("pullrequest", "object_attributes")),
    "signature": Target(
        _signature,
        (_SIGNED, b"X-Rota-Event: x\nX-Rota-Signature: t=1800000000,v1=" + b"0" * 64 + b"\n\nx",
         b"X-Gitlab-Event: Push Hook\nX-Gitlab-Token: no\n\n{}",
         b"Webhook-Signature: v1,AAAA\nWebhook-Id: 1\nWebhook-Timestamp: 1800000000\n\n{}"),
    ),
    "toml": Target(
        _toml,
        (b'voters = 3\ntimeout = "1h"\n[limits]\na = 1\n[isolation]\nuser = "build"\n[chat.irc]\nserver = "x"\n',
         b'role = "builder"\nemails = ["a@b"]\n[[notify]]\nto = ["irc:#web"]\n',
         b'[[include]]\ndays = "mon..fri"\nhours = "9:00-17:00"\ncountry = "DE"\n'),
    ),
    "definition": Target(
        _definition,
        (b"#!/bin/sh\n# /// script\n# [tool.rota]\n# x = 1\n# ///\n",
         (b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20260101T000000Z\r\nDTEND:20260101T010000Z\r\n"
         b"RRULE:FREQ=DAILY\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n")),
        ("RRULE:", "FREQ=SECONDLY", "BEGIN:VTIMEZONE", "EXDATE:", "DURATION:"),
    ),
    "cron": Target(_cron, (b"H/15 1-5,7 * JAN-MAR mon#2", b"0 0 L * ?", b"@daily", b"1h30m", b"5 GiB")),
    "small": Target(_small, (b"rota1.abc.def", b"[::1]:80", b"web/test#12", b"irc:#web", b"https://h:1/p")),
    "certificate": Target(_certificate, (b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",)),
    "junit": Target(
        _junit,
        ((b'<?xml version="1.0"?><testsuites><testsuite name="s"><testcase name="a" classname="b" time="1.5">'
         b'<failure message="m" type="t">x<![CDATA[y]]></failure></testcase></testsuite></testsuites>'),
         b'<!DOCTYPE a [<!ENTITY b "&#60;">]><testsuite>&b;</testsuite>'),
        ("<testcase", "<failure", "<skipped", "<!ENTITY", "rerunFailure", "system-out"),
    ),
    "tap": Target(_tap, (b"TAP version 13\n1..2\nok 1 - a # SKIP x\nnot ok 2\n  ---\n  message: y\n  ...\n",)),
    "coverage": Target(
        _coverage,
        ((b'<coverage line-rate="0.5" lines-valid="2"><packages><package><classes><class filename="a">'
         b'<lines><line number="1" hits="1" branch="true" condition-coverage="50% (1/2)"/></lines></class>'
         b"</classes></package></packages></coverage>"),
         b"TN:\nSF:a\nDA:1,1\nBRDA:1,0,0,1\nend_of_record\n", b"mode: set\na.go:1.2,3.4 5 1\n",
         b'{"totals":{"covered_lines":1,"num_statements":2}}',
         b'<report name="x"><counter type="LINE" missed="1" covered="2"/></report>'),
    ),
    "stored": Target(_stored, (b"{}", b"\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00{}\n")),
    "rest": Target(_rest, (b'{"job":"a","params":{"x":"1"},"wait":1}', b'{"labels":{"a":null},"to":["x"]}')),
}  # fmt: skip
