"""One command language: each command in each mouth, printing on its screen and nowhere else."""

import ast
import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from tests.harness.fake_agent import (
    BUILD,
    STATUS,
    Asked,
    FakeAgent,
    Reply,
    answer,
    fake_agent,
    problem,
)
from tests.unit.test_cli_commands import JOB

from rota.cli import mouth as mouth_module
from rota.cli.mouth import perform
from rota.cli.render import ROOM, Look
from rota.cli.screen import Screen, error_text
from rota.cli.table import COMMANDS, Command, Mouth
from rota.client.answer import ClosedError
from rota.client.client import Client
from rota.client.place import parse_place
from rota.errors import InputError, RotaError

NAMES = [command.name for command in COMMANDS if not command.is_hidden]
PAIRS = [(it, mouth) for it in COMMANDS for mouth in (Mouth.CHAT, Mouth.REPL) if not it.is_hidden]
WAITS_S = 20.0
AGENTS = [
    {"name": "a1", "state": "up", "draining": True, "leaving": False, "running": 2, "slots": 4},
    {"name": "a2", "state": "lost", "draining": False, "leaving": False, "running": 1, "slots": 4},
]


class Nobody(io.TextIOBase):
    """A stream that nobody may touch."""

    def _refuse(self, *_: object) -> NoReturn:
        raise AssertionError("printed past its screen")

    write = flush = isatty = fileno = read = readline = _refuse


class Room:
    """A screen whose two streams are read."""

    def __init__(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.screen = Screen(ROOM, ROOM, stdout=self.out, stderr=self.err, has_files=False)

    def perform(self, *words: str, mouth: Mouth = Mouth.CHAT, client: Client | None = None) -> int:
        """Run a command here."""
        return perform(words, self.screen, mouth=mouth, client=client)


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Nobody())
    monkeypatch.setattr(sys, "stderr", Nobody())


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with fake_agent(_respond, tmp_path / "rota.sock") as agent:
        yield agent


def _respond(asked: Asked) -> Reply | None:
    if asked.path == "/v1/status":
        return answer({**STATUS, "trouble": ["chat network irc: it is away"]})
    if asked.path.endswith("/input"):
        return answer({"bytes": 10})
    if asked.path == "/v1/agents":
        return answer(AGENTS)
    if asked.path == "/v1/builds":
        return answer([BUILD])
    if asked.path.endswith("/log"):
        return Reply(b"one\n\x1b[2Jtwo\n", chunk=4, hangs="follow" in asked.query)
    if asked.path == "/v1/events":
        return Reply(b'id: 42\ndata: {"kind": "x"}\n\n', chunk=8, hangs=True)
    is_wait = "wait" in asked.query
    return answer({**BUILD, "state": "running"})._replace(
        hangs=is_wait, break_at=0 if is_wait else None
    )


def client_of(agent: FakeAgent) -> Client:
    return Client(parse_place(agent.url, "URL"))


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize(("command", "mouth"), PAIRS, ids=lambda it: getattr(it, "name", str(it)))
def test_each_command_gives_its_help_in_each_mouth(command: Command, mouth: Mouth) -> None:
    room = Room()
    if mouth not in command.mouths:
        where = "in the REPL" if mouth is Mouth.REPL else "in chat"
        with pytest.raises(InputError, match=f"^{command.name} is no command {where}$") as refused:
            room.perform(command.name, "--help", mouth=mouth)
        assert refused.value.hint == f"it works in a shell: rota {command.name} --help"
        return
    assert room.perform("help", command.name, mouth=mouth) == 0
    if mouth is Mouth.CHAT:
        lines = room.out.getvalue().splitlines()
        assert lines[0].startswith(command.name)
        assert command.summary in lines[0]
        assert len(lines) <= 5
        assert "rota" not in lines[-1].split()
    else:
        assert room.out.getvalue().startswith(f"usage: rota {command.name} ")
    asked, also = Room(), Room()
    assert asked.perform(command.name, "--help", mouth=mouth) == 0
    assert also.perform("rota", command.name, "-h", mouth=mouth) == 0
    assert asked.out.getvalue() == also.out.getvalue() == room.out.getvalue()
    assert room.err.getvalue() == ""


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize(("command", "mouth"), PAIRS, ids=lambda it: getattr(it, "name", str(it)))
def test_what_is_wrong_is_told_in_the_same_words_in_each_mouth(
    command: Command, mouth: Mouth
) -> None:
    if mouth not in command.mouths or command.has_rest:
        return
    told = []
    for each in (mouth, Mouth.SHELL):
        with pytest.raises(InputError) as wrong:
            Room().perform(command.name, *["x"] * 9, "--no-such-thing", mouth=each)
        told.append(error_text(wrong.value))
    assert told[0] == told[1]
    assert "unknown arguments" in told[0] or "invalid choice" in told[0]


