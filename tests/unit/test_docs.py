"""The reference says what the code says; the pages for who changes it name what is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from rota.core.events import Known

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "generate.py"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_not_stale(generate: ModuleType) -> None:
    assert generate.main(["--check"]) == 0, "run: python docs/generate.py"


def test_a_stale_page_is_named_and_written_anew(
    generate: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0
    page = tmp_path / "events.md"
    page.write_text("old")
    assert generate.main(["--check"], tmp_path) == 1
    expected = f"{page} is not what the code says: run python docs/generate.py\n"
    assert capsys.readouterr().err == expected
    assert page.read_text() == "old"
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0


def test_every_kind_of_event_has_its_section(generate: ModuleType) -> None:
    page = generate.events()
    for kind in Known.__args__:
        assert f"\n## `{kind.__struct_config__.tag}`\n" in page


def test_each_decision_has_the_one_head() -> None:
    pages = sorted((ROOT / "docs" / "adr").glob("*.md"))
    for number, page in enumerate(pages, 1):
        assert page.name.startswith(f"{number:04}-"), f"{page.name}: the next number is {number:04}"
        head = (
            rf"# {number}\. .+\n\nStatus: accepted · \d{{4}}-\d\d(; .+)?\n\n## Context\n\n(.+\n)+"
        )
        text = page.read_text()
        assert re.match(head, text), (
            f"{page.name} begins with: # {number}. TITLE, Status: accepted · YYYY-MM, ## Context"
        )
        assert "\n## Decision\n" in text, f"{page.name}: ## Decision is missing"


def test_the_map_names_what_is_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    whole = text.partition("## On disk")[0] + text.partition("## Invariants")[2]
    package = ROOT / "src" / "rota"
    for named in re.findall(r"`((?:[\w-]+/)+(?:[\w.-]+\.(?:py|sh|toml|md))?)[`: ]", whole):
        if "NAME" not in named:
            assert (ROOT / named).exists() or (package / named).exists(), (
                f"ARCHITECTURE.md names {named}, which is not there"
            )
    table = text.partition("## Packages")[2].partition("\n\n`make check`")[0]
    told = {name.rstrip("/") for name in re.findall(r"^\| `(\w+/?)`", table, re.MULTILINE)}
    made = {it.stem for it in package.iterdir() if it.is_dir() or it.suffix == ".py"}
    made -= {"__init__", "__main__", "_version", "__pycache__", "py"}
    assert told == made, "ARCHITECTURE.md has a row for each package"


def test_each_word_of_the_glossary_is_explained_once() -> None:
    rows = re.findall(
        r"^\| ([^|]+) \| [^|]+ \|$", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE
    )
    words = [word.lower() for word in rows if word != "word" and not word.startswith("---")]
    assert len(words) > 150
    assert sorted(set(words)) == sorted(words)
