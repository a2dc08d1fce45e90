"""All templates there are, and which of them fit a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rota.builders.finding import Finding, Kind
from rota.builders.folder import Folder, Imagined
from rota.builders.kinds import (
    container,
    dotnet,
    golang,
    java,
    javascript,
    native,
    python,
    ruby,
    rust,
)
from rota.builders.template import description_of

FOLDER = Path(__file__).parents[1] / "templates"

#: Kinds in the order of their listing. Of one group the first that is found in a folder is the one.
KINDS: Mapping[str, Kind] = {
    "maven": java.maven,
    "gradle": java.gradle,
    "sbt": java.sbt,
    "npm": javascript.npm,
    "cargo": rust.cargo,
    "go": golang.go,
    "uv": python.uv,
    "tox": python.tox,
    "pip": python.pip,
    "dotnet": dotnet.dotnet,
    "ruby": ruby.ruby,
    "cmake": native.cmake,
    "make": native.make,
    "docker": container.docker,
}
#: The files by which a template that does not fit a folder is told what it takes for granted.
_IMAGINED: Mapping[str, Mapping[str, str]] = {
    "maven": {"pom.xml": ""},
    "gradle": {"build.gradle": ""},
    "sbt": {"build.sbt": ""},
    "npm": {"package.json": '{"scripts": {"build": "", "test": "sh"}}', "package-lock.json": ""},
    "cargo": {"Cargo.toml": "", "Cargo.lock": ""},
    "go": {"go.mod": ""},
    "uv": {"uv.lock": "", "pyproject.toml": "[build-system]"},
    "tox": {"tox.ini": ""},
    "pip": {"pyproject.toml": "[build-system]", "conftest.py": ""},
    "dotnet": {"a.sln": "a.csproj"},
    "ruby": {"Gemfile": "", "Gemfile.lock": "", "Rakefile": ""},
    "cmake": {"CMakeLists.txt": ""},
    "make": {"Makefile": "check:"},
    "docker": {"Dockerfile": ""},
}
_EITHER = (("uv", "tox", "pip"), ("cmake", "make"))

#: What stands in a deploy until somebody says better.
DEPLOYS: Mapping[str, Mapping[str, str]] = {
    "deploy-ssh": {"host": "deploy@www.example.com", "folder": "/srv/www"},
    "deploy-symlink": {"host": "deploy@www.example.com", "folder": "/srv/www"},
    "deploy-systemd": {"host": "deploy@www.example.com"},
    "deploy-image": {},
    "release-tag": {},
}
#: A script of one's own, with all that a header can say.
SCRIPTS = ("bash", "python")


def known() -> dict[str, Path]:
    """Return the file of each template, by name, in the order in which they are listed."""
    files = {path.stem: path for path in sorted(FOLDER.iterdir()) if path.is_file()}
    order = {name: at for at, name in enumerate((*KINDS, *DEPLOYS, *SCRIPTS))}
    return dict(sorted(files.items(), key=lambda it: order.get(it[0], len(order))))


def described(path: Path) -> str:
    """Return what a template says that it is."""
    return description_of(path.read_text(encoding="utf-8"))


def findings_in(folder: Folder) -> Iterator[Finding]:
    """Yield the projects in a folder and below it, the near ones first.

    What lies below a project of the same kind is a part of that: a module, a workspace's package.
    """
    found: dict[str, list[str]] = {}
    for each in folder.walk():
        here = {
            name: finding for name, kind in KINDS.items() if (finding := kind(each)) is not None
        }
        for group in _EITHER:
            for name in [it for it in group if it in here][1:]:
                del here[name]
        is_known = len(here) > 1 or any(
            _is_below(each.path, path) for paths in found.values() for path in paths
        )
        if is_known and "make" in here and "compiles" not in here["make"].words:
            del here["make"]
        for name, finding in here.items():
            kin: Sequence[str] = next((it for it in _EITHER if name in it), (name,))
            above = [path for it in kin for path in found.get(it, ())]
            if name != "docker" and any(_is_below(each.path, path) for path in above):
                continue
            found.setdefault(name, []).append(each.path)
            yield finding


def finding_at(name: str, folder: Folder) -> Finding | None:
    """Return the project of a template's kind that is in a folder."""
    kind = KINDS.get(name)
    return kind(folder) if kind else None


def imagined(name: str, path: str) -> Finding:
    """Return what a template takes for granted that does not fit a folder."""
    kind = KINDS.get(name)
    finding = kind(Imagined(_IMAGINED[name], path)) if kind else None
    if finding is None:
        return Finding(name, path)
    return replace(finding, path=path, seen=(), notes=())


def _is_below(path: str, above: str) -> bool:
    return not above or path.startswith(above + "/")
