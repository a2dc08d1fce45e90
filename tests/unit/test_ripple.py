"""One build's end moves others: needs, groups, trees, lanes, and what comes back by a retry."""

from __future__ import annotations

import pytest
from tests.harness.facts import moment
from tests.harness.joined import Pipelines

from rota.core.decide import Claim, View, decide
from rota.core.events import BuildReleased, BuildStarted, BuildWaiting
from rota.core.job import Reason
from rota.core.states import State

DIAMOND = {
    "base": "",
    "left": 'needs = ["base"]',
    "right": 'needs = ["base"]',
    "top": 'needs = ["left", "right"]',
}
MATRIX = {"m": "matrix = { n = [1, 2, 3] }", "after": 'needs = ["m"]'}


def test_a_diamond_runs_from_its_base_to_its_top_and_each_build_once() -> None:
    it = Pipelines(**DIAMOND)
    it.request("top")
    assert it.now("base", "left", "right", "top") == ["queued", "held", "held", "held"]
    it.run("base")
    assert it.now("left", "right", "top") == ["queued", "queued", "held"]
    it.run("left")
    assert it.now("top") == ["held"]
    it.run("right")
    assert it.now("top") == ["queued"]


def test_a_need_that_fails_ends_all_that_wait_for_it_and_says_which_it_was() -> None:
    it = Pipelines(**DIAMOND)
    it.request("top")
    it.run("base", code=1)
    assert it.now("left", "right", "top") == ["cancelled"] * 3
    assert {it[job].reason for job in ("left", "right", "top")} == {Reason.UNMET}
    assert it["left"].message == "it needs base#1, failed"
    assert it["top"].message == "it needs left#1, cancelled"


def test_a_need_may_accept_other_results() -> None:
    it = Pipelines(base="", report='needs = [{ job = "base", result = ["failed"] }]')
    it.request("report")
    it.run("base", code=1)
    assert it.now("report") == ["queued"]
    it = Pipelines(base="", report='needs = [{ job = "base", result = ["failed"] }]')
    it.request("report")
    it.run("base")
    assert it["report"].message == "it needs base#1, passed"


def test_a_build_outlives_the_memory_of_what_it_needed() -> None:
    it = Pipelines(a="", b="", c='needs = ["a", "b"]')
    it.request("c")
    it.run("a")
    it.seal()
    it.run("b")
    assert it.now("c") == ["queued"]


def test_several_wishes_of_one_cause_meet_in_their_needs() -> None:
    it = Pipelines(build="params = { branch = 'main' }", test='needs = ["build"]')
    it.request("build", "test", params={}, data={"branch": "x"})
    assert [build.job for build in it.all()] == ["build", "test"]
    it.run("build")
    assert it.now("test") == ["queued"]


def test_a_child_shares_what_its_pipeline_has_built_already() -> None:
    it = Pipelines(base="", top='needs = ["base"]', more='needs = ["base"]')
    it.request("top")
    it.run("base")
    it.start("top")
    it.seal()
    it.request("more", inside="top")
    assert it.now("base", "more") == ["passed", "queued"]
    assert (it["more"].pipeline, it["more"].parent) == (it["top"].id, it["top"].id)


def test_a_request_that_was_overtaken_by_a_seal_changes_nothing() -> None:
    it = Pipelines(base="", top='needs = ["base"]', more='needs = ["base"]')
    it.request("top")
    it.run("base")
    it.start("top")
    seen = it.cluster.picture.seq
    it.seal()
    it.request("more", inside="top", seen=seen)
    assert [build.job for build in it.all()] == ["top", "base"]


# -- groups ---------------------------------------------------------------------------------------


def test_a_group_ends_with_its_last_cell_and_has_the_worst_result() -> None:
    it = Pipelines(**MATRIX)
    it.request("after")
    assert it.now("m#1", "m#2", "m#3", "m#4", "after") == [*["queued"] * 3, "held", "held"]
    it.run("m#1", "m#3")
    it.run("m#2", code=1)
    assert it.now("m#4", "after") == ["failed", "cancelled"]
    assert (it["m#4"].reason, it["m#4"].message) == (Reason.GROUP, "1 failed, 2 passed")
    assert it["after"].message == "it needs m#4, failed"


