"""Workspaces that stay, and how the others go: real folders, real programs that remove them."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.harness.agent import Here

from rota.adapters.disk import SystemDisk
from rota.adapters.scripted import Plan
from rota.agent.workplace import Workplace, work
from rota.agent.workspaces import RECORD, Workspaces
from rota.core.build import Build
from rota.core.kept import Limits
from rota.core.states import Result, State
from rota.core.workspace import Workspace

FAILS = Plan(code=1)
DEFAULT = Limits()
START = datetime(2026, 1, 1, tzinfo=UTC)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return 0.0


class Disk(SystemDisk):
    """A disk that says how large what it is asked for is."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    async def size(self, folder: Path) -> int | None:
        return self.sizes.get(folder.parent.name, 1)


def make(workplace: Workplace, build: str, attempt: int = 1) -> Path:
    home = workplace.home(build, attempt)
    workplace.make(home)
    (work(home) / "result").write_text(build)
    return home


def build_of(name: str, keep: str = "", for_s: float | None = None) -> Build:
    build = Build(
        id=name, job="j", number=1, state=State.FINISHED, requested_at=START, attempt=1, agent="a"
    )
    workspace = Workspace(keep=keep, for_s=for_s)  # type: ignore[arg-type]
    return replace(build, spec=replace(build.spec, workspace=workspace))


def nothing(_: str) -> Build | None:
    return None


@contextlib.asynccontextmanager
async def workspaces(
    data: Path, clock: Clock, disk: SystemDisk, limits: Limits = DEFAULT
) -> AsyncIterator[Workspaces]:
    found = Workspaces(workplace=Workplace(data), disk=disk, clock=clock, limits=lambda: limits)
    found.load(set(), nothing)
    task = asyncio.create_task(found.run())
    try:
        yield found
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not look():
            await asyncio.sleep(0.01)


async def test_what_was_asked_for_stays_until_its_time_and_over_a_restart(tmp_path: Path) -> None:
    clock, disk = Clock(), Disk()
    async with workspaces(tmp_path, clock, disk) as found:
        home = make(found.workplace, "asked")
        found.settle(build_of("asked", "always", 60), 1, Result.PASSED)
        make(found.workplace, "passed")
        found.settle(build_of("passed"), 1, Result.PASSED)
        make(found.workplace, "never")
        found.settle(build_of("never", "never"), 1, Result.FAILED)
        assert [it.build for it in found.kept()] == ["asked"]
        await until(lambda: found.kept()[0].bytes == 1)
        await until(lambda: not found.workplace.trash())
        assert sorted(path.name for path in (tmp_path / "builds").iterdir()) == [".trash", "asked"]
    async with workspaces(tmp_path, clock, disk) as again:
        (it,) = again.kept()
        assert (it.ref, it.is_asked, it.bytes) == ("j#1", True, 1)
        assert it.until == START + timedelta(seconds=60)
        assert (work(home) / "result").read_text() == "asked"
    clock.at += timedelta(seconds=61)
    async with workspaces(tmp_path, clock, disk) as later:
        await until(lambda: not later.kept() and not home.exists())


async def test_of_failed_ones_nobody_asked_for_the_last_stay(tmp_path: Path) -> None:
    clock = Clock()
    limits = Limits(unasked=2)
    async with workspaces(tmp_path, clock, Disk(), limits) as found:
        for number in range(5):
            clock.at += timedelta(seconds=1)
            make(found.workplace, f"f{number}")
            found.settle(build_of(f"f{number}"), 1, Result.FAILED)
        await until(lambda: [it.build for it in found.kept()] == ["f3", "f4"])
        await until(lambda: not found.workplace.trash())
        assert {path.name for path in (tmp_path / "builds").iterdir()} == {".trash", "f3", "f4"}


async def test_too_many_bytes_end_the_oldest_but_not_one_that_somebody_is_in(
    tmp_path: Path,
) -> None:
    clock, disk = Clock(), Disk()
    disk.sizes = {"a": 10, "b": 10, "c": 10}
    async with workspaces(tmp_path, clock, disk, Limits(bytes=25)) as found:
        for name in "ab":
            clock.at += timedelta(seconds=1)
            make(found.workplace, name)
            found.settle(build_of(name, "always"), 1, Result.PASSED)
        first = found.find("a")
        assert first is not None
        with found.inside(first):
            clock.at += timedelta(seconds=1)
            make(found.workplace, "c")
            found.settle(build_of("c", "always"), 1, Result.PASSED)
            await until(lambda: [it.build for it in found.kept()] == ["a", "c"])
            with pytest.raises(Exception, match="1 shell is open in the workspace of j#1"):
                found.remove("a", "j#1")
        assert [it.build for it in found.remove("a", "j#1")] == ["a"]


