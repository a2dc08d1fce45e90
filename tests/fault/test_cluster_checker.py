"""The checker finds what it is there for: each promise is broken once, in evidence made up here."""

from __future__ import annotations

import copy
import dataclasses
import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.harness import checker
from tests.harness.checker import Ack, Evidence, LogRead, check
from tests.harness.load import Mark, log_of, read_marks, script

AGENTS = ("h1", "h2", "h3")


def events(*facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"seq": seq, **fact} for seq, fact in enumerate(facts, 1)]


def started(build: str, attempt: int, agent: str) -> dict[str, Any]:
    return {"kind": "build.started", "build": build, "attempt": attempt, "agent": agent}


def finished(build: str, attempt: int, agent: str, **more: Any) -> dict[str, Any]:
    end = {"reason": "script", "exit_code": 0, "log_bytes": len(log_of(build, attempt, 10)), **more}
    return {"kind": "build.finished", "build": build, "attempt": attempt, "agent": agent, **end}


def requested(build: str, agent: str = "h1") -> dict[str, Any]:
    return {"kind": "build.requested", "build": build, "job": "web", "agent": agent}


def moved(ref: str, old: str, new: str) -> dict[str, Any]:
    return {"kind": "store.moved", "ref": ref, "old": old, "new": new, "agent": "h1"}


def begin(build: str, attempt: int, agent: str, pid: int, what: str = "begin") -> Mark:
    return Mark(build, attempt, what, str(pid), pid, agent, float(pid))


def good() -> Evidence:
    """Two builds on three agents; one had its agent lost and was tried again elsewhere."""
    journal = events(
        {"kind": "leader.elected", "agent": "h1"},
        moved("main", "", "m1"),
        requested("b1"),
        started("b1", 1, "h2"),
        requested("b2"),
        finished("b1", 1, "h2"),
        started("b2", 1, "h3"),
        {"kind": "agent.lost", "agent": "h1", "name": "h3"},
        finished("b2", 1, "h1", reason="lost", exit_code=None, log_bytes=0),
        started("b2", 2, "h2"),
        {"kind": "leader.elected", "agent": "h2"},
        finished("b2", 2, "h2"),
        {"kind": "history.sealed", "agent": "h2", "through": 12},
    )
    builds = {
        "b1": {"id": "b1", "state": "finished", "result": "passed", "attempt": 1},
        "b2": {"id": "b2", "state": "finished", "result": "passed", "attempt": 2},
    }
    marks = [begin("b1", 1, "h2", 11), begin("b1", 1, "h2", 11, "end")]
    marks += [begin("b2", 1, "h3", 12)]
    marks += [begin("b2", 2, "h2", 13), begin("b2", 2, "h2", 13, "end")]
    reads = [LogRead(a, "b1", 1, log_of("b1", 1, 10), whole=True) for a in AGENTS]
    reads += [LogRead(a, "b2", 1, log_of("b2", 1, 10)[:30], whole=True) for a in AGENTS]
    reads += [LogRead("h1", "b2", 2, log_of("b2", 2, 10)[:50], whole=False)]
    return Evidence(
        journal=list(journal),
        journals={agent: list(journal) for agent in AGENTS},
        acks=[Ack("b1", "web", 1, "h1"), Ack("b2", "web", 2, "h3")],
        marks=marks,
        builds={agent: copy.deepcopy(builds) for agent in AGENTS},
        heads={agent: {"main": "m1", "history": "x"} for agent in AGENTS},
        records={agent: [dict(b) for b in builds.values()] for agent in AGENTS},
        faults_of_git=dict.fromkeys(AGENTS, ""),
        logs=reads,
        followed={"one": list(range(1, 14)), "another": list(range(4, 9))},
    )


def test_what_is_good_is_found_good() -> None:
    assert check(good()) == []


def replaced(evidence: Evidence, seq: int, **changes: Any) -> None:
    evidence.journal[seq - 1] = {**evidence.journal[seq - 1], **changes}


def dropped(evidence: Evidence, seq: int) -> None:
    del evidence.journal[seq - 1]


def lose_a_request(evidence: Evidence) -> None:
    evidence.acks.append(Ack("b3", "web", 3, "h2"))


def tell_a_wrong_number(evidence: Evidence) -> None:
    evidence.acks[1] = dataclasses.replace(evidence.acks[1], number=3)


