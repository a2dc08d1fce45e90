"""Links between pages lead somewhere: to a file that is there, and to a heading of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.pages import FENCE, ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
_LINK = re.compile(r"\]\((?P<to>[^)\s]*)\)")
_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_leads_where_it_says(page: Path) -> None:
    assert list(faults_of(page)) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# What it is, `and` is not\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "a.md"
    page.write_text(
        "# Here\n\n[a](c.md) [b](b.md#what-it-is-and-is-not) [c](b.md#gone) [d](#here) [e](#there) "
        "[f](https://elsewhere.example/#x) [g](b.md#twice-1) `[h](no.md)`\n\n```text\n# There\n[i](no.md)\n```\n"
    )
    assert list(faults_of(page)) == [
        "c.md: no such file",
        "b.md#gone: no such heading",
        "#there: no such heading",
    ]


def faults_of(page: Path) -> Iterator[str]:
    text = _CODE.sub("", FENCE.sub("", page.read_text()))
    for link in _LINK.finditer(text):
        to, _, anchor = link["to"].partition("#")
        if re.match(r"[a-z]+:", to):
            continue
        target = page.parent / to if to else page
        if not target.exists():
            yield f"{link['to']}: no such file"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
            yield f"{link['to']}: no such heading"


def anchors(text: str) -> set[str]:
    """Return what headings are called in links, as GitHub has it; `make site` looks at its own."""
    found: set[str] = set()
    for heading in _HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        words = re.sub(r"[^\w\s-]", "", plain).strip().lower()
        name = re.sub(r"\s", "-", words)
        found.add(f"{name}-{1 if name in found else 0}".removesuffix("-0"))
    return found
