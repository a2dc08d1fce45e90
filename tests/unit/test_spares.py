"""Folders that are used again: nothing of one attempt comes to another."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from rota.agent import spares as module
from rota.agent.workplace import Workplace, tmp, work


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, moved by hand; the inodes' own clock is moved as well, as :func:`dated` does."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def place(tmp_path: Path, clock: list[float]) -> Workplace:
    return Workplace(tmp_path)


def attempt(place: Workplace, build: str, number: int = 1) -> Path:
    home = place.home(build, number)
    place.make(home)
    assert sorted(os.listdir(home)) == ["tmp", "work"]
    for folder in (work(home), tmp(home)):
        assert os.listdir(folder) == []
        assert folder.stat().st_mode & 0o7777 == 0o777 & ~_umask()
    assert home.stat().st_mode & 0o7777 == 0o700
    (home / "log").touch()
    return home


def _umask() -> int:
    os.umask(was := os.umask(0))
    return was


def inode(home: Path) -> int:
    return work(home).stat().st_ino


def spared(place: Workplace, clock: list[float], build: str = "a") -> Path:
    """Return the home of an attempt that was given a spare folder, old enough to tell a change."""
    assert place.clean_bare(attempt(place, "first"), is_alone=True)
    clock[0] += 1
    _until_ticked(place.builds)
    home = attempt(place, build)
    assert not list((place.builds / ".spare").iterdir())
    return home


def _until_ticked(folder: Path) -> None:
    """Wait until the kernel gives out other times than it gave to what was made last."""
    probe = folder / "probe"
    probe.touch()
    first = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == first:
        probe.touch()
    probe.unlink()


def test_a_folder_that_nobody_touched_is_used_again(place: Workplace, clock: list[float]) -> None:
    home = spared(place, clock)
    before = inode(home)
    assert place.clean_bare(home, is_alone=True)
    assert not home.parent.exists()
    assert inode(attempt(place, "b")) == before


def test_one_that_was_made_just_now_waits(place: Workplace, clock: list[float]) -> None:
    assert place.clean_bare(attempt(place, "a"), is_alone=True)
    (spare,) = (place.builds / ".spare").iterdir()
    attempt(place, "b")
    assert spare.exists()


@pytest.mark.parametrize(
    "script",
    [
        "touch work/file; rm work/file",
        "chmod 777 tmp",
        "chmod 1700 work",
        "rmdir tmp; mkdir tmp",
    ],
)
def test_a_folder_that_was_touched_is_made_anew(
    place: Workplace, clock: list[float], script: str
) -> None:
    home = spared(place, clock)
    before = [work(home).stat().st_ctime_ns, tmp(home).stat().st_ctime_ns]
    ran(script, home)
    assert place.clean_bare(home, is_alone=True)
    clock[0] += 1
    home = attempt(place, "b")
    assert work(home).stat().st_ctime_ns > before[0]
    assert tmp(home).stat().st_ctime_ns > before[1]


@pytest.mark.parametrize(
    "script",
    [
        "touch work/file",
        "mkdir folder",
        "rmdir work; ln -s ../.. work",
        "mkdir ../2",
        "chmod 755 .",
        "chmod 755 ..",
    ],
)
def test_what_is_not_as_it_was_is_not_used_again(
    place: Workplace, clock: list[float], script: str
) -> None:
    home = spared(place, clock)
    ran(script, home)
    if not place.clean_bare(home, is_alone=True):
        place.throw_away(home)
    assert not list((place.builds / ".spare").iterdir())
    assert not home.exists()
    clock[0] += 1
    attempt(place, "b")


def test_attributes_that_were_set_come_to_nobody_else(place: Workplace, clock: list[float]) -> None:
    home = spared(place, clock)
    try:
        os.setxattr(home, "user.x", b"y")
    except OSError as error:
        pytest.skip(f"not on this file system: {error}")
    assert place.clean_bare(home, is_alone=True)
    assert not list((place.builds / ".spare").iterdir())


def ran(script: str, home: Path) -> None:
    """Do what a script does that was started beside its workspace."""
    subprocess.run(["sh", "-ec", script], cwd=home, check=True)


def test_where_a_process_may_be_left_the_folder_is_removed(
    place: Workplace, clock: list[float]
) -> None:
    home = spared(place, clock)
    assert place.clean_bare(home)
    assert not list((place.builds / ".spare").iterdir())


def test_a_second_attempt_that_has_begun_keeps_its_folder(
    place: Workplace, clock: list[float]
) -> None:
    first = spared(place, clock)
    second = attempt(place, "a", 2)
    assert place.clean_bare(first, is_alone=True)
    assert not first.exists()
    assert second.exists()
    assert place.homes() == [("a", 2, second)]


def test_so_many_wait_and_no_more(
    place: Workplace, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST", 2)
    for home in [attempt(place, name) for name in "abcd"]:
        assert place.clean_bare(home, is_alone=True)
    assert len(list((place.builds / ".spare").iterdir())) == 2
    assert place.homes() == []


def test_those_of_a_former_daemon_are_removed(tmp_path: Path, place: Workplace) -> None:
    assert place.clean_bare(attempt(place, "a"), is_alone=True)
    Workplace(tmp_path)
    assert not (tmp_path / "builds" / ".spare").exists()