def request_twice(evidence: Evidence) -> None:
    evidence.journal.append({"seq": 14, **requested("b1")})


def forget_the_end(evidence: Evidence) -> None:
    replaced(evidence, 12, kind="custom")


def leave_it_waiting(evidence: Evidence) -> None:
    evidence.journal.append({"seq": 14, **requested("b9")})


def start_while_it_runs(evidence: Evidence) -> None:
    replaced(evidence, 9, kind="custom")


def skip_an_attempt(evidence: Evidence) -> None:
    replaced(evidence, 10, attempt=3)


def start_what_has_passed(evidence: Evidence) -> None:
    evidence.journal.append({"seq": 14, **started("b1", 2, "h3")})
    evidence.journal.append({"seq": 15, **finished("b1", 2, "h3")})


def start_what_was_cancelled(evidence: Evidence) -> None:
    evidence.journal.insert(9, {"seq": 9.5, "kind": "build.cancelled", "build": "b2"})


def end_for_another(evidence: Evidence) -> None:
    replaced(evidence, 6, agent="h3")


def end_what_never_began(evidence: Evidence) -> None:
    replaced(evidence, 6, attempt=7)


def seal_without_the_lease(evidence: Evidence) -> None:
    replaced(evidence, 13, agent="h1")


def lose_without_the_lease(evidence: Evidence) -> None:
    replaced(evidence, 8, agent="h2")


def give_up_a_build_without_the_lease(evidence: Evidence) -> None:
    replaced(evidence, 9, agent="h2")


def resign_for_another(evidence: Evidence) -> None:
    evidence.journal.append({"seq": 14, "kind": "leader.resigned", "agent": "h3"})


def appoint_after_resigning(evidence: Evidence) -> None:
    evidence.journal.append({"seq": 14, "kind": "leader.resigned", "agent": "h2"})
    evidence.journal.append({"seq": 15, "kind": "voter.appointed", "agent": "h2", "name": "h3"})


def diverge(ref: str) -> Callable[[Evidence], None]:
    def forge(evidence: Evidence) -> None:
        evidence.heads["h3"][ref] = "other"

    return forge


def stay_behind(evidence: Evidence) -> None:
    evidence.journal.append({"seq": 14, **moved("main", "m1", "m2")})


def move_from_nowhere(evidence: Evidence) -> None:
    evidence.journal.append({"seq": 14, **moved("main", "m0", "m2")})
    for refs in evidence.heads.values():
        refs["main"] = "m2"


def break_git(evidence: Evidence) -> None:
    evidence.faults_of_git["h2"] = "missing blob 1234"


def tell_another_result(evidence: Evidence) -> None:
    evidence.builds["h3"]["b1"]["result"] = "failed"


def tell_the_wrong_result_everywhere(evidence: Evidence) -> None:
    for agent in AGENTS:
        evidence.builds[agent]["b1"]["result"] = "failed"
        evidence.records[agent][0]["result"] = "failed"


def forget_a_build(evidence: Evidence) -> None:
    for agent in AGENTS:
        del evidence.builds[agent]["b1"]


def miscount_attempts(evidence: Evidence) -> None:
    for agent in AGENTS:
        evidence.builds[agent]["b2"]["attempt"] = 1
        evidence.records[agent][1]["attempt"] = 1


def record_twice(evidence: Evidence) -> None:
    evidence.records["h2"].append(evidence.records["h2"][0])


def record_nothing(evidence: Evidence) -> None:
    evidence.records["h2"].pop()


def record_something_else(evidence: Evidence) -> None:
    evidence.records["h2"][1]["result"] = "lost"


def read(data: bytes, attempt: int = 1, *, whole: bool = True) -> Callable[[Evidence], None]:
    def forge(evidence: Evidence) -> None:
        evidence.logs.append(LogRead("h2", "b1", attempt, data, whole))

    return forge


TRUTH = log_of("b1", 1, 10)


def follow(*seqs: int) -> Callable[[Evidence], None]:
    def forge(evidence: Evidence) -> None:
        evidence.followed["one"] = list(seqs)

    return forge


def read_the_journal_out_of_order(evidence: Evidence) -> None:
    evidence.journal[3], evidence.journal[4] = evidence.journal[4], evidence.journal[3]


def read_half_of_the_journal(evidence: Evidence) -> None:
    del evidence.journal[0]


