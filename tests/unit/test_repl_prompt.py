"""The prompt's parts without a terminal: completion, colours, the toolbar, and what it asks."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import to_plain_text
from prompt_toolkit.validation import ValidationError
from tests.harness.fake_agent import Asked, FakeAgent, Reply, answer, fake_agent
from tests.unit.test_cli_completion import respond as respond_to_completion
from tests.unit.test_cli_line import TEXT

from rota.cli.line import Typing, typing_at_end
from rota.cli.render import Look
from rota.cli.repl.bar import Beat, bar
from rota.cli.repl.offers import Memory, Offers
from rota.cli.repl.pulse import Pulse
from rota.cli.repl.typed import Readable, coloured
from rota.client.client import Client
from rota.client.place import parse_place

WAITS_S = 20.0
OVERVIEW: dict[str, Any] = {
    "seq": 41, "at": "2026-01-02T03:04:05.000000Z", "agent": "a1", "leader": "a2", "members": 3, "up": 3,
    "slots": 12, "running": 2, "queued": 5, "held": 0, "stale_since": None, "trouble": [],
}  # fmt: skip


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with fake_agent(respond_to_completion, tmp_path / "rota.sock") as agent:
        yield agent


def client_of(agent: FakeAgent) -> Client:
    return Client(parse_place(agent.url, "URL"))


# -- the word that is typed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Typing((), "", 0)),
        ("ru", Typing((), "ru", 0)),
        ("run web", Typing(("run",), "web", 4)),
        ("run web ", Typing(("run", "web"), "", 8)),
        ("jobs; run 'we", Typing(("run",), "we", 10)),
        ('jobs # x\nrun a="b c', Typing(("run",), "a=b c", 13)),
        ("log web | grep x; ps", Typing((), "ps", 18)),
        ("log web#7", Typing(("log",), "web#7", 4)),
        ("log web | gr", None),
        ("log web > 'x", None),
        ("!ls", None),
        ("jobs # x", None),
        ("x < ", Typing((), "", 4)),
    ],
)
def test_the_word_at_the_end_is_found(text: str, found: Typing | None) -> None:
    assert typing_at_end(text) == found


@given(TEXT)
def test_any_text_has_a_last_word_or_none(text: str) -> None:
    found = typing_at_end(text)
    if found is not None and "\\" not in text and not set("'\"") & set(text[found.start :]):
        assert found.last == text[found.start :].strip("\t ")[: len(found.last)]


# -- completion ---------------------------------------------------------------------------------


def offered(offers: Offers, text: str) -> list[str]:
    """Return the lines that a text may become."""
    document = Document(text)
    return [
        text[: len(text) + it.start_position] + it.text
        for it in offers.get_completions(document, CompleteEvent())
    ]


def test_what_the_shells_complete_the_prompt_does(agent: FakeAgent, tmp_path: Path) -> None:
    offers = Offers(Memory(client_of(agent)))
    assert offered(offers, "ru") == ["run"]
    assert offered(offers, "he") == ["help"]
    assert offered(offers, "rota q") == ["rota queue"]
    assert offered(offers, "help jo") == ["help jobs"]
    assert offered(offers, "ag") == ["agents"]  # agent is no command here
    assert offered(offers, "run w") == ["run web/test"]
    assert offered(offers, "jobs; run 'w") == ["jobs; run web/test"]
    assert offered(offers, "run web/test su") == ["run web/test suite="]
    assert offered(offers, "run web/test suite=f") == [
        "run web/test suite=fast", "run web/test suite=full",
    ]  # fmt: skip
    assert offered(offers, "log web/test#") == ["log web/test#7", "log web/test#8"]
    assert offered(offers, "drain a") == ["drain a1"]
    assert offered(offers, "log -") != []
    assert offered(offers, "log web | gr") == []
    assert offered(offers, "nosuch ") == []
    (tmp_path / "a script.sh").touch()
    assert offered(offers, f"add x {tmp_path}/a") == [f"add x '{tmp_path}/a script.sh'"]


def test_labels_are_completed(agent: FakeAgent) -> None:
    agent.respond = lambda _: answer(
        [
            {"name": "a1", "state": "up", "labels": {"linux": "", "arch": "arm64"}},
            {"name": "a2", "state": "up", "labels": {"linux": ""}},
        ]
    )
    offers = Offers(Memory(client_of(agent)))
    assert offered(offers, "label ") == [
        "label a1", "label a2", "label linux", "label arch=arm64",
    ]  # fmt: skip
    assert offered(offers, "label a2 ") == ["label a2 linux"]


def test_an_agent_is_not_asked_at_each_key(agent: FakeAgent) -> None:
    offers = Offers(Memory(client_of(agent)))
    for text in ("run ", "run w", "run we", "run web"):
        known = ("run web/test", "run deploy")
        assert offered(offers, text) == [it for it in known if it.startswith(text)]
    assert len(agent.asked) == 1


def test_what_was_known_is_offered_while_the_agent_is_away(tmp_path: Path) -> None:
    with fake_agent(respond_to_completion, tmp_path / "rota.sock") as agent:
        offers = Offers(Memory(client_of(agent)))
        assert offered(offers, "run w") == ["run web/test"]
    assert offered(offers, "run w") == ["run web/test"]
    assert offered(offers, "drain ") == []


# -- colours and faults -------------------------------------------------------------------------


@given(TEXT | st.text())
def test_colours_change_no_letter(text: str) -> None:
    assert to_plain_text(coloured(text)) == text


def test_each_part_of_a_line_has_its_colour() -> None:
    text = "run web 'a b' --wait | head -1; nosuch; !ls"
    found = {text.strip(): code.removeprefix("class:") for code, text, *_ in coloured(text) if code}
    assert found == {
        "run": "command", "'a b'": "quoted", "--wait": "option", "|": "shell",
        "head": "shell", "-1": "shell", "!ls": "shell",
    }  # fmt: skip
    assert coloured("jobs #x; y")[-1] == ("class:comment", "#x; y")


def test_a_line_that_cannot_be_read_is_not_taken() -> None:
    Readable().validate(Document("run web; ps | cat"))
    with pytest.raises(ValidationError) as wrong:
        Readable().validate(Document("jobs\nrun 'web"))
    assert wrong.value.cursor_position == len("jobs\nrun ")
    assert wrong.value.message.startswith("column 5: the quote ' is never closed; close it; ")


# -- the toolbar --------------------------------------------------------------------------------


def said(beat: Beat, width: int = 80, *, unicode: bool = True) -> str:
    return "".join(text for _, text in bar(beat, Look(unicode=unicode, width=width)))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({}, " a1 · a2 leads · 3 agents · 2 running of 12 · 5 queued "),
        ({"leader": "a1", "members": 1, "up": 1}, " a1 · leads · 1 agent · 2 running of 12 · 5 queued "),
        ({"leader": "", "up": 1}, " a1 · no leader · 1 of 3 agents up · 2 running of 12 · 5 queued "),
        ({"held": 2}, " a1 · a2 leads · 3 agents · 2 running of 12 · 5 queued · 2 held "),
        ({"agent": "a\x1b[2J"}, " a\\x1b[2J · a2 leads · 3 agents · 2 running of 12 · 5 queued "),
        ({"trouble": ["the disk is full", "x"]}, " a1 · a2 leads · 3 agents · 2 running of 12 · 5 queued · the disk is full "),
        (
            {"stale_since": "2026-01-02T03:04:05.000000Z"},
            " no quorum since 03:04:05 UTC · what is shown is as of then, nothing can be wr… ",
        ),
    ],
)  # fmt: skip
def test_the_cluster_is_told_in_one_line(change: dict[str, Any], text: str) -> None:
    assert said(Beat({**OVERVIEW, **change})) == text


def test_what_is_not_known_is_told() -> None:
    assert said(Beat()) == " asking… "
    assert said(Beat(OVERVIEW, "no agent at /run/rota.sock: Connection refused", "03:04:05")) == (
        " no answer since 03:04:05 · no agent at /run/rota.sock: Connection refused "
    )


@given(st.integers(2, 200), st.text(), st.booleans())
def test_the_line_fits_the_terminal(width: int, name: str, unicode: bool) -> None:
    found = bar(Beat({**OVERVIEW, "agent": name}), Look(unicode=unicode, width=width))
    from rota.cli.render import cells

    assert sum(cells(text) for _, text in found) <= max(width, 3)


def test_the_pulse_tells_what_changes_and_that_an_agent_is_away(tmp_path: Path) -> None:
    beats = [OVERVIEW, {**OVERVIEW, "seq": 42, "running": 3}]
    told = threading.Event()

    def respond(asked: Asked) -> Reply:
        assert asked.path == "/v1/overview"
        assert asked.query["rows"] == "0"
        return answer(beats[min(len(seen), 1)])

    seen: list[Beat] = []

    def changed() -> None:
        seen.append(pulse.beat)
        told.set()

    with fake_agent(respond, tmp_path / "rota.sock") as agent:
        pulse = Pulse(client_of(agent), changed)
        with pulse:
            assert not agent.asked  # nobody looks
            pulse.look(seen=True)
            while len(seen) < 2:
                assert told.wait(WAITS_S)
                told.clear()
            assert agent.asked[1].query["after"] == "41"
            agent.down()
            while not seen[-1].trouble:
                assert told.wait(WAITS_S)
                told.clear()
            agent.up()
            while seen[-1].trouble:
                assert told.wait(WAITS_S)
                told.clear()
    assert [it.overview["running"] for it in seen if it.overview] == [2, 3, 3, 3]
    assert "no agent at" in seen[2].trouble


def test_the_pulse_and_the_commands_are_at_one_agent(tmp_path: Path) -> None:
    notes: list[str] = []
    told = threading.Event()
    with (
        fake_agent(lambda _: answer({**OVERVIEW, "agent": "a1"}, Rota_Agent="a1")) as first,
        fake_agent(lambda _: answer({**OVERVIEW, "agent": "a2"}, Rota_Agent="a2")) as second,
    ):
        place = parse_place(first.url, "URL")
        client = Client(place, saved=(second.url,), note=notes.append)
        client.call("status")
        with Pulse(client, told.set) as pulse:
            first.die()
            pulse.look(seen=True)
            while not pulse.beat.overview:
                assert told.wait(WAITS_S)
                told.clear()
            assert pulse.beat.overview["agent"] == "a2"
            pulse.look(seen=False)
            client.call("status")
    assert notes == ["rota: a1 does not answer; going on at a2"]


def test_nothing_heavy_is_loaded_before_the_prompt_is(agent: FakeAgent) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from rota.cli.main import main; main(sys.argv[1:]); "
        "sys.exit(any(it.startswith('prompt_toolkit') for it in sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": ""}
    for words in (["--version"], ["jobs"], ["repl", "-c", "jobs"]):
        command = [sys.executable, "-c", code, "--at", agent.url, *words]
        command = [sys.executable, "-c", code, *words] if words == ["--version"] else command
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert words
