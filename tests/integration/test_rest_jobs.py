"""Jobs over REST, as somebody with curl and bad intentions meets them."""

import asyncio

import pytest
from tests.harness.agent import Here

from rota.ports.store import MAIN

SCRIPT = b"#!/bin/sh\necho one\n"
FIVE_FAULTS = b"""#!/bin/sh
# /// script
# [tool.rota]
# descripton = "x"
# labels = "linux &&"
# timeout = "soon"
# priority = 1000
# retry = { times = -1 }
# ///
"""


async def commits(here: Here) -> list[str]:
    """Return the first lines of main's commits, by the events that tell of them."""
    return [entry["new"] for entry in (await here.ask("GET", "/v1/events?kind=store.moved")).json()]


async def test_a_script_is_put_as_it_is_and_shown_as_it_was(here: Here) -> None:
    done = await here.ask("PUT", "/v1/jobs/web/test?message=because", body=SCRIPT)
    assert (done.status, done.json()["changed"]) == (200, True)
    shown = await here.ask("GET", "/v1/jobs/web/test")
    assert shown.json()["script"] == SCRIPT.decode()
    assert shown.headers["ETag"] == done.headers["ETag"] == f'"{shown.json()["etag"]}"'
    commit = here.store._commits[done.json()["commit"]]
    assert commit.message == "because"


async def test_a_script_may_come_as_json(here: Here) -> None:
    done = await here.ask("PUT", "/v1/jobs/a", body={"script": "echo\n", "message": "by json"})
    assert done.status == 200
    assert here.store._commits[done.json()["commit"]].message == "by json"


async def test_the_same_text_again_makes_no_commit(here: Here) -> None:
    await here.put("a")
    before = await commits(here)
    again = await here.ask("PUT", "/v1/jobs/a", body=b"#!/bin/sh\necho\n")
    assert (again.status, again.json()["changed"]) == (200, False)
    assert await commits(here) == before


async def test_a_schedule_that_could_not_fire_is_refused(here: Here) -> None:
    on = '{ cron = "0 2 30 2 *" }, { cron = "0 2 * * *", tz = "Berlin" }, '
    on += '{ every = "5m", calendar = "office" }'
    script = f"#!/bin/sh\n# /// script\n# [tool.rota]\n# on = [{on}]\n# ///\n".encode()
    reply = await here.ask("PUT", "/v1/jobs/a", body=script)
    assert reply.status == 400
    assert [problem["message"] for problem in reply.json()["problems"]] == [
        "on[1].cron never comes",
        "on[2].tz is no time zone: 'Berlin'",
    ]
    script = script.replace(b"30 2 *", b"29 2 *").replace(b"Berlin", b"Europe/Berlin")
    reply = await here.ask("PUT", "/v1/jobs/a", body=script)
    assert [problem["message"] for problem in reply.json()["problems"]] == [
        "no calendar is called 'office'"
    ]
    assert (await here.ask("GET", "/v1/jobs/a")).status == 404


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ('"{etag}"', 200),
        ('"other", "{etag}"', 200),
        ("{etag}", 200),
        ("*", 200),
        ('W/"{etag}"', 412),
        ('"other"', 412),
        ('"other", W/"more"', 412),
    ],
)
async def test_if_match_lets_pass_only_who_saw_the_present_text(
    here: Here, named: str, status: int
) -> None:
    etag = await here.put("a")
    reply = await here.ask("PUT", "/v1/jobs/a", body=SCRIPT, If_Match=named.format(etag=etag))
    assert reply.status == status
    if status == 412:
        assert reply.json()["code"] == "conflict.stale"
        assert etag in reply.json()["detail"]
        assert reply.json()["hint"] == "look at the new text, and change that"
        gone = await here.ask("DELETE", "/v1/jobs/a", If_Match='"other"')
        assert gone.status == 412


async def test_if_match_on_what_is_not_there_is_not_found(here: Here) -> None:
    for named in ("*", '"abc"'):
        reply = await here.ask("PUT", "/v1/jobs/a", body=SCRIPT, If_Match=named)
        assert reply.status == 404
        assert reply.json()["hint"] == "without If-Match it would be added"


async def test_if_none_match_star_adds_only_what_is_new(here: Here) -> None:
    first = await here.ask("PUT", "/v1/jobs/a", body=SCRIPT, If_None_Match="*")
    second = await here.ask("PUT", "/v1/jobs/a", body=b"echo two\n", If_None_Match="*")
    assert (first.status, second.status) == (200, 412)
    assert second.json()["detail"] == "there is a job a already"
    assert (await here.ask("GET", "/v1/jobs/a")).json()["script"] == SCRIPT.decode()


