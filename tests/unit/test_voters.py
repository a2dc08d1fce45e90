"""The choice of voters, as stories: what the leader sees, and the one step it takes next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.harness.facts import moment

from rota.core.agents import Agent, AgentState
from rota.core.voter import Voter
from rota.core.voters import (
    NEVER_CAME,
    Appoint,
    Dismiss,
    Evacuate,
    Ranks,
    Remove,
    Replicate,
    Seat,
    Wait,
    next_step,
    tolerated,
    wanted,
)

OFFLINE = {"is_offline": True}
BEHIND = {"is_current": False}


def agent(name: str, since: float = 0.0, **more: Any) -> Agent:
    peer = f"https://{name}:7400"
    fields = {"state": AgentState.UP, "peer": peer, **more}
    return Agent(name=name, since=moment(since), **fields)


def ranks(
    agents: str | Mapping[str, Agent],
    voters: str,
    seats: Mapping[str, dict[str, bool]] | None = None,
    **more: Any,
) -> Ranks:
    """Agents and voters by one letter each; a voter's server is its capital letter."""
    if isinstance(agents, str):
        agents = {name: agent(name, index) for index, name in enumerate(agents)}
    odd = {} if seats is None else seats
    servers = sorted({*voters.upper(), *odd})
    present = [
        Seat(name, **odd.get(name, {})) for name in servers if "gone" not in odd.get(name, {})
    ]
    fields = {"copies": len(voters), "is_whole": True, "limit": 3, **more}
    return Ranks(
        voters={name: Voter(name, name.upper(), name, 1, 2) for name in voters},
        agents=agents,
        silent=fields.pop("silent", {}),
        seats=present,
        **fields,
    )


def but(agents: str, **changes: dict[str, Any]) -> dict[str, Agent]:
    """Agents by letter, some of them changed."""
    return {name: agent(name, index, **changes.get(name, {})) for index, name in enumerate(agents)}


GONE = {"gone": True}


def test_a_cluster_grows_from_one_to_three_in_one_go() -> None:
    assert next_step(ranks("a", "a")) is None
    assert next_step(ranks("ab", "a")) is None  # two are worse than one
    assert next_step(ranks("abc", "a")) == Appoint("b")
    assert next_step(ranks("abc", "ab", {"B": GONE}, copies=1)) == Wait("b to start its server")
    assert next_step(ranks("abc", "ab", {"B": BEHIND}, copies=1)) == Wait("b to catch up")
    assert next_step(ranks("abc", "ab", copies=1)) == Appoint("c")
    assert next_step(ranks("abc", "abc", copies=1)) == Replicate(3)
    assert next_step(ranks("abc", "abc", is_whole=False)) is None
    assert next_step(ranks("abcd", "abc")) is None  # four tolerate no more than three


def test_five_are_reached_over_three_that_have_whole_copies() -> None:
    five: dict[str, Any] = {"limit": 5}
    assert next_step(ranks("abcde", "abc", copies=1, **five)) == Replicate(3)
    step = next_step(ranks("abcde", "abc", is_whole=False, **five))
    assert step == Wait("all copies to be whole")
    assert next_step(ranks("abcde", "abc", **five)) == Appoint("d")
    assert next_step(ranks("abcde", "abcd", copies=3, **five)) == Appoint("e")
    assert next_step(ranks("abcde", "abcde", copies=3, **five)) == Replicate(5)
    assert next_step(ranks("abcde", "abcde", **five)) is None


def test_a_dead_voter_makes_way_when_another_can_take_its_place() -> None:
    dead = {"C": OFFLINE}
    for absent_s, step in ((59.0, None), (61.0, Remove("C"))):
        seen = ranks("abcd", "abc", dead, is_whole=False, absent={"C": absent_s})
        assert next_step(seen) == step
    late = {"absent": {"C": 1e6}, "is_whole": False}
    assert next_step(ranks("abc", "abc", dead, **late)) is None  # nobody could
    assert next_step(ranks("abcd", "ab", copies=2)) == Appoint("c")


def test_one_whose_server_is_down_is_replaced_though_its_agent_is_up() -> None:
    seen = ranks("abcd", "abc", {"C": BEHIND}, is_whole=False, absent={"C": 61.0})
    assert next_step(seen) == Remove("C")


def test_one_whose_daemon_alone_is_silent_goes_on_as_a_voter() -> None:
    assert next_step(ranks("abcd", "abc", silent={"c": 1e6})) is None


def test_nobody_is_appointed_beside_one_that_is_down() -> None:
    assert next_step(ranks("abcde", "abc", {"C": OFFLINE}, limit=5, is_whole=False)) is None


