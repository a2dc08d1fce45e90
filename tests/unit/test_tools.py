"""Tools found on the jobs' PATH, with real programs in a folder of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest

from rota.adapters import tools
from rota.adapters.tools import SOCKETS, TOOLS, find_tools, known_tools, watch_tools
from rota.core.labels import parse_agent_labels


def program(folder: Path, name: str, body: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def counted(folder: Path, name: str, says: str) -> Path:
    return program(folder, name, f"echo x >> {folder}/{name}.runs; echo '{says}'")


def runs(folder: Path, name: str) -> int:
    path = folder / f"{name}.runs"
    return path.read_text().count("x") if path.exists() else 0


@pytest.mark.parametrize(
    ("name", "says", "label", "version"),
    [
        ("java", 'openjdk version "17.0.9" 2023-10-17', "java", "17"),
        ("java", 'java version "1.8.0_392"', "java", "8"),
        ("java", 'Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "21" 2023', "java", "21"),
        ("node", "v20.11.1", "node", "20"),
        ("nodejs", "v18.1.0", "node", "18"),
        ("python3", "Python 3.11.2", "python", "3.11"),
        ("go", "go version go1.22.3 linux/amd64", "go", "1.22"),
        ("rustc", "rustc 1.75.0 (82e1608df 2023-12-21)", "rust", "1.75"),
        ("cargo", "cargo 1.75.0", "cargo", "1.75"),
        ("podman", "podman version 4.3.1", "podman", "4"),
        ("git", "git version 2.39.5", "git", "2.39"),
        ("gcc", "12", "gcc", "12"),
        ("clang", "14.0.6", "clang", "14"),
        ("cmake", "cmake version 3.25.1", "cmake", "3.25"),
        ("make", "GNU Make 4.3", "make", "4.3"),
        ("dotnet", "8.0.100", "dotnet", "8"),
        ("ruby", "ruby 3.2.2 (2023-03-30 revision e51014f9c0)", "ruby", "3.2"),
        ("php", "PHP 8.2.7 (cli)", "php", "8.2"),
        ("uv", "uv 0.4.18", "uv", "0.4"),
        ("node", "something else", "node", ""),
        ("mvn", "is not asked", "mvn", ""),
    ],
)
async def test_a_tool_is_a_label_with_its_version(
    tmp_path: Path, name: str, says: str, label: str, version: str
) -> None:
    program(tmp_path / "bin", name, f"printf '%s\\n' '{says}'")
    only = [tool for tool in TOOLS if tool.label == label]
    found = await find_tools([str(tmp_path / "bin")], tmp_path / "tools.json", tools=only)
    assert found == {label: version}


async def test_what_is_said_on_standard_error_counts(tmp_path: Path) -> None:
    program(tmp_path / "bin", "java", "echo 'openjdk version \"17.0.9\"' >&2")
    assert await find_tools([str(tmp_path / "bin")], tmp_path / "c") == {"java": "17"}


async def test_only_what_can_be_executed_on_the_path_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    program(first, "go", "echo go1.1").chmod(0o644)
    (first / "node").mkdir()
    program(second, "go", "echo go version go1.22.3")
    program(tmp_path / "3", "ruby", "echo ruby 3.2.2")
    found = await find_tools([str(first), str(second), "/nowhere"], tmp_path / "c")
    assert found == {"go": "1.22"}


async def test_a_program_is_asked_once_until_it_is_replaced(tmp_path: Path) -> None:
    bin_, cache = tmp_path / "bin", tmp_path / "tools.json"
    counted(bin_, "node", "v20.1.0")
    counted(bin_, "ruby", "no version at all")
    for _ in range(3):
        assert await find_tools([str(bin_)], cache) == {"node": "20", "ruby": ""}
    assert (runs(bin_, "node"), runs(bin_, "ruby")) == (1, 1)
    assert known_tools([str(bin_)], cache) == {"node": "20", "ruby": ""}
    path = counted(bin_, "node", "v22.10.0")
    os.utime(path, (1, 1))
    assert known_tools([str(bin_)], cache) == {"node": "", "ruby": ""}
    assert await find_tools([str(bin_)], cache) == {"node": "22", "ruby": ""}
    assert (runs(bin_, "node"), runs(bin_, "ruby")) == (2, 1)


async def test_a_program_that_hangs_is_killed_with_its_children_and_keeps_its_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tools, "ASK_S", 0.3)
    bin_ = tmp_path / "bin"
    program(bin_, "node", f"sleep 1000 & echo $! >> {bin_}/children; wait")
    counted(bin_, "ruby", "ruby 3.2.2")
    path = [str(bin_), "/usr/bin", "/bin"]
    only = [tool for tool in TOOLS if tool.label in ("node", "ruby")]
    for _ in range(5):
        assert await find_tools(path, tmp_path / "c", tools=only) == {"node": "", "ruby": "3.2"}
    children = (bin_ / "children").read_text().split()
    assert len(children) == tools.TRIES, "it is not asked for ever"
    assert not any(_runs(int(child)) for child in children)


def _runs(pid: int) -> bool:
    try:
        return "(sleep) Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


async def test_a_program_that_prints_without_end_is_cut_off(tmp_path: Path) -> None:
    program(tmp_path / "bin", "node", "echo v20.0.0; while :; do echo yyyyyyyyyyyyyyyyyyyyyy; done")
    assert await find_tools([str(tmp_path / "bin")], tmp_path / "c") == {"node": "20"}


async def test_a_program_gets_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROTA_TOKEN", "secret")
    program(tmp_path / "bin", "node", f"/usr/bin/env > {tmp_path}/env; echo v20.0.0")
    await find_tools([str(tmp_path / "bin"), "/bin"], tmp_path / "c")
    lines = (tmp_path / "env").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines} - {"PWD", "SHLVL", "_", "OLDPWD"}
    assert names == {"PATH", "HOME"}
    assert f"PATH={tmp_path}/bin:/bin" in lines


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"/x": 3}', b"\xff"])
async def test_a_broken_cache_is_made_again(tmp_path: Path, content: bytes) -> None:
    cache = tmp_path / "tools.json"
    cache.write_bytes(content)
    counted(tmp_path / "bin", "node", "v20.1.0")
    assert known_tools([str(tmp_path / "bin")], cache) == {"node": ""}
    assert await find_tools([str(tmp_path / "bin")], cache) == {"node": "20"}
    assert known_tools([str(tmp_path / "bin")], cache) == {"node": "20"}


async def test_a_cache_that_cannot_be_written_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counted(tmp_path / "bin", "node", "v20.1.0")
    nowhere = tmp_path / "none" / "tools.json"
    assert await find_tools([str(tmp_path / "bin")], nowhere) == {"node": "20"}
    assert f"cannot remember versions in {nowhere}: No such file or directory" in caplog.text


async def test_docker_counts_only_while_its_server_answers(tmp_path: Path) -> None:
    program(tmp_path / "bin", "docker", "echo Docker version 24.0.7, build afdd53b")
    place = tmp_path / "docker.sock"
    sockets = {"docker": (str(place),)}
    path, cache = [str(tmp_path / "bin")], tmp_path / "c"
    assert await find_tools(path, cache, sockets=sockets) == {}
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))
        assert await find_tools(path, cache, sockets=sockets) == {}, "nobody listens"
        server.listen(5)
        assert await find_tools(path, cache, sockets=sockets) == {"docker": "24"}
        assert known_tools(path, cache, sockets=sockets) == {"docker": "24"}
    assert await find_tools(path, cache, sockets=sockets) == {}
    assert set(SOCKETS) == {"docker"}


async def test_a_change_is_told_once_and_live(tmp_path: Path) -> None:
    bin_, told, again = tmp_path / "bin", [], asyncio.Event()
    counted(bin_, "node", "v20.1.0")
    news = asyncio.Event()
    path = [str(bin_)]

    async def changed(labels: dict[str, str]) -> None:
        told.append(labels)
        news.set()

    watching = asyncio.create_task(
        watch_tools(lambda: path, tmp_path / "c", changed, known={"node": ""}, again=again)
    )
    async with asyncio.timeout(20):
        await news.wait()
        news.clear()
        program(tmp_path / "other", "ruby", "echo ruby 3.2.2")
        path.append(str(tmp_path / "other"))
        again.set()
        await news.wait()
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    assert told == [{"node": "20"}, {"node": "20", "ruby": "3.2"}]


def test_every_label_could_be_given_by_hand() -> None:
    labels = [tool.label for tool in TOOLS]
    assert len(labels) == len(set(labels))
    assert set(parse_agent_labels(labels)) == set(labels)
