"""Going on at another agent: wherever one breaks off or dies, what is read is exactly what there is."""

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.harness.fake_agent import BUILD, STATUS, Asked, Reply, answer, fake_agent, problem
from tests.harness.fake_cluster import (
    ARTIFACT,
    LAST_EVENT,
    LOG,
    Fate,
    World,
    as_it_is,
    fake_cluster,
)

from rota.client import connection, moves
from rota.client.answer import (
    BrokenError,
    BusyError,
    ClosedError,
    NoQuorumError,
    RefusedError,
)
from rota.client.client import Client
from rota.client.follow import Start
from rota.client.place import parse_place
from rota.errors import ConflictError, UnavailableError

GOES_ON = "rota: a does not answer; going on at b"
BUSY = (("Retry-After", "1"),)


@pytest.fixture
def two() -> Iterator[World]:
    with fake_cluster(2) as world:
        yield world


@pytest.fixture
def three() -> Iterator[World]:
    with fake_cluster(3) as world:
        yield world


def cut(path: str, at: int, *, dies: bool = False, hangs: bool = False) -> Fate:
    """Break off the answers to what ends in ``path`` after so many bytes on the wire."""

    def fate(asked: Asked, reply: Reply) -> Reply | None:
        is_meant = path in asked.path
        return reply._replace(cut_at=at, dies=dies, hangs=hangs) if is_meant else reply

    return fate


def refuses(asked: Asked, reply: Reply) -> Reply | None:
    return None


def cuts(world: World, path: str, ask: Callable[[Client], object], wanted: object) -> int:
    """Let ``a`` break off at each byte of its answer in turn; return how many bytes that were.

    However far it came, what is asked for is whole, and is told in at most one line.
    """
    a, b = world.members
    for at in itertools.count():
        a.fate = cut(path, at)
        client, notes = world.client()
        client.call("status")
        assert ask(client) == wanted, f"cut after {at} bytes"
        if client.place.url == a.url:
            assert notes == []
            return at
        assert client.place.url == b.url
        assert notes == [GOES_ON]
    raise AssertionError


def log_of(client: Client) -> bytes:
    return b"".join(piece.data for piece in client.follow_log("x"))


def events_of(client: Client) -> list[int]:
    return [event["seq"] for event in itertools.islice(client.events(0), LAST_EVENT)]


# -- wherever it breaks -------------------------------------------------------------------------


def test_a_followed_log_is_whole_wherever_its_agent_breaks_off(two: World) -> None:
    assert cuts(two, "/log", log_of, LOG) > len(LOG)


def test_a_log_that_is_read_is_whole_wherever_its_agent_breaks_off(two: World) -> None:
    assert cuts(two, "/log", lambda client: b"".join(client.log("x")), LOG) > len(LOG)


def test_a_part_of_a_log_is_whole_wherever_its_agent_breaks_off(two: World) -> None:
    start = Start(offset=9)
    cuts(two, "/log", lambda client: b"".join(client.log("x", start)), LOG[9:])


def test_events_come_once_and_in_order_wherever_their_agent_breaks_off(two: World) -> None:
    cuts(two, "/events", events_of, list(range(1, LAST_EVENT + 1)))


def test_an_artifact_is_whole_wherever_its_agent_breaks_off(two: World) -> None:
    cuts(two, "/artifacts/", lambda client: b"".join(client.artifact("x", "d/y")), ARTIFACT)


def test_a_wait_goes_on_wherever_its_agent_breaks_off(two: World) -> None:
    cuts(two, "/builds/x", lambda client: client.wait("x")["result"], "passed")


def test_a_trigger_that_was_taken_is_taken_once_wherever_the_answer_breaks_off(two: World) -> None:
    keys = map(str, itertools.count())

    def ask(client: Client) -> bool:
        before = len(two.triggers)
        build = client.run("web/test", suite="full", key=next(keys))
        assert build["number"] == before + 1
        return len(two.triggers) == before + 1

    cuts(two, "/builds", ask, True)


def test_what_may_not_be_done_twice_stays_an_error_wherever_it_breaks_off(two: World) -> None:
    a, b = two.members
    for at in range(0, 200, 20):
        a.fate = cut("/cancel", at)
        client, notes = two.client()
        client.call("status")
        with pytest.raises(BrokenError, match="broke before the answer was here") as caught:
            client.cancel("x")
        assert caught.value.hint is not None
        assert caught.value.hint.startswith("if the agent was restarted, see what it did")
        assert notes == []
    assert b.asked == []


def test_what_was_never_asked_is_asked_elsewhere_whatever_it_is(two: World) -> None:
    client, notes = two.client()
    client.build("x")
    two.members[0].die()
    client.cancel("x")
    assert two.cancelled == 1
    assert notes == [GOES_ON]


