"""The threat model names tests that exist, and says what is left where there is none."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "threats.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
NOTHING = "\N{EN DASH}"
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| threat", "| ---"))
]


def test_each_row_has_what_a_threat_needs() -> None:
    assert len(ROWS) > 50
    for row in ROWS:
        assert len(row) == 4, row
        threat, done, tests, left = row
        assert threat, row
        assert NAMED.search(tests) or left != NOTHING, (
            f"no test, and nothing is said to be left: {threat}"
        )
        if done == NOTHING:
            assert (tests, len(left) > 20) == (NOTHING, True), row


def test_each_test_that_is_named_is_there() -> None:
    found = NAMED.findall(TEXT)
    assert len(found) > 60
    missing = []
    for file, name in found:
        path = ROOT / file
        text = path.read_text("utf-8") if path.is_file() else ""
        if not text or (name and not re.search(rf"^\s*(async )?def {name}\(", text, re.MULTILINE)):
            missing.append(f"{file}::{name}")
    assert not missing, f"docs/threats.md names tests that are not there: {missing}"
