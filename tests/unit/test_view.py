"""Which folders an attempt sees, and how they are put together."""

from __future__ import annotations

from pathlib import Path

from rota.adapters.process.accounts import Account
from rota.adapters.process.view import View, closed_to, steps, view_of

OTHER = Account(4_000_000, 4_000_000, frozenset([4_000_000]))
ROOT = Account(0, 0, frozenset([0]))


def test_of_the_data_folder_there_is_what_is_shown(tmp_path: Path) -> None:
    data = tmp_path / "data"
    home, inner = data / "builds" / "b" / "1", data / "builds" / "b" / "1" / "work"
    inner.mkdir(parents=True)
    found = view_of(data, [home, inner], [Path("/usr")], ROOT, None)
    assert found == View({data: ""}, (home,))


def test_a_folder_that_the_user_cannot_pass_through_is_replaced(tmp_path: Path) -> None:
    closed, runtime = tmp_path / "closed", tmp_path / "closed" / "python"
    runtime.mkdir(parents=True)
    data = tmp_path / "data"
    data.mkdir()
    for folder in tmp_path.parents:
        if folder != Path("/") and not folder.stat().st_mode & 1:
            closed = folder  # of the tests' own temporary folders the outermost closed one counts
    closed.chmod(0o700)
    assert closed_to(runtime, ROOT) is None
    assert closed_to(runtime, OTHER) == closed
    found = view_of(data, [], [runtime], OTHER, None)
    assert closed in found.replaced
    assert runtime in found.shown


def test_names_stay_as_they_are() -> None:
    shown = Path("/d/scripts/v1.")
    words = list(steps(View({Path("/d"): ""}, (shown,))))
    assert words == [
        *("tmpfs", "/mnt", "755"),
        *("tmpfs", "/mnt/0", "755"),
        *("bind", "/d/scripts/v1.", "/mnt/0/scripts/v1."),
        *("place", "/mnt/0", "/d"),
        *("unplace", "/mnt"),
    ]
    itself = list(steps(View({Path("/d"): ""}, (Path("/d"),))))
    assert itself[6:9] == ["bind", "/d", "/mnt/0"]
