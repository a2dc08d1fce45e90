"""The life of a build as one table.

A build is *held* while something must come first, *queued* when any agent that satisfies its label
expression may take it, *running* from the moment an agent's claim was accepted, and *finished* once
an outcome is recorded. Everything that moves a build is an event; everything that affects how it
moves stands in :data:`TRANSITIONS`, and an event that has no row there changes nothing. So a claim
that came too late, a result of an attempt that was given up, a cancel of what is over are all
harmless, in any order and however often they come.

An event about one build may move others: what needs it, the group that it is a cell of, its whole
tree when that is cancelled, the older ones that it supersedes. A held build whose needs will never be
met, and a group whose builds have ended, *settle*: they are finished without having run.

``finished`` is left in one way only: by a retry, into the queue, or back to ``held`` where something
must come first again. A result whose reason the job's retry policy names goes straight back to
``queued``, so that nobody who waits sees a result that does not stand.

The docs' diagram is made from this table: ``python docs/generate.py``.
"""

from __future__ import annotations

import enum

from rota.core.job import Reason


class State(enum.StrEnum):
    """Where a build is."""

    HELD = "held"
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"


class Result(enum.StrEnum):
    """How a finished build ended."""

    PASSED = "passed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed-out"
    LOST = "lost"
    ERRORED = "errored"


class Move(enum.StrEnum):
    """What an event does to a build. One event kind may be one of two moves."""

    RELEASE = "release"
    CLAIM = "claim"
    FINISH = "finish"
    TRY_AGAIN = "try again"
    CANCEL = "cancel"
    SETTLE = "settle"
    ASK_TO_STOP = "ask to stop"
    RETRY = "retry"
    WAIT_AGAIN = "wait again"


#: (state, move) -> next state. ``None`` stands for a build that does not exist yet.
TRANSITIONS: dict[tuple[State, Move], State] = {
    (State.HELD, Move.RELEASE): State.QUEUED,
    (State.HELD, Move.ASK_TO_STOP): State.HELD,
    (State.HELD, Move.CANCEL): State.FINISHED,
    (State.HELD, Move.SETTLE): State.FINISHED,
    (State.QUEUED, Move.CLAIM): State.RUNNING,
    (State.QUEUED, Move.CANCEL): State.FINISHED,
    (State.RUNNING, Move.ASK_TO_STOP): State.RUNNING,
    (State.RUNNING, Move.FINISH): State.FINISHED,
    (State.RUNNING, Move.TRY_AGAIN): State.QUEUED,
    (State.FINISHED, Move.RETRY): State.QUEUED,
    (State.FINISHED, Move.WAIT_AGAIN): State.HELD,
}

_RESULTS = {
    Reason.SIGNAL: Result.FAILED,
    Reason.OOM_KILLED: Result.FAILED,
    Reason.TIMEOUT: Result.TIMED_OUT,
    Reason.NO_OUTPUT: Result.TIMED_OUT,
    Reason.TOO_MUCH_OUTPUT: Result.FAILED,
    Reason.CANCELLED: Result.CANCELLED,
    Reason.LOST: Result.LOST,
    Reason.CHECKOUT: Result.ERRORED,
    Reason.AGENT_ERROR: Result.ERRORED,
    Reason.UNMET: Result.CANCELLED,
    Reason.SUPERSEDED: Result.CANCELLED,
    Reason.GROUP: Result.ERRORED,  # never: a group's result is the worst of its builds
    Reason.REJECTED: Result.CANCELLED,
    Reason.REPORTS: Result.FAILED,
    Reason.FINALLY: Result.FAILED,
}


def next_state(state: State, move: Move) -> State | None:
    """Return where ``move`` leads from ``state``; ``None`` if it leads nowhere."""
    return TRANSITIONS.get((state, move))


def result_of(reason: Reason, exit_code: int | None) -> Result:
    """Return the result that a reason and an exit code make."""
    if reason is Reason.SCRIPT:
        return Result.PASSED if exit_code == 0 else Result.FAILED
    return _RESULTS[reason]


def mermaid() -> str:
    """Return the table as a Mermaid state diagram, without a final line end."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.HELD}", f"    [*] --> {State.QUEUED}"]
    for (state, move), after in TRANSITIONS.items():
        lines.append(f"    {state} --> {after}: {move}")
    lines.append(f"    {State.FINISHED} --> [*]")
    return "\n".join(lines)
