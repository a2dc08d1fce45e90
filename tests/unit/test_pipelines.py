"""From wishes to plans, and needs across jobs: what is refused, and in which words."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from tests.harness.joined import Pipelines, defined, script

from rota.core.definitions import Definitions, check_changes
from rota.core.paused import Paused
from rota.core.pipelines import Plan, Wish, plan
from rota.core.states import Result
from rota.errors import ConflictError, InputError, NotFoundError, RotaError


def planned(definitions: Definitions, job: str, **given: object) -> Plan:
    wish = Wish(id="w", job=job, **given)  # type: ignore[arg-type]
    return plan(definitions, "w", [wish], lambda _: None)


def refusal(definitions: Definitions, job: str, **given: object) -> RotaError:
    with pytest.raises(RotaError) as caught:
        planned(definitions, job, **given)
    return caught.value


def test_needs_come_before_what_needs_them_with_their_parameters() -> None:
    jobs = defined(
        {
            "build": "params = { arch = 'x86', debug = false }",
            "test": "params = { arch = 'x86' }\n"
            "needs = [{ job = 'build', params = { arch = '{arch}', debug = true } }]",
        }
    )
    build, test = planned(jobs, "test", params={"arch": "arm"}).builds
    assert (build.job, build.params) == ("build", {"arch": "arm", "debug": True})
    assert (build.parent, build.trigger.kind, build.trigger.source) == ("w", "need", "w")
    assert [edge.build for edge in test.needs] == [build.build]
    assert test.needs[0].results == (Result.PASSED,)


def test_a_plan_is_the_same_each_time_and_another_one_in_another_pipeline() -> None:
    jobs = defined({"a": "", "b": 'needs = ["a"]'})
    assert planned(jobs, "b") == planned(jobs, "b")
    other = plan(jobs, "x", [Wish(id="x", job="b")], lambda _: None)
    assert other.builds[0].build != planned(jobs, "b").builds[0].build


def test_only_leaves_the_needs_out_and_priority_goes_to_all() -> None:
    jobs = defined({"a": "", "b": 'needs = ["a"]'})
    assert [it.job for it in planned(jobs, "b", only=True).builds] == ["b"]
    found = planned(jobs, "b", priority=7)
    assert {found.specs[it.spec].priority for it in found.builds} == {7}
    assert len(found.specs) == 1


def test_an_optional_need_is_left_out_where_it_cannot_be() -> None:
    jobs = defined({"b": 'needs = [{ job = "a", optional = true }]'})
    assert [it.job for it in planned(jobs, "b").builds] == ["b"]


def test_labels_of_a_cell_have_its_values() -> None:
    jobs = defined({"m": 'labels = "os={os} && x"\nmatrix = { os = ["linux", "mac"] }'})
    found = planned(jobs, "m")
    labels = [found.specs[it.spec].labels for it in found.builds]
    assert labels[:2] == ["os=linux && x", "os=mac && x"]


def test_given_axes_choose_cells() -> None:
    jobs = defined({"m": "matrix = { n = [1, 2], os = ['linux', 'mac'] }"})
    cells = [it.cell for it in planned(jobs, "m", params={"n": "2"}).builds if it.cell]
    assert cells == [{"n": 2, "os": "linux"}, {"n": 2, "os": "mac"}]
    error = refusal(jobs, "m", params={"n": "3"})
    assert error.message == "no cell of m's matrix has n=3"
    assert error.hint == "there is n=1 or n=2"


def test_a_need_whose_job_is_not_there_is_named() -> None:
    jobs = defined({"b": 'needs = [{ job = "a", optional = true }]', "build": ""})
    bad = replace(jobs.jobs["b"].job.needs[0], job="bild", optional=False)
    jobs = _with_needs(jobs, "b", bad)
    error = refusal(jobs, "b")
    assert isinstance(error, NotFoundError)
    assert error.message == "b needs bild, and there is no such job"
    assert error.hint == "did you mean 'build'?"


def test_a_need_that_is_paused_is_named_and_who_paused_it() -> None:
    jobs = defined({"a": "", "b": 'needs = ["a"]'})
    paused = replace(jobs.jobs["a"], paused=Paused(by="ann", reason="the disk"))
    error = refusal(replace(jobs, jobs={**jobs.jobs, "a": paused}), "b")
    assert isinstance(error, ConflictError)
    assert error.message == "b needs a, which is paused by ann: the disk"


def test_a_need_that_cannot_take_its_parameters_is_named() -> None:
    jobs = defined({"a": "params = { n = { type = 'int' } }", "b": 'needs = ["a"]'})
    error = refusal(jobs, "b")
    assert isinstance(error, InputError)
    assert error.message == "b needs a, which cannot take these parameters"
    assert error.problems == ("parameter n is missing, it is an integer",)
    assert error.hint == "see jobs/b:4"


def test_definitions_that_raced_into_a_circle_are_refused_at_the_request() -> None:
    jobs = defined({"a": "", "b": 'needs = ["a"]'})
    back = replace(jobs.jobs["b"].job.needs[0], job="b")
    error = refusal(_with_needs(jobs, "a", back), "b")
    assert error.message == "b would wait for itself: b → a → b"


def test_too_many_builds_at_once_are_refused() -> None:
    axis = list(range(200))
    jobs = {f"m{n}": f"matrix = {{ n = {axis} }}" for n in range(6)}
    all_ = ", ".join(f'"{name}"' for name in jobs)
    error = refusal(defined({**jobs, "top": f"needs = [{all_}]"}), "top")
    assert error.message == "m4 would come to more than 1000 builds at once, with its needs"


def test_an_unmet_need_that_was_there_before_ends_a_build_at_once() -> None:
    it = Pipelines(base="", top='needs = ["base"]', more='needs = ["base"]', script="")
    it.request("script")
    it.start("script")
    it.request("top", inside="script")
    it.run("base", code=1)
    it.seal()
    it.request("more", inside="script")
    assert it["more"].message == "it needs base#1, failed"


def _with_needs(jobs: Definitions, name: str, *needs: object) -> Definitions:
    definition = jobs.jobs[name]
    changed = replace(definition, job=replace(definition.job, needs=needs))
    return replace(jobs, jobs={**jobs.jobs, name: changed})


# -- where needs are pushed ----------------------------------------------------------------------


def problems(changes: dict[str, str], staying: dict[str, str], removed: str = "") -> list[str]:
    after = {f"jobs/{name}" for name in {*changes, *staying}} - {f"jobs/{removed}"}
    return [
        str(problem)
        for problem in check_changes(
            {f"jobs/{name}": script(text).encode() for name, text in changes.items()},
            after,
            needing={f"jobs/{name}": script(text).encode() for name, text in staying.items()},
            removed=[f"jobs/{removed}"] if removed else [],
        )
    ]


def test_a_circle_is_an_error_at_the_need_that_closes_it() -> None:
    assert problems({"a": 'needs = ["c"]'}, {"b": 'needs = ["a"]', "c": 'needs = ["b"]'}) == [
        "jobs/a:4:12: a would wait for itself: a → c → b → a"
    ]
    assert problems({"a": 'needs = ["a"]'}, {}) == ["jobs/a:4:12: a would wait for itself: a → a"]


def test_a_need_of_no_job_is_an_error_with_the_nearest_name() -> None:
    assert problems({"a": 'needs = ["web/bild"]'}, {"web/build": ""}) == [
        "jobs/a:4:12: a needs web/bild, and there is no such job (did you mean 'web/build'?)"
    ]


def test_a_job_that_others_need_cannot_go() -> None:
    assert problems({}, {"b": 'needs = ["a"]'}, removed="a") == [
        "jobs/b:4:12: b needs a, which would be removed"
    ]


def test_a_fault_that_was_there_before_stops_nobody() -> None:
    assert problems({"x": ""}, {"b": 'needs = ["gone"]'}) == []


def test_a_parameter_that_the_needed_job_has_not_is_an_error() -> None:
    found = problems(
        {"a": "params = { n = 1 }", "b": 'needs = [{ job = "a", params = { m = "1" } }]'}, {}
    )
    assert found == ["jobs/b:4:12: a has no parameter m, it has n"]