# -- those who die ------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 40, 250, 320])
def test_a_log_is_whole_though_two_agents_of_three_die_in_it(three: World, at: int) -> None:
    a, b, c = three.members
    a.fate = cut("/log", at, dies=True)
    b.fate = cut("/log", at, dies=True)
    client, notes = three.client()
    assert log_of(client) == LOG
    # Of which only the end was left to ask for, the second one is not always asked for enough to die.
    assert client.place.url in ({c.url} if at < 320 else {b.url, c.url})
    assert notes[0] in (GOES_ON, "rota: a does not answer; going on at c")
    assert 1 <= len(notes) <= 2


def test_a_client_stays_where_it_is(two: World) -> None:
    a, b = two.members
    a.fate = refuses
    client, notes = two.client()
    client.where.agents = (b.url,)
    client.build("x")
    a.fate = as_it_is
    client.build("x")
    assert notes == [f"rota: {a.url} does not answer; going on at b"]
    assert (len(a.asked), len(b.asked)) == (1, 2)


def test_a_client_may_come_back_where_it_was(two: World) -> None:
    a, b = two.members
    client, notes = two.client()
    client.build("x")
    a.fate = refuses
    client.build("x")
    a.fate, b.fate = as_it_is, refuses
    client.build("x")
    assert notes == [GOES_ON, "rota: b does not answer; going on at a"]


def test_all_gone_is_borne_for_a_while_and_then_told(two: World) -> None:
    client, notes = two.client(patience_s=0.3)
    client.build("x")
    for member in two.members:
        member.fate = refuses
    with pytest.raises(BrokenError, match=f"connection to {two.members[0].url} broke"):
        client.build("x")
    assert len(two.members[0].asked) > 2
    assert len(two.members[1].asked) > 1
    assert notes == []
    assert client.place.url == two.members[0].url


def test_all_gone_and_back_again_is_no_loss(two: World) -> None:
    client, _ = two.client()
    client.build("x")
    times = iter(range(5))

    def fate(asked: Asked, reply: Reply) -> Reply | None:
        return reply if next(times, None) is None else None

    for member in two.members:
        member.fate = fate
    assert client.build("x")["result"] == "passed"