async def test_who_has_the_present_text_is_told_so_without_it(here: Here) -> None:
    etag = await here.put("a")
    for named in (f'"{etag}"', f'W/"{etag}"', f'"x", "{etag}"', "*"):
        reply = await here.ask("GET", "/v1/jobs/a", If_None_Match=named)
        assert (reply.status, reply.body) == (304, b"")
        assert reply.headers["ETag"] == f'"{etag}"'
    assert (await here.ask("GET", "/v1/jobs/a", If_None_Match='"x"')).status == 200


async def test_five_faults_come_back_at_once_with_their_places(here: Here) -> None:
    before = await here.seq()
    reply = await here.ask("PUT", "/v1/jobs/a", body=FIVE_FAULTS)
    assert reply.status == 400
    assert reply.headers["Content-Type"] == "application/problem+json"
    problems = reply.json()["problems"]
    assert [problem["line"] for problem in problems] == [4, 5, 6, 7, 8]
    assert all(problem["column"] > 1 and problem["path"] == "jobs/a" for problem in problems)
    assert problems[0]["hint"] == "did you mean 'description'?"
    assert await here.seq() == before
    assert (await here.ask("GET", "/v1/jobs")).json() == []
    checked = await here.ask("POST", "/v1/check", body={"script": FIVE_FAULTS.decode()})
    assert (checked.status, checked.json()["ok"]) == (200, False)
    assert [it["line"] for it in checked.json()["problems"]] == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the script is empty"),
        (b"echo \xff\n", "the script is not UTF-8 at byte 5"),
        (b"#!/bin/sh\n\0\n", "a binary file, not a text"),
        (b"#" * (1024 * 1024 + 1), "limit"),
        (b"#!/bin/sh\r\necho\r\n", "carriage return"),
    ],
)
async def test_what_is_no_script_is_refused_and_changes_nothing(
    here: Here, body: bytes, says: str
) -> None:
    await here.put("a")
    before = await here.seq()
    reply = await here.ask("PUT", "/v1/jobs/a", body=body)
    assert reply.status == 400
    assert says in reply.text
    assert await here.seq() == before
    assert await here.store.head(MAIN) == here.service.world.commit


async def test_a_body_beyond_the_limit_is_refused_as_too_large(here: Here) -> None:
    reply = await here.ask("PUT", "/v1/jobs/a", body=b"#" * (2 * 1024 * 1024 + 1))
    assert reply.status == 413
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert "2097152" in reply.json()["detail"]


@pytest.mark.parametrize(
    "name",
    [
        "a%20b",
        "a%0ab",
        "-a",
        ".a",
        "a/.b",
        "a//b",
        "a/",
        "%2e%2e/x",
        "a.lock",
        "a%00",
        "%C3%A4",
        "x" * 201,
    ],
)
async def test_a_name_that_a_path_or_shell_would_need_quoted_is_refused(
    here: Here, name: str
) -> None:
    reply = await here.ask("PUT", f"/v1/jobs/{name}", body=SCRIPT)
    assert reply.status == 400
    assert reply.json()["detail"].startswith("bad job name ")
    assert reply.json()["hint"].startswith("letters, digits and _ . + -")


async def test_names_with_all_that_is_allowed_work_in_every_verb(here: Here) -> None:
    for name in ("A.b+c-d_e/0", "x/pause", "x/builds", "pause", "builds", "deadbeef"):
        await here.put(name)
        assert (await here.ask("GET", f"/v1/jobs/{name}")).json()["name"] == name
        build = await here.run(name)
        assert build["job"] == name
        assert (await here.ask("POST", f"/v1/jobs/{name}/pause")).status == 200
        assert (await here.ask("POST", f"/v1/jobs/{name}/resume")).status == 200
        assert (await here.ask("DELETE", f"/v1/jobs/{name}")).status == 200


async def test_a_name_cannot_be_a_job_and_a_folder_or_differ_in_case_alone(here: Here) -> None:
    await here.put("web/test")
    for name, says in (
        ("web", "web is the folder of web/test, so it cannot be a job"),
        ("web/test/unit", "web/test is a job, so it cannot be the folder of web/test/unit"),
        ("Web/test", "which differs only in case"),
    ):
        reply = await here.ask("PUT", f"/v1/jobs/{name}", body=SCRIPT)
        assert (reply.status, reply.json()["hint"]) == (409, "another name")
        assert says in reply.json()["detail"]


async def test_an_unknown_job_is_not_found_with_the_name_most_like_it(here: Here) -> None:
    await here.put("web/test")
    for method, path in (
        ("GET", "/v1/jobs/web/tets"),
        ("DELETE", "/v1/jobs/web/tets"),
        ("POST", "/v1/jobs/web/tets/builds"),
        ("POST", "/v1/jobs/web/tets/pause"),
        ("GET", "/v1/builds?job=web/tets"),
    ):
        reply = await here.ask(method, path)
        assert (reply.status, reply.json()["detail"]) == (404, "no job 'web/tets'")
        assert reply.json()["hint"] == "did you mean 'web/test'?"


