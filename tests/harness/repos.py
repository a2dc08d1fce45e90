"""Repositories of other people, for tests: made by stock git, served by files, git daemon or HTTP."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from rota.adapters.git.process import environment

PEOPLE = {"ann": "Ann", "bob": "Bob"}


class Repo:
    """A repository with a working tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def git(self, *args: str, who: str = "ann") -> str:
        name = PEOPLE.get(who, who)
        mine = {"user.name": name, "user.email": f"{who}@example.org"}
        env = environment({**mine, "protocol.file.allow": "always"})
        for role in ("AUTHOR", "COMMITTER"):
            env |= {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": f"{who}@example.org"}
        done = subprocess.run(
            ["git", *args], cwd=self.folder, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message: str, files: Mapping[str, str] = {}, *, who: str = "ann") -> str:
        """Commit files and return the commit."""
        for name, text in ({message: message} | dict(files)).items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message, who=who)
        return self.git("rev-parse", "HEAD")

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")


def free_port() -> int:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        return int(server.getsockname()[1])


@contextlib.asynccontextmanager
async def git_daemon(base: Path) -> AsyncIterator[str]:
    """Serve all repositories below a folder by git's own protocol; yield the URL of the folder."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "git",
        "daemon",
        "--listen=127.0.0.1",
        f"--port={port}",
        f"--base-path={base}",
        "--export-all",
        "--reuseaddr",
        str(base),
        env=environment({}),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, 15)
        await process.wait()


@contextlib.asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """A server that takes connections and never says a word; yield its URL."""
    release = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    try:
        yield f"git://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
    finally:
        release.set()
        server.close()


@contextlib.asynccontextmanager
async def git_http(base: Path, *, auth: str = "") -> AsyncIterator[str]:
    """Serve all repositories below a folder over smart HTTP; with ``auth`` only to who shows it."""
    from aiohttp import web

    token = "Basic " + base64.b64encode(f"ann:{auth}".encode()).decode()

    async def serve(request: web.Request) -> web.Response:
        if auth and request.headers.get("Authorization") != token:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        env = environment({}) | {
            "GIT_PROJECT_ROOT": str(base),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "REQUEST_METHOD": request.method,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }
        if request.headers.get("Content-Encoding"):
            env["HTTP_CONTENT_ENCODING"] = request.headers["Content-Encoding"]
        process = await asyncio.create_subprocess_exec(
            "git", "http-backend", env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate(await request.read())
        head, _, body = out.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(fields.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=fields, body=body)

    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port := free_port())
    await site.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
