"""`agent.toml`: what it takes, and what it says about what it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core.agent_file import AgentFile, LogFile, MachineLimits, limited, parse_agent_file
from rota.core.settings import parse_settings


def test_all_that_it_can_say() -> None:
    text = """
labels = ["docker", "zone=a"]
slots = 4
listen = "0.0.0.0:7070"

[log]
level = "debug"
format = "json"
requests = true

[limits]
min_free = "5G"
workspaces = "10G"
caches = "20G"
"""
    assert parse_agent_file(text) == (
        AgentFile(
            labels="docker,zone=a",
            slots=4,
            listen="0.0.0.0:7070",
            log=LogFile(level="debug", format="json", requests=True),
            limits=MachineLimits(min_free=5 << 30, workspaces=10 << 30, caches=20 << 30),
        ),
        (),
    )


def test_an_empty_file_says_nothing() -> None:
    assert parse_agent_file("") == (AgentFile(), ())


def test_labels_may_be_written_as_on_the_command_line() -> None:
    assert parse_agent_file('labels = "docker, zone=a"')[0].labels == "docker,zone=a"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("slots = true", "agent.toml:1:9: slots must be an integer"),
        ("slots = 5000", "agent.toml:1:9: slots must be between 0 and 1000, not 5000"),
        ("\nlabls = 'a'", "agent.toml:2:1: unknown key labls (did you mean 'labels'?)"),
        ("labels = 'a b'", "agent.toml:1:10: labels cannot be read: bad label"),
        ("labels = ['a=1', 'a=2']", "agent.toml:1:10: labels cannot be read: bad label"),
        ("listen = '7070'", "agent.toml:1:10: listen must be HOST:PORT, not '7070' (0.0.0.0:7070)"),
        ("listen = 'h:70700'", "agent.toml:1:10: listen must be HOST:PORT"),
        (
            "[log]\nlevel = 'loud'",
            "agent.toml:2:9: log.level cannot be 'loud' (known: debug, info, warning, error)",
        ),
        ("[limits]\ncaches = '5X'", "agent.toml:2:10: limits.caches"),
        ("[", "agent.toml:1:"),
        ("x" * 200_000, "agent.toml: 200000 characters, the limit is 100000"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, fault: str) -> None:
    [problem, *_] = parse_agent_file(text)[1]
    assert fault in str(problem)


@given(st.text(max_size=200))
def test_any_text_is_read_without_a_fault_of_ours(text: str) -> None:
    parse_agent_file(text)


def test_a_machine_gives_away_less_but_never_more() -> None:
    settings, _ = parse_settings("[caches]\nmax_bytes = '10G'\n[workspaces]\nmax_bytes = '10G'")
    own = limited(settings, MachineLimits(caches=1 << 30, workspaces=1 << 40))
    assert own.caches.max_bytes == 1 << 30
    assert own.workspaces.max_bytes == 10 << 30
    assert limited(settings, MachineLimits()) == settings