async def test_a_daemon_killed_before_it_could_say_leaves_that_to_the_next(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path)
    for name in ("passed", "wanted", "stranger"):
        make(workplace, name)
    workplace.throw_away(make(workplace, "thrown"))
    (workplace.home("stranger", 1) / RECORD).write_bytes(b'{"build": "\xff')
    builds = {
        "passed": replace(build_of("passed"), result=Result.PASSED),
        "wanted": replace(build_of("wanted", "on-failure"), result=Result.FAILED),
    }
    found = Workspaces(
        workplace=Workplace(tmp_path), disk=SystemDisk(), clock=Clock(), limits=Limits
    )
    found.load(set(), builds.get)
    assert {it.build: it.is_asked for it in found.kept()} == {"wanted": True, "stranger": False}
    task = asyncio.create_task(found.run())
    await until(lambda: not workplace.trash())
    task.cancel()
    await asyncio.wait([task])  # it may have been counting, by a program that it ends


async def test_read_only_folders_and_other_users_files_go_too(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "module" / "sub").mkdir(parents=True)
    (top / "module" / "sub" / "file").write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (top / "link").symlink_to(outside)
    (top / "-rf").write_text("a name like a switch")
    if os.geteuid() == 0:
        os.chown(top / "module" / "sub" / "file", 4242, 4242)
        os.chown(top / "module" / "sub", 4242, 4242)
    (top / "module" / "sub").chmod(0o500)
    (top / "module").chmod(0o500)
    assert await SystemDisk().remove([top, tmp_path / "not there"]) == ""
    assert not top.exists()
    assert (outside / "precious").exists()


async def test_read_only_folders_of_an_ordinary_user_go_too() -> None:
    """Root may write to anything: only as somebody else is this a test."""
    if os.geteuid() != 0:
        pytest.skip("the test before this one is the same, for who is not root")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        os.chown(place, 4242, 4242)
        with _as_somebody_else(4242):
            module = place / "top" / "go" / "mod@v1"
            module.mkdir(parents=True)
            (module / "a.go").write_text("x")
            for folder, mode in ((module, 0), (module.parent, 0o500), (place / "top", 0o500)):
                folder.chmod(mode)
            assert await SystemDisk().remove([place / "top"]) == ""
        assert not list(place.iterdir())


@contextlib.contextmanager
def _as_somebody_else(user: int) -> Iterator[None]:
    """Have the rights of another user, and programs that are started meanwhile no others."""
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


async def test_what_cannot_be_removed_is_said_once_and_takes_nothing_else_along(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Stuck(SystemDisk):
        async def remove(self, folders: Sequence[Path]) -> str:
            free = [path for path in folders if "stuck" not in path.name]
            await super().remove(free)
            return "find: cannot delete 'x': Device or resource busy"

    async with workspaces(tmp_path, Clock(), Stuck()) as found:
        for name in ("stuck", "free"):
            make(found.workplace, name)
            found.settle(build_of(name), 1, Result.PASSED)
        await until(lambda: len(found.workplace.trash()) == 1)
        await until(lambda: "cannot be removed" in caplog.text)
    assert caplog.text.count("cannot be removed, and takes space: find: cannot delete 'x'") == 1


# -- over REST --------------------------------------------------------------------------------------


async def test_a_request_says_whether_a_workspace_stays(here: Here) -> None:
    await here.put("a", plan=FAILS)
    await here.put("settings-do-not-keep", plan=FAILS)
    build = await here.run("a", keep_workspace="on-failure")
    assert build["spec"]["workspace"] == {"keep": "on-failure"}
    await here.finished(build["id"])
    await here.until(lambda: here.service.workspaces.kept())
    (it,) = (await here.ask("GET", "/v1/workspaces")).json()["workspaces"]
    assert (it["build"], it["agent"], it["result"], it["asked"]) == ("a#1", "here", "failed", True)
    assert Path(it["path"]).is_dir()
    gone = await here.ask("DELETE", "/v1/builds/a%231/workspace")
    assert [it["build"] for it in gone.json()] == ["a#1"]
    assert not Path(it["path"]).exists()
    again = await here.ask("DELETE", "/v1/builds/a%231/workspace")
    assert again.status == 404
    assert again.json()["detail"] == "the workspace of a#1 is not kept"
    assert again.json()["hint"] == (
        "to keep the next one: rota run a --keep-on-failure, or in its header"
        ' workspace = { keep = "on-failure" }'
    )


async def test_a_header_says_whether_a_workspace_stays_and_for_how_long(here: Here) -> None:
    head = '# /// script\n# [tool.rota]\n# workspace = { keep = "always", for = "2h" }\n# ///\n'
    await here.put("a", "#!/bin/sh\n" + head, Plan())
    first = await here.run("a")
    await here.finished(first["id"])
    await here.until(lambda: here.service.workspaces.kept())
    (it,) = here.service.workspaces.kept()
    assert it.until - it.kept_at == timedelta(hours=2)
    other = await here.run("a", keep_workspace="never")
    await here.finished(other["id"])
    await here.until(lambda: not (here.data / "builds" / other["id"]).exists())
    assert len(here.service.workspaces.kept()) == 1


async def test_an_unknown_way_to_keep_is_refused(here: Here) -> None:
    await here.put("a")
    reply = await here.ask("POST", "/v1/jobs/a/builds", body={"keep_workspace": "sometimes"})
    assert reply.status == 400
    assert "keep_workspace" in reply.json()["detail"]