def tell_another_journal(evidence: Evidence) -> None:
    evidence.journals["h2"][5] = {**evidence.journals["h2"][5], "exit_code": 3}


def forget_an_event(evidence: Evidence) -> None:
    del evidence.journals["h2"][5]


def run_two_at_once(evidence: Evidence) -> None:
    evidence.marks.append(begin("b2", 2, "h1", 14, "overlap"))


def run_twice(evidence: Evidence) -> None:
    evidence.marks.append(begin("b1", 1, "h2", 14))


def run_elsewhere(evidence: Evidence) -> None:
    evidence.marks[0] = begin("b1", 1, "h1", 11)


def run_unclaimed(evidence: Evidence) -> None:
    evidence.marks.append(begin("b1", 4, "h1", 14))


def say_it_ended(evidence: Evidence) -> None:
    del evidence.marks[1]


def say_it_was_killed(evidence: Evidence) -> None:
    replaced(evidence, 6, reason="signal", exit_code=None)


@pytest.mark.parametrize(
    ("forge", "promise", "text"),
    [
        (lose_a_request, "P1", "b3 (web#3), acknowledged by h2, is not in the journal"),
        (tell_a_wrong_number, "P1", "is number 2 in the journal"),
        (request_twice, "P1", "b1 was requested twice, again at 14"),
        (forget_the_end, "P1", "b2 never came to an end: it runs on h2"),
        (leave_it_waiting, "P1", "b9 never came to an end: it waits"),
        (start_while_it_runs, "P2", "started at 10 on h2, while attempt 1 ran on h3"),
        (skip_an_attempt, "P2", "attempt 3 started at 10 on h2, after attempt 1"),
        (start_what_has_passed, "P2", "though attempt 1 had passed at 6"),
        (start_what_was_cancelled, "P2", "though it was cancelled at 9.5"),
        (end_for_another, "P2", "attempt 1 of h2 was ended by h3 as 'script' at 6"),
        (end_what_never_began, "P2", "attempt 7 ended at 6, never started"),
        (seal_without_the_lease, "P6", "h1 wrote history.sealed at 13, but h2 led by 11"),
        (lose_without_the_lease, "P6", "h2 wrote agent.lost at 8, but h1 led by 1"),
        (give_up_a_build_without_the_lease, "P6", "h2 wrote build.finished at 9, but h1 led"),
        (resign_for_another, "P6", "h3 resigned at 14, but h2 led"),
        (appoint_after_resigning, "P6", "h2 wrote voter.appointed at 15, but nobody led"),
        (diverge("main"), "P4", "main differs: h1 m1, h2 m1, h3 other"),
        (diverge("history"), "P4", "history differs: h1 x, h2 x, h3 other"),
        (stay_behind, "P4", "main on h1 is m1, the journal moved it to m2"),
        (move_from_nowhere, "P4", "main moved at 14 from m0, where it was not since 2"),
        (break_git, "P4", "git fsck on h2: missing blob 1234"),
        (tell_another_result, "P4", "b1 differs: h1 ('finished', 'passed', 1)"),
        (tell_the_wrong_result_everywhere, "P2", "b1 failed, the journal script with exit code 0"),
        (forget_a_build, "P1", "h1 says that build b1 is unknown"),
        (miscount_attempts, "P2", "b2 had 1 attempts, the journal 2"),
        (record_twice, "P4", "h2's history has build b1 2 times"),
        (record_nothing, "P4", "h2's history has build b2 0 times"),
        (record_something_else, "P4", "h2's history says ('finished', 'lost', 2) of build b2"),
        (read(TRUTH[:-5]), "P5", f"ends at byte {len(TRUTH) - 5} of {len(TRUTH)}"),
        (read(TRUTH + b"x"), "P5", f"is wrong from byte {len(TRUTH)} on"),
        (read(TRUTH[:20] + TRUTH), "P5", "is wrong from byte 20 on"),
        (read(TRUTH[:20] + TRUTH[30:], whole=False), "P5", "is wrong from byte"),
        (follow(1, 2, 4, 5), "P7", "one missed 1 events, the first is 3"),
        (follow(1, 2, 2, 3), "P7", "one saw event 2 after 2"),
        (follow(1, 3, 2, 4), "P7", "one saw event 2 after 3"),
        (read_the_journal_out_of_order, "P7", "the journal as it was read has 4 after 5"),
        (read_half_of_the_journal, "P7", "the journal as it was read begins at 2"),
        (tell_another_journal, "P4", "h2 says that event 6 is"),
        (forget_an_event, "P4", "h2 does not have event 6"),
        (run_two_at_once, "P2", "attempt 2 began on h1 (pid 14) while another script of it lived"),
        (run_twice, "P2", "b1 attempt 1 began 2 times: h2 (pid 11, up 11.0), h2 (pid 14"),
        (run_elsewhere, "P2", "b1 attempt 1 ran on h1, claimed by h2"),
        (run_unclaimed, "P2", "b1 attempt 4 ran on h1, and was never claimed"),
        (say_it_ended, "P8", "is recorded as ended by itself, its script never did"),
        (say_it_was_killed, "P8", "came to its end, and is recorded as 'signal'"),
    ],
)
def test_a_forged_journal_store_log_or_mark_is_found_out(
    forge: Callable[[Evidence], None], promise: str, text: str
) -> None:
    evidence = good()
    forge(evidence)
    found = check(evidence)
    assert [v for v in found if v.promise == promise and text in v.text], list(map(str, found))


