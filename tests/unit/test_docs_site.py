"""The site has every page, and its reference everything that the program's tables have."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import yaml
from tests.harness.pages import ROOT

from rota.cli.table import COMMANDS
from rota.core import header, settings
from rota.http.openapi import document
from rota.service.meters import METERS
from rota.service.verbs import VERBS

CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"


@pytest.fixture(scope="module")
def reference() -> Iterator[ModuleType]:
    # Beside one another, as `make site` runs them.
    before = list(sys.path)
    sys.path[:0] = [str(ROOT / "packaging")]
    spec = importlib.util.spec_from_file_location("reference", CONFIG.with_name("reference.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


def listed(nav: object) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, list | dict):
        for it in nav if isinstance(nav, list) else nav.values():
            yield from listed(it)


def test_every_page_is_listed_once(reference: ModuleType) -> None:
    found = list(listed(yaml.safe_load(CONFIG.read_text())["nav"]))
    made = {f"docs/reference/{name}" for name in reference.pages()} | {"docs/adr/README.md"}
    there = {
        str(it.relative_to(ROOT)) for it in (ROOT / "docs").rglob("*.md") if "adr" not in it.parts
    }
    assert len(found) == len(set(found))
    assert there - set(found) == set(), "list it in docs/site/mkdocs.yml"
    assert {it for it in found if it.startswith("docs/")} - there - made == set()


def test_every_page_has_a_task() -> None:
    text = (ROOT / "docs" / "README.md").read_text()
    pages = {it.name for it in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert {it for it in pages if f"]({it})" not in text} == set(), "list it in docs/README.md"


def test_everything_has_its_place_in_the_reference(reference: ModuleType) -> None:
    made = reference.pages()
    for command in COMMANDS:
        assert command.is_hidden or f"\n## rota {command.name}\n" in made["commands.md"], (
            command.name
        )
    for verb in VERBS:
        assert f"\n## {verb.method} {verb.path}\n" in made["rest.md"], verb.name
    for operations in json.loads(document())["paths"].values():
        for operation in operations.values():
            for field in operation.get("parameters", ()):
                assert f"| `{field['name']}` |" in made["rest.md"]
    for key in header._JOB:
        assert f"| `{key}` |" in made["header.md"], key
    for key in settings._SETTINGS:
        assert re.search(rf"^(## \[{key}\]|\| `{key}` \|)", made["settings.md"], re.MULTILINE), key
    for meter in METERS:
        assert f"| `{meter.name}` |" in made["metrics.md"], meter.name
