"""How the room on a disk goes: the rate, when it is full, and what is kept for that."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota.core import growth
from rota.core.growth import Growth, Sample, full_in_s, grown, is_due, rate
from rota.daemon.growth import FILE, DiskGrowth

HOUR = 3600.0


def hourly(*used: int) -> tuple[Sample, ...]:
    return tuple(Sample(n * HOUR, it) for n, it in enumerate(used))


def test_one_large_build_is_no_rate() -> None:
    flat = [1000] * 24
    assert rate(hourly(*flat)) == 0
    flat[12] = 900_000
    assert rate(hourly(*flat)) == 0
    assert full_in_s(Growth(1, hourly(*flat)), 10) is None


def test_what_comes_and_goes_does_not_hide_what_stays() -> None:
    saw = [3600 * n + (50_000 if n % 3 else 0) for n in range(48)]
    found = rate(hourly(*saw))
    assert found is not None
    assert 0.8 <= found <= 1.2, "a byte a second stays"


def test_too_little_is_no_rate() -> None:
    assert rate(()) is None
    assert rate(hourly(1, 2, 3)) is None
    assert rate(tuple(Sample(n * 10.0, n) for n in range(20))) is None


def test_it_is_looked_no_further_ahead_than_can_be_said() -> None:
    samples = hourly(*(3600 * n for n in range(25)))
    ahead = growth.AHEAD * 24 * HOUR
    assert full_in_s(Growth(1, samples), int(ahead)) == ahead
    assert full_in_s(Growth(1, samples), int(ahead) + 2) is None
    assert full_in_s(Growth(1, samples), -1) == 0


@given(st.lists(st.tuples(st.floats(0, 1e10), st.integers(0, 1 << 60)), max_size=400))
def test_whatever_comes_it_stays_small_and_in_order(said: list[tuple[float, int]]) -> None:
    found = Growth()
    for at, used in said:
        found = grown(found, 1 << 40, Sample(at, used))
        times = [it.at for it in found.samples]
        assert times == sorted(set(times))
        assert times[-1] == at
        assert len(times) <= growth.MOST
        assert times[-1] - times[0] < growth.OLDEST_S
    full_in_s(found, 1000)


def test_of_another_disk_nothing_is_known() -> None:
    found = Growth(100, hourly(1, 2, 3))
    assert grown(found, 100, Sample(9 * HOUR, 4)).samples == (*hourly(1, 2, 3), Sample(9 * HOUR, 4))
    assert grown(found, 200, Sample(9 * HOUR, 4)).samples == (Sample(9 * HOUR, 4),)


def test_it_is_due_after_a_while_and_where_the_clock_went_back() -> None:
    assert is_due(Growth(), 0.0)
    found = Growth(1, (Sample(1000.0, 1),))
    assert not is_due(found, 1000.0 + growth.EVERY_S - 1)
    assert is_due(found, 1000.0 + growth.EVERY_S)
    assert is_due(found, 999.0)


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    disk = DiskGrowth(tmp_path)
    for n in range(3):
        disk.note(n * growth.EVERY_S)
        disk.note(n * growth.EVERY_S + 1)
    assert len(disk.found.samples) == 3
    assert DiskGrowth(tmp_path).found == disk.found
    (tmp_path / FILE).write_text("nonsense")
    assert DiskGrowth(tmp_path).found == Growth()


def test_a_disk_that_takes_nothing_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = DiskGrowth(tmp_path / "gone")
    full = SimpleNamespace(f_blocks=100, f_bfree=40, f_frsize=10)
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    disk.note(5.0)
    assert disk.found == Growth(1000, (Sample(5.0, 600),))
