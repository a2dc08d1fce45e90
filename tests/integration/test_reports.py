"""Reports of tests and coverage, through a whole agent: read, judged, kept, compared, listed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from tests.harness.agent import Here

from rota.adapters.scripted import Plan
from rota.adapters.sqlite.cases import SqliteCases
from rota.http.openapi import describe

HEADER = "#!/bin/sh\n# /// script\n# [tool.rota]\n{}\n# ///\necho\n"
DOCUMENT = describe()


def script(*lines: str) -> str:
    return HEADER.format("\n".join(f"# {line}" for line in lines))


def junit(*cases: str) -> str:
    """Return a report; a case is its name, with ``!`` before it if it failed, ``~`` if skipped."""
    texts = []
    for case in cases:
        name = case.lstrip("!~")
        inner = "<failure message='expected 1'>at C.x(C.java:7)</failure>" if case[0] == "!" else ""
        inner = "<skipped/>" if case[0] == "~" else inner
        texts.append(f"<testcase classname='C' name='{name}' time='0.25'>{inner}</testcase>")
    return f"<testsuite name='s'>{''.join(texts)}</testsuite>"


async def build(
    here: Here, files: dict[str, str | bytes], *, job: str = "t", output: bytes = b"", code: int = 0
) -> dict[str, Any]:
    """Run a build whose script leaves these files, and return it."""
    here.plans[job] = Plan(hangs=True, code=code, output=output)
    asked = await here.run(job)
    await end(here, asked["id"], files)
    return await here.finished(asked["id"])


async def end(here: Here, build_id: str, files: dict[str, str | bytes]) -> None:
    attempt = await here.running(build_id)
    for name, data in files.items():
        path = attempt._task.cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    attempt.finish()


async def told_of(here: Here, build_id: str, query: str = "") -> dict[str, Any]:
    reply = await here.ask("GET", f"/v1/builds/{build_id}/tests{query}")
    assert reply.status == 200, reply.text
    check("/v1/builds/{build}/tests", reply.json())
    return dict(reply.json())


def check(path: str, value: object) -> None:
    responses = DOCUMENT["paths"][path]["get"]["responses"]
    schema = responses["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(value, {**schema, "components": DOCUMENT["components"]})


def remarks(build: dict[str, Any]) -> list[str]:
    return [note["message"] for note in build["annotations"]]


async def test_tests_that_failed_fail_a_build_whose_script_passed(here: Here) -> None:
    await here.put("t", script('tests = ["r/*.xml", "out.tap"]'))
    files: dict[str, str | bytes] = {
        "r/a.xml": junit("adds", "!removes", "~waits"),
        "r/b.xml": junit("other"),
        "out.tap": "1..1\nnot ok 1 - tapped\n",
    }
    done = await build(here, files, output=b"one\nFAIL C.removes\n")
    assert (done["result"], done["reason"], done["message"]) == (
        "failed",
        "reports",
        "2 of 5 tests failed",
    )
    tally = done["tests"]
    assert (tally["passed"], tally["failed"], tally["skipped"], tally["files"]) == (2, 2, 1, 3)
    assert tally["failures"][0] == {
        "test": "C.removes",
        "message": "expected 1",
        "file": "C.java",
        "line": 7,
        "offset": 4,
    }
    assert remarks(done) == []
    view = await told_of(here, done["id"])
    titles = [case["name"] for case in view["cases"]]
    assert titles == ["removes", "tapped", "adds", "waits", "other"], "what failed comes first"
    assert view["cases"][0]["offset"] == 4
    assert [case["name"] for case in view["slowest"]][:2] == ["adds", "removes"]
    view = await told_of(here, done["id"], "?bad=true&match=REM&limit=1")
    assert [case["name"] for case in view["cases"]] == ["removes"]
    assert view["total"] == 1


async def test_where_failing_tests_do_not_fail_they_are_remarked(here: Here) -> None:
    await here.put("t", script('tests = { files = "a.xml", fail = false }'))
    done = await build(here, {"a.xml": junit("!x")})
    assert (done["result"], remarks(done)) == ("passed", ["1 of 1 test failed"])


async def test_a_script_that_failed_has_failed_for_that(here: Here) -> None:
    await here.put("t", script('tests = { files = "a.xml", required = true }'))
    done = await build(here, {"a.xml": junit("!x", "y")}, code=3)
    assert (done["reason"], done["exit_code"], done["message"]) == (
        "script",
        3,
        "1 of 2 tests failed",
    )
    done = await build(here, {}, code=3)
    assert (done["reason"], done["message"]) == ("script", "")


async def test_what_is_wrong_with_files_is_told_and_loses_no_build(here: Here) -> None:
    await here.put("t", script('tests = ["*.xml", "none/*.xml", "deep/**/*.tap"]'))
    here.plans["t"] = Plan(hangs=True)
    asked = await here.run("t")
    work = (await here.running(asked["id"]))._task.cwd
    (work / "out.xml").symlink_to("/etc/passwd")
    (work / "loop.xml").symlink_to("loop.xml")
    (work / "folder.xml").mkdir()
    os.mkfifo(work / "pipe.xml")
    (work / "old.xml").write_text(junit("old"))
    os.utime(work / "old.xml", (1, 1))
    await end(
        here,
        asked["id"],
        {
            "broken.xml": junit("a", "b")[:-30],
            "bomb.xml": '<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><testsuite/>',
            "empty.xml": "",
            "page.xml": "<html/>",
            "deep/x/a.tap": "hello\n",
            "good.xml": junit("good"),
        },
    )
    done = await here.finished(asked["id"])
    assert done["result"] == "passed"
    assert (done["tests"]["passed"], done["tests"]["partial"]) == (2, True)
    told = remarks(done)
    for part in (
        "tests: out.xml is a link that leads out of the workspace: it is not read",
        "tests: loop.xml cannot be read: ",
        "tests: folder.xml is a folder; name the files in it, such as 'folder.xml/*.xml'",
        "tests: pipe.xml is no regular file: it is not read",
        (
            "tests: old.xml is from before this attempt, left over in the workspace or a cache: not"
            " counted (stale = true counts it)"
        ),
        "tests: broken.xml is broken in line 1, column ",
        "tests: bomb.xml declares entities of its own: it is not read",
        "tests: empty.xml is empty",
        "tests: page.xml is no JUnit report: its first element is <html>",
        "tests: nothing matches 'none/*.xml'",
        "tests: deep/x/a.tap is no report of tests: neither JUnit's XML nor TAP",
    ):
        assert [text for text in told if text.startswith(part)], (part, told)
    assert any(text.endswith("; 1 tests before that are counted") for text in told)
    assert len(told) == 11


async def test_a_required_report_that_is_not_there_fails_the_build(here: Here) -> None:
    await here.put(
        "t",
        script(
            'tests = { files = "a.xml", required = true }',
            'coverage = { files = "c.xml", required = true }',
        ),
    )
    done = await build(here, {})
    assert (done["result"], done["reason"]) == ("failed", "reports")
    assert done["message"] == (
        "no report of tests could be read, and one is required; "
        "no report of coverage could be read, and one is required"
    )
    assert remarks(done) == ["tests: nothing matches 'a.xml'", "coverage: nothing matches 'c.xml'"]


async def test_old_files_count_where_that_is_asked_for(here: Here) -> None:
    await here.put("t", script('tests = { files = "a.xml", stale = true }'))
    here.plans["t"] = Plan(hangs=True)
    asked = await here.run("t")
    attempt = await here.running(asked["id"])
    (attempt._task.cwd / "a.xml").write_text(junit("old"))
    os.utime(attempt._task.cwd / "a.xml", (1, 1))
    attempt.finish()
    done = await here.finished(asked["id"])
    assert (done["tests"]["passed"], remarks(done)) == (1, [])


async def test_what_a_script_masks_stands_in_no_report(here: Here) -> None:
    await here.put("t", script('tests = "a.xml"'))
    report = junit("x").replace(
        "name='x' time='0.25'>",
        "name='hunter2-x'><failure message='got hunter2'>hunter2\nat</failure>",
    )
    done = await build(here, {"a.xml": report}, output=b"::add-mask::hunter2\n")
    assert done["tests"]["failures"][0]["test"] == "C.*******-x"
    view = json.dumps(await told_of(here, done["id"]))
    assert "hunter2" not in view + json.dumps(done)
    assert "got *******" in view


async def test_coverage_is_a_metric_with_a_floor_and_against_the_build_before(here: Here) -> None:
    await here.put("t", script('coverage = { files = "c.xml", minimum = 50, drop = 1.5 }'))

    async def run(covered: int) -> dict[str, Any]:
        report = f'<coverage lines-covered="{covered}" lines-valid="1000"/>'
        return await build(here, {"c.xml": report}, output=b"::metric name=size,unit=B::7\n")

    first = await run(600)
    assert first["metrics"] == [
        {"name": "size", "value": 7, "unit": "B"},
        {"name": "coverage", "value": 60, "unit": "%"},
    ]
    assert (await run(590))["result"] == "passed"
    third = await run(570)
    assert (third["result"], third["message"]) == (
        "failed",
        "coverage dropped by 2 points from 59 % of t#2, more than 1.5",
    )
    fourth = await run(480)
    assert fourth["message"] == (
        "coverage is 48 %, less than the minimum of 50 %; "
        "coverage dropped by 11 points from 59 % of t#2, more than 1.5"
    )
    reply = await here.ask("GET", "/v1/jobs/t/metrics?name=coverage")
    check("/v1/jobs/{job}/metrics", reply.json())
    (metric,) = reply.json()
    assert [point["value"] for point in metric["points"]] == [60, 59, 57, 48]
    assert (metric["last"], metric["change"], metric["change_main"]) == (48, -9, None)
    names = [it["name"] for it in (await here.ask("GET", "/v1/jobs/t/metrics")).json()]
    assert names == ["coverage", "duration", "log", "size"]
    missing = await here.ask("GET", "/v1/jobs/t/metrics?name=nosuch")
    assert missing.status == 404
    assert missing.json()["detail"] == "no build of t told a metric 'nosuch'"
    assert missing.json()["hint"] == "its metrics: coverage, duration, log, size"


async def test_what_is_new_what_is_mended_and_what_is_flaky(here: Here) -> None:
    await here.put("t", script('tests = "a.xml"', "retry = { times = 1, on = ['reports'] }"))
    here.plans["t"] = Plan(hangs=True)
    asked = await here.run("t")
    await end(here, asked["id"], {"a.xml": junit("a", "!wobbly", "!b")})
    await here.until(lambda: (here.service.world.find(asked["id"]) or fail()).attempt == 2)
    await end(here, asked["id"], {"a.xml": junit("a", "wobbly", "!b")})
    first = await here.finished(asked["id"])
    assert [it["tests"]["failed"] for it in first["former"]] == [2]
    assert first["tests"]["failed"] == 1
    view = await told_of(here, asked["id"])
    assert (view["former"], view["new"], view["flaky"]) == ("", [], [])
    former = await told_of(here, asked["id"], "?attempt=1&bad=true")
    assert [case["name"] for case in former["cases"]] == ["wobbly", "b"]

    here.plans["t"] = Plan(hangs=True)
    asked = await here.run("t")
    for _ in range(2):
        await here.until(lambda: (here.service.world.find(asked["id"]) or fail()).agent)
        await end(here, asked["id"], {"a.xml": junit("!a", "!wobbly", "b")})
        await here.until(
            lambda: (
                (here.service.world.find(asked["id"]) or fail()).former
                or (here.service.world.find(asked["id"]) or fail()).result
            )
        )
    await here.finished(asked["id"])
    view = await told_of(here, asked["id"])
    assert (view["former"], view["new"], view["fixed"]) == ("t#1", ["C.a", "C.wobbly"], ["C.b"])
    assert view["flaky"] == ["C.wobbly"]

    reply = await here.ask("GET", "/v1/jobs/t/tests")
    check("/v1/jobs/{job}/tests", reply.json())
    history = reply.json()
    assert (history["builds"], history["missing"], history["tests"]) == (2, 0, 3)
    assert [it["test"] for it in history["failing"]] == ["C.a", "C.wobbly"]
    assert [(it["test"], it["flaky"], it["failed"], it["ran"]) for it in history["flaky"]] == [
        ("C.wobbly", 1, 3, 4)
    ]
    one = (await here.ask("GET", "/v1/jobs/t/tests?case=wobbly")).json()
    assert [(run["build"], run["attempt"], run["outcome"]) for run in one["runs"]] == [
        ("t#2", 2, "failed"),
        ("t#2", 1, "failed"),
        ("t#1", 2, "passed"),
        ("t#1", 1, "failed"),
    ]
    several = await here.ask("GET", "/v1/jobs/t/tests?case=C.")
    assert several.status == 400
    assert "several tests contain 'C.': 'C.a', 'C.b', 'C.wobbly'" in several.json()["detail"]
    nothing = await here.ask("GET", "/v1/jobs/t/tests?case=nosuch")
    assert nothing.json()["detail"] == "no build of t had a test 'nosuch'"


async def test_a_group_has_the_tests_of_its_cells(here: Here) -> None:
    await here.put("t", script('tests = "a.xml"', 'matrix.os = ["a", "b"]', "params.os = 'a'"))
    here.plans["t"] = Plan(hangs=True)
    group = await here.run("t")
    cells = [edge["build"] for edge in group["group"]["cells"]]
    await end(here, cells[0], {"a.xml": junit("x", "!y")})
    await end(here, cells[1], {"a.xml": junit("x", "y")})
    await here.finished(group["id"])
    view = await told_of(here, group["id"])
    assert (view["tests"]["passed"], view["tests"]["failed"], view["total"]) == (3, 1, 4)
    assert [cell["cell"] for cell in view["cells"]] == [{"os": "a"}, {"os": "b"}]
    assert view["cells"][0]["tests"]["failures"][0]["test"] == "C.y"
    history = (await here.ask("GET", "/v1/jobs/t/tests")).json()
    assert history["flaky"] == [], "what differs between cells is not flaky"


async def test_a_build_without_tests_says_how_to_have_some(here: Here) -> None:
    await here.put("t", plan=Plan(hangs=True))
    asked = await here.run("t")
    attempt = await here.running(asked["id"])
    reply = await here.ask("GET", f"/v1/builds/{asked['id']}/tests")
    assert (reply.status, reply.json()["detail"]) == (
        409,
        "t#1 is running: its reports are read once it is over",
    )
    attempt.finish()
    await here.finished(asked["id"])
    reply = await here.ask("GET", f"/v1/builds/{asked['id']}/tests")
    assert (reply.status, reply.json()["detail"]) == (404, "t#1 reported no tests")
    assert reply.json()["hint"] == 'name the files in its header: tests = ["reports/*.xml"]'
    empty = (await here.ask("GET", "/v1/jobs/t/tests")).json()
    assert (empty["builds"], empty["passing"], empty["failing"]) == (0, None, [])
    assert (await here.ask("GET", "/v1/jobs/nosuch/tests")).status == 404


async def test_tests_whose_file_is_gone_are_told_by_the_record(here: Here) -> None:
    await here.put("t", script('tests = "a.xml"'))
    done = await build(here, {"a.xml": junit("!x")})
    await here.blobs.drop(f"{done['id']}/.rota/tests-1.jsonl.zst")
    view = await told_of(here, done["id"])
    assert (view["tests"]["failed"], view["cases"]) == (1, [])
    assert "was removed" in view["gone"]
    history = (await here.ask("GET", "/v1/jobs/t/tests")).json()
    assert (history["builds"], history["missing"]) == (0, 1)


async def test_a_file_of_tests_that_is_none_is_told_and_passed_over(here: Here) -> None:
    await here.put("t", script('tests = "a.xml"'))
    done = await build(here, {"a.xml": junit("!x")})
    name = f"{done['id']}/.rota/tests-1.jsonl.zst"

    async def rubbish() -> Any:
        yield b"rubbish"

    await here.blobs.put(name, rubbish())
    reply = await here.ask("GET", f"/v1/builds/{done['id']}/tests")
    assert (reply.status, reply.json()["detail"][:20]) == (503, "'.rota/tests-1.jsonl")


def fail() -> Any:
    pytest.fail("there is no such build")


def test_the_index_of_tests_is_not_there_until_it_is_asked_for(tmp_path: Path) -> None:
    index = SqliteCases(tmp_path / "tests.db")
    assert not (tmp_path / "tests.db").exists()
    assert index.runs("t", ["x"]) == []
    assert (tmp_path / "tests.db").exists()
    index.close()


async def test_a_glob_for_all_artifacts_does_not_mean_the_tests_of_two_builds(here: Here) -> None:
    await here.put("one", script('tests = "a.xml"', 'artifacts = ["a.txt"]'))
    await here.put("two", script('tests = "a.xml"', 'artifacts = ["b.txt"]'))
    needs = [f'{{ job = "{job}", artifacts = ["**"] }}' for job in ("one", "two")]
    await here.put("t", script(f"needs = [{', '.join(needs)}]"))
    for job in ("one", "two", "t"):
        here.plans[job] = Plan(hangs=True)
    asked = await here.run("t")
    one, two = (edge["build"] for edge in asked["needs"])
    await end(here, one, {"a.xml": junit("x"), "a.txt": "a"})
    await end(here, two, {"a.xml": junit("y"), "b.txt": "b"})
    attempt = await here.running(asked["id"])
    assert sorted(path.name for path in attempt._task.cwd.iterdir()) == ["a.txt", "b.txt"]
    attempt.finish()
    await here.finished(asked["id"])


async def test_what_is_said_does_not_depend_on_when_an_agent_came_to_know_it(here: Here) -> None:
    await here.put("t", script('tests = "a.xml"'))
    await build(here, {"a.xml": junit("!a", "b", "!c")})
    await build(here, {"a.xml": junit("!d", "!c", "b", "!a")})
    first = (await here.ask("GET", "/v1/jobs/t/tests")).json()
    index = SqliteCases(Path(":memory:"))
    here.service.case_index = index
    assert (await here.ask("GET", "/v1/jobs/t/tests?builds=1")).json()["builds"] == 1
    assert (await here.ask("GET", "/v1/jobs/t/tests")).json() == first
    assert [it["test"] for it in first["failing"]] == ["C.a", "C.c", "C.d"]
    index.close()


async def test_tests_that_are_not_there_yet_are_asked_for_again(here: Here) -> None:
    await here.put("t", script('tests = "a.xml"'))
    done = await build(here, {"a.xml": junit("!a")})
    name = f"{done['id']}/.rota/tests-1.jsonl.zst"
    packed = b"".join([piece async for piece in here.blobs.get(name)])
    await here.blobs.drop(name)
    assert (await here.ask("GET", "/v1/jobs/t/tests")).json()["missing"] == 1

    async def pieces() -> Any:
        yield packed

    await here.blobs.put(name, pieces())
    assert (await here.ask("GET", "/v1/jobs/t/tests")).json()["missing"] == 0
