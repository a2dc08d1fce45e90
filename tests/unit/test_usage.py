"""What lies on a disk is said within a moment, however much it is; and what grows has its bound."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tests.harness.agent import agent_here

from rota.agent.workplace import MAX_SCRIPTS, Workplace
from rota.daemon import own_log
from rota.service import usage


def test_folders_are_counted_until_the_time_is_over(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").write_bytes(b"x" * 10_000)
    (tmp_path / "link").symlink_to("/usr")
    size, is_whole = usage._measured(iter([tmp_path, tmp_path / "none"]), time.monotonic() + 60)
    assert is_whole
    assert 30_000 <= size <= 60_000
    assert usage._measured(iter([tmp_path]), time.monotonic() - 1) == (0, False)


def test_what_is_kept_is_not_counted_again(tmp_path: Path) -> None:
    for home in ("b1/1", "b1/2", "b2/1", ".trash/b3.1.0"):
        (tmp_path / home).mkdir(parents=True)
    found = {str(it.relative_to(tmp_path)) for it in usage._homes(tmp_path, {("b1", 1)})}
    assert found == {"b1/2", "b2/1", ".trash/b3.1.0"}


def test_the_daemons_log_has_two_halves_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / own_log.FILE
    said = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(said, b"a" * 100)
        assert not own_log.bound(path, 100, said)
        for letter in (b"b", b"c"):
            os.write(said, letter * 101)
            assert own_log.bound(path, 100, said)
            assert path.stat().st_size == 0
        os.write(said, b"d")
    finally:
        os.close(said)
    assert path.read_bytes() == b"d"
    assert path.with_name("agent.log.1").read_bytes() == b"c" * 101


def test_a_log_that_somebody_else_keeps_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / own_log.FILE
    path.write_bytes(b"x" * 1000)
    assert not own_log.bound(path, 10)
    assert not own_log.bound(tmp_path / "none", 10)


def test_scripts_of_former_daemons_are_bounded_as_well(tmp_path: Path) -> None:
    Workplace(tmp_path)
    for number in range(MAX_SCRIPTS + 7):
        folder = tmp_path / "scripts" / f"{number:05}"
        folder.mkdir()
        os.utime(folder, (number, number))
    Workplace(tmp_path)
    left = sorted(it.name for it in (tmp_path / "scripts").iterdir())
    assert (len(left), left[0]) == (MAX_SCRIPTS, "00007")


async def test_all_that_grows_is_told_with_what_bounds_it() -> None:
    async with agent_here() as here:
        answer = await here.ask("GET", "/v1/du")
        assert answer.status == 200
        found = {it["what"]: it for it in answer.json()["usages"]}
    assert {"journal", "logs", "artifacts", "caches", "mirrors", "kept workspaces"} <= found.keys()
    assert all(it["rule"] for it in found.values())
    unbounded = {what for what, it in found.items() if it["bound"] is None}
    assert unbounded == {
        "journal",
        "definitions and history",
        "index",
        "cases of tests",
        "workspaces in use",
        "own artifacts",
        "scripts",
        "for containers",
    }, "what has no bytes that bound it is bounded by what its rule says"