@pytest.mark.parametrize("mouth", Mouth)
def test_the_overview_lists_what_the_mouth_has(mouth: Mouth) -> None:
    room = Room()
    assert room.perform("help", mouth=mouth) == 0
    listed = room.out.getvalue().replace(",", " ").split()
    for command in COMMANDS:
        if not command.is_hidden and mouth not in command.mouths and "-" in command.name:
            assert command.name not in listed
        if not command.is_hidden and mouth in command.mouths:
            assert command.name in listed
    room = Room()
    assert room.perform(mouth=mouth) == 2
    assert room.err.getvalue()


def test_a_room_has_neither_files_nor_other_agents() -> None:
    for words, message in [
        (["--at", "http://x", "jobs"], "unknown option --at"),
        (["jobs", "--at", "http://x"], "unknown arguments: --at"),
        (["jobs", "--data", "/x"], "unknown arguments: --data"),
        (["schedule", "--clone", "/x"], "unknown arguments: --clone"),
        (["secret", "set", "A", "--file", "/etc/passwd"], "unknown arguments: --file"),
        (["secret", "set", "A"], "a value that is written in a room is no secret any more"),
        (["user", "link", "irc"], "a code that is shown in a room is anybody's"),
        (["artifacts", "get", "web#1"], "artifacts get is about files of yours"),
        (["artifacts", "put", "/etc/passwd"], "artifacts put is about files of yours"),
        (["schedule", "verify"], "schedule verify is about files of yours"),
    ]:
        with pytest.raises(InputError) as wrong:
            Room().perform(*words)
        assert message in error_text(wrong.value)
    with pytest.raises(InputError) as wrong:
        Room().perform("schedule", "--clone", "/x")
    assert wrong.value.hint == "--clone is for the shell: it is about what is on your machine"


@pytest.mark.usefixtures("sealed")
def test_commands_print_short_plain_lines_in_a_room(agent: FakeAgent) -> None:
    room = Room()
    assert room.perform("builds", client=client_of(agent)) == 0
    assert room.out.getvalue() == "web/test#7  passed  2m03s  3 min ago  by anna\n"
    room = Room()
    assert room.perform("log", "web/test#7", client=client_of(agent)) == 0
    assert room.out.getvalue() == "one\ntwo\n"
    room = Room()
    assert room.perform("status", client=client_of(agent)) == 0
    assert room.out.getvalue().splitlines() == [
        "trouble: chat network irc: it is away",
        "builds: 3 running of 8 slots, 3 queued, 0 held",
        "agents: 1 up, a2 is lost, a1 drains",
        "leader: a1, 5 min ago, a2 stopped",
        "quorum: yes; 1 failure is tolerated now",
        "rota: 0.1.0, 12 jobs, http://127.0.0.1:7070",
    ]
    assert room.perform("send", "web/test#7", "all clear", client=client_of(agent)) == 0
    assert room.err.getvalue() == "sent 10 bytes to web/test#7\n"
    with pytest.raises(InputError, match="a room has no standard input"):
        Room().perform("send", "web/test#7", client=client_of(agent))


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize(
    "words",
    [("log", "web/test#7", "-f"), ("events", "-f"), ("run", "web/test", "--wait")],
    ids=" ".join,
)
@pytest.mark.parametrize("ends", ["screen", "client"])
def test_what_follows_is_ended_from_another_thread(
    agent: FakeAgent, words: tuple[str, ...], ends: str
) -> None:
    room, client, errors = Room(), client_of(agent), list[RotaError]()
    reached = threading.Event()

    def respond(asked: Asked) -> Reply | None:
        reply = _respond(asked)
        if reply is not None and reply.hangs:
            reached.set()
        return reply

    def follow() -> None:
        try:
            room.perform(*words, client=client)
        except RotaError as error:
            errors.append(error)

    agent.respond = respond
    thread = threading.Thread(target=follow)
    thread.start()
    assert reached.wait(WAITS_S)
    (room.screen.close if ends == "screen" else client.close)()
    thread.join(WAITS_S)
    assert not thread.is_alive()
    assert [type(it) for it in errors] == [ClosedError]


