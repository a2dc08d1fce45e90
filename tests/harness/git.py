"""Stock git as a client, and a store served to it over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from pathlib import Path

from aiohttp import web

from rota.adapters.git import GitService
from rota.adapters.git.process import environment


class Client:
    """A clone, and git run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        who = {"name": "Bob", "email": "bob@example.org"}
        self.env = environment({f"user.{key}": value for key, value in who.items()})
        for role in ("AUTHOR", "COMMITTER"):
            self.env.update({f"GIT_{role}_{key.upper()}": who[key] for key in who})

    async def run(self, *args: str, check: bool = True) -> str:
        process = await asyncio.create_subprocess_exec(
            "git",
            *args,
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        if check:
            assert process.returncode == 0, out.decode()
        else:
            assert process.returncode != 0, out.decode()
        return out.decode()

    async def commit(self, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        await self.run("add", ".")
        await self.run("commit", "-q", "-m", "a change")

    async def refused(self, *args: str) -> str:
        """Return what git says when a push is refused."""
        return await self.run("push", *args, check=False)


async def push(clone: Client) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        "git",
        "push",
        cwd=clone.folder,
        env=clone.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


@contextlib.asynccontextmanager
async def served(
    service: GitService, principal: str = "bob", tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve a store on a free port of the loopback, without asking who calls; yield its URL."""

    async def answer(request: web.Request) -> web.StreamResponse:
        reply = await service.handle(
            request.method,
            "/" + request.match_info["path"],
            request.query_string,
            request.headers,
            request.content.iter_any(),
            principal,
        )
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        await response.prepare(request)
        async with aclosing(reply.body) as body:
            async for piece in body:
                await response.write(piece)
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_route("*", "/git/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}/git"
    finally:
        await runner.cleanup()