async def test_pause_and_resume_are_one_commit_each_with_author_and_reason(here: Here) -> None:
    await here.put("a")
    before = len(here.store._commits)
    paused = await here.ask("POST", "/v1/jobs/a/pause", body={"reason": "the database\nmoves"})
    again = await here.ask("POST", "/v1/jobs/a/pause", body={"reason": "another"})
    assert (paused.json()["changed"], again.json()["changed"]) == (True, False)
    assert here.store._commits[paused.json()["commit"]].message == "pause a: the database\nmoves"
    assert (await here.ask("GET", "/v1/jobs/a")).json()["paused"] == "the database\nmoves"
    refused = await here.ask("POST", "/v1/jobs/a/builds")
    assert refused.status == 409
    assert refused.json()["detail"] == "a is paused by root: the database\nmoves"
    assert refused.json()["hint"] == "resume it: rota resume a"
    resumed = await here.ask("POST", "/v1/jobs/a/resume")
    assert resumed.json()["changed"]
    assert not (await here.ask("POST", "/v1/jobs/a/resume")).json()["changed"]
    assert len(here.store._commits) == before + 2
    moved = (await here.ask("GET", "/v1/events?kind=store.moved&limit=2")).json()
    assert {event["by"] for event in moved} == {"root"}


async def test_a_removed_job_takes_its_pause_with_it_and_leaves_its_builds(here: Here) -> None:
    await here.put("a")
    build = await here.run("a")
    await here.finished(build["id"])
    await here.ask("POST", "/v1/jobs/a/pause")
    gone = await here.ask("DELETE", "/v1/jobs/a?message=old")
    assert (gone.status, gone.json()["etag"]) == (200, None)
    assert here.store._commits[gone.json()["commit"]].files.keys() == {"settings.toml"}
    assert (await here.ask("GET", "/v1/builds/a%231")).json()["id"] == build["id"]
    assert len((await here.ask("GET", "/v1/builds?job=a")).json()) == 1
    assert (await here.ask("DELETE", "/v1/jobs/a")).status == 404
    await here.put("a")
    assert (await here.ask("GET", "/v1/jobs/a")).json()["paused"] is None
    assert (await here.run("a"))["number"] == 2


async def test_text_that_git_cannot_keep_is_refused(here: Here) -> None:
    reply = await here.ask("PUT", "/v1/jobs/a?message=a%00b", body=SCRIPT)
    assert (reply.status, "NUL" in reply.json()["detail"]) == (400, True)


async def _line(here: Here) -> list[str]:
    """Return the commits of main; what lost a race and was made again is none of them."""
    found, commit = [], await here.store.head()
    while commit:
        found.append(commit)
        commit = here.store._commits[commit].parent
    return found


async def test_fifty_jobs_put_at_once_all_land_in_one_commit_each(here: Here) -> None:
    before = len(await _line(here))
    replies = await asyncio.gather(
        *(here.ask("PUT", f"/v1/jobs/j{n}", body=SCRIPT) for n in range(50))
    )
    assert {reply.status for reply in replies} == {200}
    assert len({reply.json()["commit"] for reply in replies}) == 50
    assert len(await _line(here)) == before + 50
    listed = (await here.ask("GET", "/v1/jobs?match=j*")).json()
    assert [job["name"] for job in listed] == sorted(f"j{n}" for n in range(50))


async def test_of_twenty_writers_of_one_text_only_one_that_saw_it_wins(here: Here) -> None:
    etag = await here.put("a")
    replies = await asyncio.gather(
        *(
            here.ask("PUT", "/v1/jobs/a", body=f"echo {n}\n".encode(), If_Match=f'"{etag}"')
            for n in range(20)
        )
    )
    assert sorted(reply.status for reply in replies) == [200] + [412] * 19


async def test_of_two_that_rename_a_job_at_once_one_wins(here: Here) -> None:
    etag = await here.put("a")

    async def rename(to: str) -> int:
        await here.ask("PUT", f"/v1/jobs/{to}", body=SCRIPT, If_None_Match="*")
        return (await here.ask("DELETE", "/v1/jobs/a", If_Match=f'"{etag}"')).status

    assert sorted(await asyncio.gather(rename("b"), rename("c"))) == [200, 404]


async def test_the_path_says_which_job_and_nothing_else_may(here: Here) -> None:
    for body in ({"script": "echo\n", "job": "b"}, {"script": "echo\n", "if_match": "x"}):
        reply = await here.ask("PUT", "/v1/jobs/a", body=body)
        assert reply.status == 400
    raw = await here.ask("PUT", "/v1/jobs/a?job=b", body=SCRIPT)
    assert raw.json()["detail"] == "unknown argument 'job' in the query"
    assert (await here.ask("GET", "/v1/jobs")).json() == []
