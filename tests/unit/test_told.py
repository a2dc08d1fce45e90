"""What outside told: refs that moved, rules that failed, forges that are to be told."""

from typing import Any

from msgspec.structs import replace
from tests.harness.facts import moment

from rota.core import told
from rota.core.build import Trigger
from rota.core.cluster import Cluster
from rota.core.events import (
    BuildCancelled,
    BuildRequested,
    BuildRetried,
    HistorySealed,
    ScmChanged,
    StatusPosted,
    TriggerFailed,
)
from rota.core.fold import apply
from rota.core.job import Spec

A, B = "a" * 40, "b" * 40
FORGE = {"forge": "github", "commit": A}


class Journal:
    def __init__(self) -> None:
        self.cluster, self.seq = Cluster(), 0

    def __call__(self, event: Any) -> Any:
        self.seq += 1
        return apply(self.cluster, self.seq, event)

    def push(self, old: str, new: str, **more: Any) -> bool:
        fields = {"what": "push" if new else "removed", "repo": "x/y", "ref": "refs/heads/main"}
        event = ScmChanged(**{"at": moment(), "id": "1", "old": old, "new": new, **fields, **more})
        return bool(self(event).is_news)


def test_a_ref_that_is_there_already_is_no_news() -> None:
    journal = Journal()
    assert journal.push("", A)
    assert journal.push(A, B)
    assert not journal.push(A, B), "somebody else told of it, too"
    assert journal.push(B, A, forced=True)
    assert journal.push(A, B), "back again is a push as well"
    assert journal.push("", B, ref="refs/heads/other")
    assert journal.push("", B, repo="x/z")
    assert journal.push(B, "")
    assert not journal.push(B, "")
    assert journal.push("", B)


def test_a_pull_request_that_was_closed_may_open_again() -> None:
    journal = Journal()
    pull = {"what": "pull", "ref": "refs/pull/7/head"}
    assert journal.push("", A, action="opened", **pull)
    assert not journal.push("", A, action="changed", **pull)
    assert journal.push(A, B, action="changed", **pull)
    assert journal.push("", B, action="closed", **pull)
    assert journal.push("", B, action="opened", **pull)


def test_what_is_not_heard_of_again_is_forgotten(monkeypatch: Any) -> None:
    monkeypatch.setattr(told, "MAX_TIPS", 3)
    journal = Journal()
    for number in (1, 2, 3, 1, 4):
        journal.push("", A, ref=f"refs/heads/{number}")
    assert [key[-1] for key in journal.cluster.picture.tips] == ["3", "1", "4"]


def asked(build: str, source: str, data: dict[str, str]) -> BuildRequested:
    trigger = Trigger(kind="push", source=source, data=data)
    return BuildRequested(at=moment(), build=build, job="a", spec=Spec(), trigger=trigger)


def test_a_failure_is_kept_until_the_rule_sets_off_a_build() -> None:
    journal = Journal()
    journal(TriggerFailed(at=moment(), build="x", job="a", rule="a:r", cause=1, why="no field"))
    assert journal.cluster.picture.failures["a:r"].why == "no field"
    journal(asked("y", "a:other", {}))
    assert journal.cluster.picture.failures
    journal(asked("z", "a:r", {}))
    assert not journal.cluster.picture.failures


def test_a_forge_is_told_until_the_last_word_also_of_what_was_sealed() -> None:
    journal = Journal()
    statuses = journal.cluster.picture.statuses
    journal(asked("x", "a:r", FORGE))
    journal(asked("y", "a:r", {"branch": "main"}))
    assert statuses == {"x": ""}
    journal(StatusPosted(at=moment(), build="x", state="queued"))
    assert statuses == {"x": "queued"}
    journal(BuildCancelled(at=moment(), build="x"))
    build = journal.cluster.picture.builds["x"]
    journal(HistorySealed(at=moment(), through=journal.seq))
    assert statuses == {"x": "queued"}
    journal(StatusPosted(at=moment(), build="x", state="cancelled", final=True))
    assert statuses == {}
    journal(StatusPosted(at=moment(), build="x", state="cancelled", final=True))
    assert statuses == {}
    journal(BuildRetried(at=moment(), build="x", record=replace(build, attempt=1)))
    assert statuses == {"x": ""}, "another attempt has another end"