def test_fail_fast_ends_the_other_cells_and_says_why() -> None:
    it = Pipelines(m="matrix = { n = [1, 2, 3, 4], fail_fast = true, max_parallel = 3 }")
    it.request("m")
    it.start("m#1")
    it.run("m#2", code=1)
    assert it.now("m#3", "m#4", "m#5") == ["cancelled", "cancelled", "held"]
    assert it["m#3"].message == "fail_fast: m#2 failed"
    assert it["m#1"].cancelled_by == "m#5"
    it.finish("m#1", reason=Reason.CANCELLED)
    assert it.now("m#1", "m#5") == ["cancelled", "failed"]


def test_no_more_cells_than_max_parallel_are_under_way() -> None:
    it = Pipelines(m="matrix = { n = [1, 2, 3, 4], max_parallel = 2 }")
    it.request("m")
    assert it.now("m#1", "m#2", "m#3", "m#4") == ["queued", "queued", "held", "held"]
    it.run("m#2")
    assert it.now("m#1", "m#3", "m#4") == ["queued", "queued", "held"]
    it.run("m#1", "m#3", "m#4")
    assert it.now("m#5") == ["passed"]


def test_a_group_of_256_cells_fails_fast_in_one_event() -> None:
    axis = list(range(256))
    it = Pipelines(m=f"matrix = {{ n = {axis}, fail_fast = true }}")
    it.request("m")
    it.run("m#1", code=1)
    assert it.now("m#2", "m#256", "m#257") == ["cancelled", "cancelled", "failed"]


def test_each_cell_has_its_own_needs_and_shared_ones_are_built_once() -> None:
    it = Pipelines(
        lib='params = { n = "0" }',
        tool="",
        m='matrix = { n = [1, 2] }\nneeds = ["tool", { job = "lib", params = { n = "{n}" } }]',
    )
    it.request("m")
    assert sorted(str(b.params) for b in it.all() if b.job == "lib") == ["{'n': '1'}", "{'n': '2'}"]
    it.run("tool", "lib#2")
    assert it.now("m#1", "m#2") == ["held", "queued"]


def test_a_group_that_is_held_holds_its_cells() -> None:
    it = Pipelines(**MATRIX)
    group = it.request("m", held=True)
    assert it.now("m#1", "m#2", "m#3") == ["held"] * 3
    it.fold(BuildReleased(at=moment(), build=group))
    assert it.now("m#1", "m#2", "m#3", "m#4") == [*["queued"] * 3, "held"]


def test_a_build_that_is_held_waits_for_a_word_and_for_its_needs() -> None:
    it = Pipelines(**DIAMOND)
    top = it.request("top", held=True)
    it.run("base", "left", "right")
    assert it.now("top") == ["held"]
    it.fold(BuildReleased(at=moment(), build=top))
    assert it.now("top") == ["queued"]


# -- trees ----------------------------------------------------------------------------------------


def test_one_event_ends_a_whole_tree() -> None:
    it = Pipelines(**DIAMOND)
    it.request("top")
    it.start("base")
    change = it.cancel("top")
    assert {build.job for build in change.builds} == {"base", "left", "right", "top"}
    assert it.now("left", "right", "top", "base") == [*["cancelled"] * 3, "running"]
    assert {it[job].reason for job in ("left", "right", "top")} == {Reason.CANCELLED}
    assert it["base"].cancelled_by == "bob"


def test_what_others_need_as_well_is_spared() -> None:
    it = Pipelines(**DIAMOND, other='needs = ["base"]')
    it.request("top", "other")
    it.cancel("top")
    assert it.now("top", "left", "right", "base", "other") == [*["cancelled"] * 3, "queued", "held"]
    it.cancel("other")
    assert it.now("base", "other") == ["cancelled", "cancelled"]


def test_children_of_a_script_end_with_it_also_when_it_has_left_the_memory() -> None:
    it = Pipelines(script="", child="")
    it.request("script")
    it.start("script")
    it.request("child", inside="script")
    it.finish("script")
    it.seal()
    it.cancel("script")
    assert it.now("child") == ["cancelled"]


def test_a_claim_that_raced_with_the_cancel_of_a_tree_is_void() -> None:
    it = Pipelines(**DIAMOND)
    it.request("top")
    it.cancel("top")
    it.fold(BuildStarted(at=moment(), agent="p", build=it["base"].id, attempt=1))
    assert it.now("base") == ["cancelled"]


def test_a_cancelled_group_ends_when_its_cells_have() -> None:
    it = Pipelines(**MATRIX)
    it.request("m")
    it.start("m#1")
    it.cancel("m#4")
    assert it.now("m#1", "m#2", "m#3", "m#4") == ["running", "cancelled", "cancelled", "held"]
    it.finish("m#1", reason=Reason.CANCELLED)
    assert (it["m#4"].result, it["m#4"].reason) == ("cancelled", Reason.CANCELLED)


