"""The life of a build: the table is whole, and every reason makes a result."""

from __future__ import annotations

import pytest

from rota.core.job import Reason
from rota.core.states import TRANSITIONS, Move, Result, State, mermaid, next_state, result_of


def test_only_a_retry_leaves_the_finished_state() -> None:
    out = {move for (state, move) in TRANSITIONS if state is State.FINISHED}
    assert out == {Move.RETRY, Move.WAIT_AGAIN}


def test_a_build_runs_only_by_a_claim() -> None:
    into = [key for key, after in TRANSITIONS.items() if after is State.RUNNING]
    assert into == [(State.QUEUED, Move.CLAIM), (State.RUNNING, Move.ASK_TO_STOP)]


def test_every_state_can_be_left_and_every_move_is_somewhere() -> None:
    assert {state for state, _ in TRANSITIONS} == set(State)
    assert {move for _, move in TRANSITIONS} == set(Move)


def test_what_has_no_row_leads_nowhere() -> None:
    assert next_state(State.HELD, Move.RELEASE) is State.QUEUED
    assert next_state(State.FINISHED, Move.CLAIM) is None
    assert next_state(State.HELD, Move.CLAIM) is None


@pytest.mark.parametrize("reason", list(Reason))
def test_only_the_script_itself_can_pass(reason: Reason) -> None:
    by_code = {code: result_of(reason, code) for code in (0, 1, -1, None)}
    if reason is Reason.SCRIPT:
        failed = Result.FAILED
        assert by_code == {0: Result.PASSED, 1: failed, -1: failed, None: failed}
    else:
        assert Result.PASSED not in by_code.values()


def test_the_diagram_has_every_row() -> None:
    lines = mermaid().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert "    running --> queued: try again" in lines
    assert len(lines) == len(TRANSITIONS) + 4
