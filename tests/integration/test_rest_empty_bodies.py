"""Requests without a body to routes that read one as a stream.

aiohttp hands out one reader of nothing to all of them, which does not come to an end twice by every
way of reading it.
"""

import hashlib

from tests.harness.agent import Here

from rota.adapters.scripted import Plan


async def test_an_empty_file_is_kept_however_many_came_before(here: Here) -> None:
    await here.put("a", plan=Plan(hangs=True))
    build = (await here.run("a"))["id"]
    await here.running(build)
    for number in range(3):
        kept = await here.ask("PUT", f"/v1/builds/{build}/artifacts/empty-{number}", body=b"")
        assert kept.json() == {
            "path": f"empty-{number}",
            "size": 0,
            "sha256": hashlib.sha256(b"").hexdigest(),
        }


async def test_git_is_asked_without_a_body_however_often(here: Here) -> None:
    for _ in range(3):
        answer = await here.ask("GET", "/store.git/info/refs?service=git-upload-pack")
        assert answer.status == 404  # there is no git behind this one; it answers all the same