def test_an_event_that_a_follower_invented_is_found_out() -> None:
    evidence = good()
    dropped(evidence, 5)
    found = check(evidence)
    assert "P7: one saw event 5, which is not in the journal" in map(str, found)


def test_a_late_result_of_an_attempt_that_was_given_up_is_no_violation() -> None:
    evidence = good()
    evidence.journals.clear()
    evidence.journal.append({"seq": 14, **finished("b2", 1, "h3", exit_code=1)})
    assert check(evidence) == []


def test_nothing_is_expected_to_be_over_where_it_never_settled() -> None:
    evidence = good()
    leave_it_waiting(evidence)
    evidence.settled = False
    diverge("history")(evidence)
    assert check(evidence) == []


def test_a_script_of_the_load_says_what_the_checker_expects(tmp_path: Path) -> None:
    for exclusive in (False, True):
        path = tmp_path / "job"
        path.write_text(script(tmp_path, exclusive=exclusive, labels="linux"))
        env = {"ROTA_BUILD": f"b{exclusive}", "ROTA_ATTEMPT": "1", "ROTA_AGENT": "h1"}
        env |= {"MARKS": str(tmp_path), "lines": "3", "pause": "0", "status": "4"}
        done = subprocess.run(
            ["bash", str(path)], env={**os.environ, **env}, capture_output=True, check=False
        )
        assert done.returncode == 4
        assert done.stdout == log_of(f"b{exclusive}", 1, 3)
    marks = read_marks(tmp_path)
    assert [(mark.build, mark.what, mark.agent) for mark in marks] == [
        ("bFalse", "begin", "h1"),
        ("bFalse", "end", "h1"),
        ("bTrue", "begin", "h1"),
        ("bTrue", "end", "h1"),
    ]


def test_two_scripts_of_one_attempt_catch_each_other(tmp_path: Path) -> None:
    path = tmp_path / "job"
    path.write_text(script(tmp_path))
    env = {"PATH": "/usr/bin:/bin", "ROTA_BUILD": "b", "ROTA_ATTEMPT": "1", "ROTA_AGENT": "h1"}
    env |= {"MARKS": str(tmp_path), "lines": "3", "pause": "0", "status": "0"}
    with (tmp_path / "b.1.lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        subprocess.run(["bash", str(path)], env=env, capture_output=True, check=True)
    assert [mark.what for mark in read_marks(tmp_path)] == ["begin", "overlap", "end"]


@pytest.mark.parametrize(
    ("read", "reason", "is_good"),
    [
        (b"1\n2\n3\n", "script", True),
        (b"1\n2\n", "lost", True),
        (b"1\n\nrota: output is missing here, at most\n3\n4\n", "lost", True),
        (b"1\n\nrota: output is missing here, at most\n3\n4\n", "script", False),
        (b"1\n\nrota: output is missing here, at most\n4\n3\n", "lost", False),
        (b"1\n\nrota: output is missing here, at most\n1\n", "lost", False),
        (b"2\n\nrota: output is missing here, at most\n3\n", "lost", False),
    ],
)
def test_a_log_may_say_that_something_is_missing_and_lies_in_nothing_else(
    read: bytes, reason: str, is_good: bool
) -> None:
    assert checker._is_true(read, b"1\n2\n3\n4\n", [{"reason": reason}]) == is_good
