"""The reference says what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from rota.core.events import Known

SCRIPT = Path(__file__).parents[2] / "docs" / "generate.py"


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
