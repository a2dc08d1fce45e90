"""The file in an agent's data folder, below its command line."""

from pathlib import Path

import pytest

from rota.bootstrap.machine import Machine
from rota.bootstrap.options import AgentOptions
from rota.core.agent_file import LogChoice
from rota.daemon.logs import DaemonLog
from rota.errors import InputError


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> list[LogChoice]:
    applied: list[LogChoice] = []
    monkeypatch.setattr(DaemonLog, "apply", lambda _, choice: applied.append(choice))
    monkeypatch.delenv("ROTA_LOG", raising=False)
    return applied


def write(data: Path, text: str) -> None:
    (data / "agent.toml").write_text(text)


def test_without_a_file_the_command_line_holds(tmp_path: Path) -> None:
    machine = Machine(AgentOptions(data=tmp_path, slots=3, labels="a"))
    machine.read()
    assert (machine.slots, machine.labels, machine.listen) == (3, "a", None)
    assert machine.log_choice == LogChoice()
    assert machine.overruled == ()


def test_the_command_line_goes_above_the_file(tmp_path: Path) -> None:
    write(tmp_path, "slots = 5\nlabels = 'b'\nlisten = 'h:1'\n[log]\nlevel = 'debug'\n")
    machine = Machine(AgentOptions(data=tmp_path, slots=3, log_level="error"))
    machine.read()
    assert (machine.slots, machine.labels, machine.listen) == (3, "b", "h:1")
    assert machine.log_choice.level == "error"
    assert machine.overruled == ("slots", "log.level")


def test_a_faulty_file_changes_nothing(tmp_path: Path, quiet: list[LogChoice]) -> None:
    write(tmp_path, "slots = 5\n")
    machine = Machine(AgentOptions(data=tmp_path))
    machine.read()
    write(tmp_path, "\nslots = -1\n")
    with pytest.raises(InputError, match="has a fault") as fault:
        machine.read()
    assert str(fault.value.problems[0]).startswith(f"{tmp_path / 'agent.toml'}:2:9: slots must be")
    (tmp_path / "agent.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="cannot read"):
        machine.read()
    assert machine.slots == 5
    assert len(quiet) == 1


def test_a_level_asked_for_holds_until_the_file_is_read_again(
    tmp_path: Path, quiet: list[LogChoice]
) -> None:
    machine = Machine(AgentOptions(data=tmp_path))
    machine.read()
    machine.log_at("debug")
    machine.read()
    assert [it.level for it in quiet] == ["info", "debug", "info"]


def test_the_variable_of_old_still_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTA_LOG", "DEBUG")
    assert Machine(AgentOptions(data=tmp_path)).log_choice.level == "debug"
    monkeypatch.setenv("ROTA_LOG", "LOUD")
    assert Machine(AgentOptions(data=tmp_path)).log_choice.level == "info"