def test_a_cancel_of_one_build_alone_leaves_what_it_asked_for() -> None:
    it = Pipelines(**DIAMOND)
    it.request("top")
    it.cancel("top", tree=False)
    assert it.now("top", "left", "base") == ["cancelled", "held", "queued"]


# -- lanes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "running"), [("queued", None), ("running", "d#2")])
def test_a_newer_build_of_a_lane_ends_the_older_ones(policy: str, running: str | None) -> None:
    it = Pipelines(d=f"supersede = '{policy}'\nsupersede_key = '{{branch}}'")
    it.request("d", data={"branch": "x"})
    it.start("d#1")
    it.request("d", data={"branch": "x"})
    it.request("d", data={"branch": "y"})
    assert it.now("d#1", "d#2", "d#3") == ["running", "queued", "queued"]
    assert it["d#1"].cancelled_by == running
    it.request("d", data={"branch": "x"})
    assert it.now("d#2", "d#3", "d#4") == ["cancelled", "queued", "queued"]
    assert (it["d#2"].reason, it["d#2"].superseded_by) == (Reason.SUPERSEDED, "d#4")


def test_a_superseded_build_takes_its_needs_along() -> None:
    it = Pipelines(base="", d="supersede = 'running'\nneeds = ['base']\nretry = { times = 3 }")
    it.request("d")
    it.start("base")
    it.request("d")
    assert it.now("d#1", "d#2") == ["cancelled", "held"]
    assert it["base#1"].superseded_by == "d#2"
    it.finish("base#1", reason=Reason.CANCELLED)
    assert it["base#1"].reason is Reason.SUPERSEDED


def test_without_the_branch_that_its_key_asks_for_a_build_supersedes_none() -> None:
    it = Pipelines(d="supersede = 'running'\nsupersede_key = '{branch}'")
    it.request("d")
    it.request("d")
    assert it.now("d#1", "d#2") == ["queued", "queued"]


# -- retries --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sealed", [False, True])
def test_a_retry_of_the_root_tries_again_what_failed_and_no_more(sealed: bool) -> None:
    it = Pipelines(**DIAMOND)
    it.request("top")
    it.run("base", "right")
    it.run("left", code=1)
    if sealed:
        it.seal()
    assert it.retry("top") == ["left#1", "top#1"]
    assert it.now("base", "left", "right", "top") == ["passed", "queued", "passed", "held"]
    it.run("left")
    assert it.now("top") == ["queued"]


@pytest.mark.parametrize("sealed", [False, True])
def test_a_retry_of_what_failed_lets_what_waited_for_it_go_on(sealed: bool) -> None:
    it = Pipelines(**DIAMOND)
    it.request("top")
    it.run("base", code=1)
    if sealed:
        it.seal()
    assert it.retry("base") == ["base#1", "left#1", "right#1", "top#1"]
    it.run("base", "left", "right", "top")
    assert it.now("top") == ["passed"]


@pytest.mark.parametrize("which", ["m#2", "m#4"])
def test_a_retry_of_a_cell_or_its_group_runs_what_did_not_pass(which: str) -> None:
    it = Pipelines(**MATRIX)
    it.request("after")
    it.run("m#1", "m#3")
    it.run("m#2", code=1)
    it.seal()
    assert it.retry(which) == ["m#2", "m#4", "after#1"]
    assert it.now("m#1", "m#2", "m#4", "after") == ["passed", "queued", "held", "held"]
    it.run("m#2")
    assert it.now("m#4", "after") == ["passed", "queued"]


# -- scripts that wait ----------------------------------------------------------------------------


def test_a_script_that_waits_lends_its_slot() -> None:
    it = Pipelines(script="", child="")
    it.request("script")
    it.start("script")
    it.request("child", inside="script")
    view = View(name="p", labels={}, slots=1)
    assert decide(it.cluster, view, moment()).effects == ()
    script = it["script"].id
    it.fold(BuildWaiting(at=moment(), agent="p", build=script, attempt=1))
    (claim,) = decide(it.cluster, view, moment()).effects
    assert isinstance(claim, Claim)
    assert claim.build == it["child"].id
    it.fold(BuildWaiting(at=moment(), agent="p", build=script, attempt=1, over=True))
    assert decide(it.cluster, view, moment()).effects == ()
    it.fold(BuildWaiting(at=moment(), agent="p", build=script, attempt=2))
    assert not it["script"].is_waiting
    it.finish("script")
    assert it.cluster.waiting == {}
    assert it["script"].state is State.FINISHED