def test_an_agent_that_hangs_is_left(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE_S", 0.2)
    monkeypatch.setattr(connection, "PROBE_S", 0.2)
    for at in (0, 100, 300):
        a = two.members[0]
        a.fate = cut("/log", at, hangs=True)
        client, notes = two.client()
        assert log_of(client) == LOG
        assert notes == [GOES_ON]
        a.hanging.clear()


def test_an_agent_that_is_silent_and_there_is_not_left(
    two: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "SILENCE_S", 0.1)
    probed = threading.Event()

    def fate(asked: Asked, reply: Reply) -> Reply | None:
        if asked.path == "/health":
            assert "authorization" not in asked.headers
            probed.set()
        if asked.path.endswith("/log"):
            assert probed.wait(30)
        return reply

    two.members[0].fate = fate
    client, notes = two.client()
    assert log_of(client) == LOG
    assert notes == []


# -- any story ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(-3, 420) | st.none(), max_size=9), st.integers(0, 2))
def test_any_story_of_breaks_gives_the_log_and_the_events(
    story: list[int | None], begin: int
) -> None:
    """Each request meets the next fate: a cut (after no byte, too), a 503, or nothing bad."""
    fates = iter(story)
    lock = threading.Lock()

    def fate(asked: Asked, reply: Reply) -> Reply | None:
        with lock:
            at = next(fates, None)
        if at is None:
            return reply
        if at < 0:
            return problem(503, "the agent stops")._replace(headers=(*reply.headers, *BUSY))
        return reply._replace(cut_at=at)

    with fake_cluster(3) as world:
        for member in world.members:
            member.fate = fate
        client, _ = world.client(begin)
        client.where.agents = tuple(member.url for member in world.members)
        assert log_of(client) == LOG
        assert events_of(client) == list(range(1, LAST_EVENT + 1))
        assert client.run("web/test", key="k")["number"] == 1
        assert len(world.triggers) == 1


# -- those who cannot ---------------------------------------------------------------------------


def unavailable(detail: str, *, stale: str = "", retry: bool = True) -> Fate:
    def fate(asked: Asked, reply: Reply) -> Reply | None:
        more = [*(BUSY if retry else ()), *([("Rota-Stale-Since", stale)] if stale else ())]
        return problem(503, detail)._replace(headers=(*reply.headers, *more))

    return fate


def test_an_agent_that_stops_is_left_and_says_so(two: World) -> None:
    two.members[0].fate = unavailable("the agent stops")
    client, notes = two.client()
    assert client.run("web/test")["number"] == 1
    # It was met for the first time: its name stood in its very answer.
    url = two.members[0].url
    assert notes == [f"rota: {url} cannot now (the agent stops); going on at b"]


def test_no_quorum_anywhere_is_told_at_once(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rota.client.moves.time.sleep", _never)
    for member in two.members:
        member.fate = unavailable("no quorum", stale="2026-01-02T03:04:05Z")
    client, notes = two.client()
    with pytest.raises(NoQuorumError, match="no quorum"):
        client.run("web/test")
    assert [len(member.asked) for member in two.members] == [1, 1]
    assert notes == []


def test_no_quorum_here_is_no_matter_if_there_is_one_there(two: World) -> None:
    two.members[0].fate = unavailable("no quorum", stale="2026-01-02T03:04:05Z")
    client, notes = two.client()
    client.run("web/test")
    assert len(notes) == 1


def test_a_reason_is_told_rather_than_silence(two: World) -> None:
    client, _ = two.client(patience_s=0.2)
    client.build("x")
    two.members[0].die()
    two.members[1].fate = unavailable("the voters did not confirm")
    with pytest.raises(BusyError, match="the voters did not confirm"):
        client.run("web/test")


def test_what_may_not_be_done_twice_is_not_asked_again_after_a_refusal(two: World) -> None:
    two.members[0].fate = unavailable("it may still be taken")
    client, _ = two.client()
    with pytest.raises(BusyError, match="it may still be taken"):
        client.cancel("x")
    assert two.members[1].asked == []


def test_a_full_disk_is_not_waited_for(two: World) -> None:
    for member in two.members:
        member.fate = unavailable("the disk is full", retry=False)
    client, _ = two.client()
    with pytest.raises(UnavailableError, match="the disk is full"):
        client.build("x")
    assert [len(member.asked) for member in two.members] == [1, 1]


def test_who_does_not_know_the_caller_is_passed_by(three: World) -> None:
    def stranger(asked: Asked, reply: Reply) -> Reply | None:
        return problem(401, "the token is not known here")

    a, b, c = three.members
    client, notes = three.client()
    client.build("x")
    a.fate, b.fate = refuses, stranger
    client.build("x")
    assert client.place.url == c.url
    assert notes == ["rota: a does not answer; going on at c"]


# -- what answers say beside themselves ----------------------------------------------------------


def test_an_answer_that_is_stale_is_told_once(two: World) -> None:
    def fate(asked: Asked, reply: Reply) -> Reply | None:
        return reply._replace(
            headers=(*reply.headers, ("Rota-Stale-Since", "2026-01-02T03:04:05Z"))
        )

    two.members[0].fate = fate
    client, notes = two.client()
    client.build("x")
    client.build("x")
    assert notes == ["rota: this answer is stale since 2026-01-02T03:04:05Z: no quorum"]
    assert client.where.stale_since == "2026-01-02T03:04:05Z"


def test_what_was_seen_is_told_to_the_next(two: World) -> None:
    client, _ = two.client()
    client.build("x")
    two.members[0].fate = refuses
    client.build("x")
    assert "rota-seq" not in two.members[0].asked[0].headers
    assert two.members[1].asked[0].headers["rota-seq"] == "41"


def test_the_agents_named_last_are_those_that_are_tried(three: World) -> None:
    a, b, c = three.members

    def names_c(asked: Asked, reply: Reply) -> Reply | None:
        headers = [it for it in reply.headers if it[0] != "Rota-Agents"]
        return reply._replace(headers=(*headers, ("Rota-Agents", c.url)))

    client, _ = three.client()
    client.build("x")
    a.fate = names_c
    client.build("x")
    a.fate = refuses
    client.build("x")
    assert (client.place.url, b.asked) == (c.url, [])


# -- a log that is over --------------------------------------------------------------------------


def test_an_end_in_good_order_that_comes_too_early_is_none(two: World) -> None:
    ends = iter([5, 5, 9])

    def fate(asked: Asked, reply: Reply) -> Reply | None:
        end = next(ends, None) if asked.path.endswith("/log") else None
        return reply if end is None else reply._replace(body=reply.body[:end])

    two.members[0].fate = fate
    client, notes = two.client()
    assert log_of(client) == LOG
    assert notes == []


def test_a_log_that_is_not_kept_whole_ends_all_the_same(two: World) -> None:
    def fate(asked: Asked, reply: Reply) -> Reply | None:
        return reply._replace(body=b"") if asked.path.endswith("/log") else reply

    two.members[0].fate = fate
    assert log_of(two.client()[0]) == b""


def test_bytes_that_are_gone_are_an_error_and_no_gap(two: World) -> None:
    a, b = two.members
    a.fate = cut("/log", 320)

    def later(asked: Asked, reply: Reply) -> Reply | None:
        if not asked.path.endswith("/log"):
            return reply
        return Reply(b"x", headers=(("Rota-Log-Offset", "50"),))

    b.fate = later
    with pytest.raises(
        UnavailableError.__mro__[1], match=r"bytes \d+ to 50 of the log are not kept"
    ):
        log_of(two.client()[0])


def test_an_artifact_kept_anew_while_it_is_read_is_an_error(two: World) -> None:
    a, b = two.members

    def other(asked: Asked, reply: Reply) -> Reply | None:
        return Reply(b"other", headers=(("ETag", '"1"'),)) if "artifact" in asked.path else reply

    client, _ = two.client()
    client.build("x")
    pieces = client.artifact("x", "d/y")
    a.fate = lambda asked, reply: reply._replace(break_at=3)
    assert next(pieces) == ARTIFACT[:3]
    b.fate = other
    with pytest.raises(ConflictError, match="d/y was kept anew while it was read"):
        list(pieces)


def test_an_artifact_that_is_another_one_is_an_error(two: World) -> None:
    two.members[0].fate = lambda asked, reply: reply._replace(body=b"tampered")
    with pytest.raises(ConflictError, match="d/y is not what the build kept"):
        list(two.client()[0].artifact("x", "d/y"))


def test_events_that_break_off_with_an_error_go_on_elsewhere(two: World) -> None:
    def fails(asked: Asked, reply: Reply) -> Reply | None:
        body = reply.body.split(b"id: 3")[0] + b'event: error\ndata: {"detail": "no engine"}\n\n'
        return reply._replace(body=body)

    client, notes = two.client()
    client.build("x")
    two.members[0].fate = fails
    assert events_of(client) == list(range(1, LAST_EVENT + 1))
    assert notes == ["rota: a cannot now (no engine); going on at b"]


# -- at the start --------------------------------------------------------------------------------


def test_saved_agents_are_tried_when_the_one_named_does_not_answer(two: World) -> None:
    a, b = two.members
    a.die()
    notes: list[str] = []
    place = parse_place(a.url, "--at")
    client = Client(place, saved=["ftp://x", b.url], note=notes.append)
    assert client.build("x")["result"] == "passed"
    assert notes == [f"rota: {a.url} does not answer; going on at b"]


def test_nobody_there_at_all_is_told_at_once_and_of_the_one_that_was_named(two: World) -> None:
    a, b = two.members
    a.die()
    b.die()
    client = Client(parse_place(a.url, "--at"), saved=[b.url])
    with pytest.raises(
        RefusedError, match=rf"no agent at {a.url} \(from --at\): Connection refused"
    ):
        client.build("x")


def test_a_client_that_is_to_stay_does(two: World) -> None:
    a, b = two.members
    client = Client(parse_place(a.url, "--at"), patience_s=0.1, saved=[b.url], moves=False)
    client.build("x")
    a.die()
    with pytest.raises(RefusedError):
        client.build("x")
    assert b.asked == []


def test_a_build_waits_for_its_agent_from_the_first_question(tmp_path: Path) -> None:
    place = parse_place(f"unix:{tmp_path}/s", "x")
    client = Client(place, patience_s=20, build="0123456789abcdef")
    asking: list[Any] = []
    thread = threading.Thread(target=lambda: asking.append(client.build("x")))
    thread.start()
    with fake_agent(lambda _: answer(BUILD), tmp_path / "s"):
        thread.join(20)
    assert asking == [BUILD]


def _never(_: float) -> None:
    raise AssertionError("it waited")


def test_a_silence_is_told_once_and_only_if_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(moves, "SILENT_S", 0.1)
    with fake_agent(lambda _: answer(STATUS), tmp_path / "rota.sock") as agent:
        client = Client(parse_place(agent.url, "URL"), note=said.append, patience_s=0.6)
        client.call("status")
    with pytest.raises(UnavailableError):
        client.call("status")
    assert said == [f"rota: {agent.url} does not answer; trying again"]


def test_closing_ends_clients_that_were_made_of_one_but_not_that_one(tmp_path: Path) -> None:
    with fake_agent(lambda _: answer(STATUS), tmp_path / "rota.sock") as agent:
        client = Client(parse_place(agent.url, "URL"))
        other, third = client.another(), client.staying()
        other.close()
        with pytest.raises(ClosedError):
            other.call("status")
        assert client.call("status").json()["agent"] == third.call("status").json()["agent"]
        client.close()
        with pytest.raises(ClosedError):
            third.call("status")