def test_who_does_not_come_is_dismissed_and_asked_last_the_next_time() -> None:
    waits = ranks("abcd", "ab", {"B": GONE}, copies=1, absent={"B": 60.0})
    assert next_step(waits) == Wait("b to start its server")
    over = ranks("abcd", "ab", {"B": GONE}, copies=1, absent={"B": 60.1})
    assert next_step(over) == Dismiss("b", "B", NEVER_CAME)
    assert next_step(ranks("abcd", "a", failed={"b"})) == Appoint("c")
    assert next_step(ranks("abc", "ac", copies=1, failed={"b"})) == Appoint("b")


def test_candidates_are_up_and_heard_and_on_other_machines_first() -> None:
    agents = {
        "a": agent("a"),
        "b": agent("b", 1, peer="https://a:7401"),
        "c": agent("c", 2, draining=True),
        "d": agent("d", 3, state=AgentState.STOPPED),
        "e": agent("e", 4, peer=""),
        "f": agent("f", 5),
        "g": agent("g", 6),
    }
    assert next_step(ranks(agents, "a", silent={"f": 9.0})) == Appoint("g")
    assert next_step(ranks(agents, "ag", copies=1, silent={"f": 9.0})) == Appoint("b")


def test_who_leaves_is_replaced_first_then_hands_over() -> None:
    agents = but("abcd", a={"leaving": True})
    assert next_step(ranks(agents, "abc")) == Appoint("d")
    assert next_step(ranks(agents, "abcd", {"D": BEHIND}, copies=3)) == Wait("d to catch up")
    half = ranks(agents, "abcd", copies=3, is_whole=False)
    assert next_step(half) == Wait("all copies to be whole")
    assert next_step(ranks(agents, "abcd", copies=3)) == Evacuate("A")
    assert next_step(ranks(agents, "abcd", {"A": GONE}, copies=3)) == Dismiss("a", "A", "it leaves")


def test_of_three_that_become_two_one_voter_stays() -> None:
    agents = but("abc", a={"leaving": True})
    assert next_step(ranks(agents, "abc")) == Replicate(1)
    assert next_step(ranks(agents, "abc", copies=1)) == Evacuate("A")
    assert next_step(ranks("bc", "bc", copies=1)) == Evacuate("C")
    assert next_step(ranks("bc", "b")) is None


def test_two_that_leave_at_once_go_one_after_the_other() -> None:
    agents = but("abc", a={"leaving": True}, b={"leaving": True})
    assert next_step(ranks(agents, "abc")) == Replicate(1)
    assert next_step(ranks(agents, "abc", copies=1)) == Evacuate("A")
    assert next_step(ranks(agents, "bc", copies=1)) == Evacuate("B")
    assert next_step(ranks(agents, "c")) is None


def test_the_last_one_does_not_leave_the_others_without_an_engine() -> None:
    assert next_step(ranks(but("a", a={"leaving": True}), "a")) is None
    two = but("ab", a={"leaving": True})
    assert next_step(ranks(two, "a")) == Appoint("b")
    assert next_step(ranks(two, "ab", copies=1)) == Evacuate("A")


def test_who_leaves_waits_while_its_going_would_take_the_quorum() -> None:
    down: dict[str, Any] = {"copies": 1, "is_whole": True}
    agents = but("abcd", a={"leaving": True}, d={"state": AgentState.STOPPED})
    step = next_step(ranks(agents, "abc", {"C": OFFLINE}, absent={"C": 30.0}, **down))
    assert step == Wait("a quorum without a")
    step = next_step(ranks(agents, "abc", {"C": OFFLINE}, absent={"C": 61.0}, **down))
    assert step == Remove("C")


def test_the_dead_that_is_too_many_goes_before_the_living_that_leaves() -> None:
    agents = but("abc", a={"leaving": True})
    dead: dict[str, Any] = {"is_whole": False, "absent": {"C": 9.0}}
    assert next_step(ranks(agents, "abc", {"C": OFFLINE}, **dead)) == Remove("C")


def test_who_was_revoked_hands_nothing_over_however_well_it_looks() -> None:
    """Its server is cut off in this moment: copies that were to move by it would never get there."""
    assert next_step(ranks("ab", "abc")) == Remove("C")
    assert next_step(ranks("ab", "abc", {"C": BEHIND})) == Remove("C")
    assert next_step(ranks("ab", "abc", {"C": GONE})) == Dismiss("c", "C", "it leaves")
    assert next_step(ranks("abd", "abc")) == Remove("C")


def test_who_was_forgotten_is_removed_as_soon_as_it_is_down() -> None:
    seen = ranks("ab", "abc", {"C": OFFLINE}, is_whole=False)
    assert next_step(seen) == Remove("C")


