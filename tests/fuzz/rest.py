"""Schemathesis against a whole agent: all that the OpenAPI document says is asked for, and its opposite.

``python -m tests.fuzz.rest --seconds 60`` for longer; what fails is printed with a curl line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from tests.harness.agent import TOKEN, Here, agent_here

from rota.adapters.scripted import Plan
from rota.core.job import Rate
from rota.http import rates
from rota.http.openapi import describe

#: What ends the agent; nothing else is left out.
LEFT_OUT = ["/v1/stop"]

#: What the document cannot say of texts (a build's name, a cron expression) is refused with 400; what
#: it cannot say of the world with 404, 409 and 412. Anything else is a fault of the document or of ours.
CONFIG = """
continue-on-failure = true
[warnings]
enabled = false
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", 400, 403, 404, 409, 412, 414, 503]
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 409, 412, 413, 414, 431, 503]
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 503]
# A name in a path may be that of a verb: PUT of the job `a/pause`, DELETE of the secret `rotate`.
[checks.unsupported_method]
enabled = false
[checks.allow_header_conformance]
enabled = false
[phases.coverage]
unexpected-methods = []
[cache]
enabled = false
"""

JOB = """#!/bin/sh
# /// script
# [tool.rota]
# stdin = true
# on = [ { cron = "H 3 * * *" } ]
# [tool.rota.params]
# x = { default = "1" }
# ///
"""


def shortened(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document without what makes an answer wait, or go on for ever."""
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["parameters"] = [
                it for it in operation["parameters"] if it["name"] not in ("follow", "wait")
            ]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            body.get("schema", {}).get("properties", {}).pop("wait", None)
    return document


async def populate(here: Here) -> None:
    """Have something of each kind there, so that there is more to be said than that it is not."""
    await here.put("a", JOB, Plan(output=b"::warning::x\nhello\n"))
    build = await here.run("a")
    await here.ask("PUT", f"/v1/builds/{build['id']}/artifacts/dist/x", body=b"bytes")
    await here.finished(build["id"])
    await here.put("h", plan=Plan(hangs=True))
    await here.running((await here.run("h"))["id"])
    await here.ask("PUT", "/v1/users/ann", body={"emails": ["ann@example.org"]})


async def attack(*arguments: str) -> tuple[int, str]:
    """Let Schemathesis have a go at an agent; return its exit status and what it printed."""
    with tempfile.TemporaryDirectory(prefix="rota-fuzz-") as folder:
        schema, config = Path(folder, "openapi.json"), Path(folder, "schemathesis.toml")
        schema.write_text(json.dumps(shortened(describe())))
        config.write_text(CONFIG)
        # Each operation is asked with wrong tokens, too, which is a rate of its own.
        with mock.patch.object(rates, "STRANGERS", Rate(10**6, 1.0)):
            return await _attack(schema, config, folder, arguments)


async def _attack(
    schema: Path, config: Path, folder: str, arguments: tuple[str, ...]
) -> tuple[int, str]:
    async with agent_here() as here:
        await populate(here)
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")),
            *("--config-file", str(config), "run", str(schema)),
            *("--url", f"http://127.0.0.1:{here.port}"),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            *(part for path in LEFT_OUT for part in ("--exclude-path", path)),
            *("--request-timeout", "20", "--no-color", "--generation-database", "none"),
            *arguments,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, said.decode()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    code, said = asyncio.run(attack("--max-time", str(given.seconds), "--seed", str(given.seed)))
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main())