def test_a_closed_screen_ends_a_command_that_begins_later(agent: FakeAgent) -> None:
    room = Room()
    room.screen.close()
    with pytest.raises(ClosedError):
        room.perform("status", client=client_of(agent))
    assert agent.asked == []


@pytest.mark.usefixtures("sealed")
def test_several_run_at_once_each_on_its_own_screen(agent: FakeAgent) -> None:
    rooms = [Room() for _ in range(8)]
    statuses: list[int] = []

    def look(room: Room) -> None:
        statuses.extend(room.perform("builds", client=client_of(agent)) for _ in range(5))

    threads = [threading.Thread(target=look, args=(room,)) for room in rooms]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAITS_S)
    assert statuses == [0] * 40
    assert {room.out.getvalue().count("\n") for room in rooms} == {5}


def _modules() -> list[Path]:
    """Return the modules that carry out a command outside of a shell."""
    named = {it.call.partition(":")[0] for it in COMMANDS if it.mouths != (Mouth.SHELL,)}
    root = Path(mouth_module.__file__).parent
    return [
        *(root / "commands" / f"{name}.py" for name in sorted(named)),
        *(
            it
            for it in sorted(root.glob("*.py"))
            if it.name not in ("main.py", "screen.py", "mirror.py")
        ),
    ]


@pytest.mark.parametrize("module", _modules(), ids=lambda it: it.stem)
def test_nothing_that_carries_out_a_command_names_a_standard_stream(module: Path) -> None:
    # Beside what the tests above run, all that is written: a branch that they do not come by counts.
    found = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="print")):
                found.append(f"{module.name}:{node.lineno}: print")
            case ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "stderr"):
                found.append(f"{module.name}:{node.lineno}: sys.{node.attr}")
            case ast.Attribute(value=ast.Name(id="os"), attr="chdir" | "putenv" | "_exit"):
                found.append(f"{module.name}:{node.lineno}: os.{node.attr}")
            case _:
                pass
    assert [it for it in found if not it.startswith(_AT_TERMINAL_ALONE)] == []


#: What asks for a secret without showing it, has the terminal for itself, or is in a script's own log.
_AT_TERMINAL_ALONE = ("secrets.py:", "shell.py:", "step.py:")


def _older(asked: Asked) -> Reply | None:
    """Answer as an agent does that knows no pictures."""
    if "recent" in asked.query:
        return problem(400, "unknown field 'recent'")
    if asked.path.endswith("/trend"):
        return problem(404, "no such path")
    return answer(JOB if asked.path == "/v1/jobs/web/test" else [JOB])


def test_an_older_agent_has_no_pictures_and_all_the_rest(tmp_path: Path) -> None:
    look = Look(width=80)
    with fake_agent(_older, tmp_path / "rota.sock") as agent:
        for words, first in ((["jobs"], "web/test"), (["show", "web/test"], "job")):
            out = io.StringIO()
            screen = Screen(look, look, stdout=out, stderr=out)
            assert perform(words, screen, mouth=Mouth.REPL, client=client_of(agent)) == 0
            assert out.getvalue().startswith(first)
            assert "error" not in out.getvalue()