def test_what_only_the_dead_has_is_waited_for() -> None:
    """Copies are raised after three are there: until then all that is kept may be with one."""
    seen = ranks("abcd", "abc", {"A": OFFLINE}, copies=1, is_whole=False, absent={"A": 1e6})
    assert next_step(seen) is None


def test_a_lower_limit_lets_the_last_ones_go() -> None:
    assert next_step(ranks("abcde", "abcde")) == Replicate(3)
    assert next_step(ranks("abcde", "abcde", copies=3)) == Evacuate("E")
    assert next_step(ranks("abcde", "abcd", copies=3)) == Evacuate("D")
    sick = ranks("abcde", "abcde", {"B": OFFLINE}, is_whole=False, absent={"B": 9.0})
    assert next_step(sick) == Remove("B")


def test_a_damaged_one_is_replaced_by_another_agent_or_begins_anew() -> None:
    assert next_step(ranks("abcd", "abc", damaged={"B"})) == Appoint("d")
    assert next_step(ranks("abcd", "abcd", copies=3, damaged={"B"})) == Evacuate("B")
    assert next_step(ranks("abc", "abc", damaged={"B"})) == Remove("B")
    assert next_step(ranks("abc", "ac", copies=2)) == Appoint("b")


def test_a_damaged_one_that_is_the_only_one_stays() -> None:
    assert next_step(ranks("a", "a", damaged={"A"})) is None
    assert next_step(ranks("abc", "a", damaged={"A"})) == Appoint("b")


def test_seats_of_nobody_are_cleared() -> None:
    assert next_step(ranks("ab", "a", {"X": OFFLINE})) == Remove("X")
    assert next_step(ranks("ab", "a", {"X": {}})) == Evacuate("X")
    # It is needed for a quorum.
    seen = ranks("abc", "ab", {"B": OFFLINE, "X": {}}, copies=1)
    assert next_step(seen) is None


def test_before_the_first_server_has_said_where_it_is_nothing_is_touched() -> None:
    seen = ranks("a", "", {"A": {}}, copies=1)
    assert next_step(seen) == Wait("the first server to be known")


@pytest.mark.parametrize(
    ("members", "leaving", "limit", "number"),
    [
        ("a", "", 3, 1),
        ("ab", "", 3, 1),
        ("abc", "", 3, 3),
        ("abcd", "", 5, 3),
        ("abcde", "", 5, 5),
        ("abcdefg", "", 5, 5),
        ("abcde", "", 1, 1),
        ("abc", "c", 3, 1),
        ("a", "a", 3, 1),
    ],
)
def test_as_many_are_wanted_as_limit_and_members_allow(
    members: str, leaving: str, limit: int, number: int
) -> None:
    agents = but(members, **{name: {"leaving": True} for name in leaving})
    assert wanted(ranks(agents, "a", limit=limit)) == number


def test_members_that_are_down_count_but_are_not_appointed() -> None:
    agents = but("abc", c={"state": AgentState.LOST})
    seen = ranks(agents, "a")
    assert wanted(seen) == 3
    assert next_step(seen) is None


@pytest.mark.parametrize(
    ("states", "number"),
    [
        ([{}], 0),
        ([{}, {}], 0),
        ([{}, {}, {}], 1),
        ([{}, {}, OFFLINE], 0),
        ([{}, BEHIND, OFFLINE], -1),
        ([{}] * 5, 2),
        ([{}, {}, {}, OFFLINE, OFFLINE], 0),
        ([], -1),
    ],
)
def test_how_many_may_fail(states: list[dict[str, bool]], number: int) -> None:
    seats = [Seat(str(i), **state) for i, state in enumerate(states)]
    assert tolerated(seats, 5, is_whole=True) == number


@pytest.mark.parametrize(
    ("copies", "is_whole", "number"),
    [(1, True, 0), (1, False, 0), (3, True, 1), (3, False, 0), (5, True, 2), (5, False, 1)],
)
def test_servers_alone_keep_nothing(copies: int, is_whole: bool, number: int) -> None:
    assert tolerated([Seat(str(i)) for i in range(5)], copies, is_whole=is_whole) == number


def test_who_comes_and_goes_is_never_a_voter() -> None:
    agents = {"a": agent("a"), "b": agent("b", ephemeral=True), "c": agent("c", ephemeral=True)}
    assert wanted(ranks(agents, "a")) == 1
    assert next_step(ranks(agents, "a")) is None
    agents |= {"d": agent("d"), "e": agent("e")}
    assert wanted(ranks(agents, "a")) == 3
    assert next_step(ranks(agents, "a")) == Appoint("d")
