"""Projects of .NET."""

from __future__ import annotations

import re

from rota.builders.finding import Draft, Finding
from rota.builders.folder import Folder
from rota.builders.versions import number, order

DEFAULT = "8"
_PROJECTS = ("*.csproj", "*.fsproj", "*.vbproj")
_NAMED = re.compile(r"\.(?:cs|fs|vb)proj\b")
_FRAMEWORK = re.compile(r"<TargetFrameworks?>([^<]+)<")
_NET = re.compile(r"\bnet(?:coreapp)?([0-9]+)\.[0-9]+")


def dotnet(folder: Folder) -> Finding | None:
    """Find a solution, or the projects of a folder without one."""
    # Visual Studio writes solutions of C++ as well.
    solutions = [it for it in folder.matching("*.sln", "*.slnx") if _NAMED.search(folder.text(it))]
    projects = folder.matching(*_PROJECTS)
    if not solutions and not projects:
        return None
    found = Draft("dotnet", folder)
    found.see((solutions or projects)[0])
    texts = [
        each.text(name)
        for each in folder.walk(3)
        for name in (
            *each.matching(*_PROJECTS),
            "Directory.Build.props",
            "Directory.Packages.props",
        )
        if each.has(name)
    ]
    below = [folder.below(it) for it in ("src", "test", "tests")]
    texts += [
        each.text(name)
        for top in below
        for each in top.walk(2)
        for name in each.matching(*_PROJECTS)
    ]
    versions = {
        number(it, 1)
        for text in texts
        for said in _FRAMEWORK.findall(text)
        for it in _NET.findall(said)
    }
    sdk = re.search(r'"version"\s*:\s*"([0-9]+)', folder.text("global.json"))
    ordered = sorted(versions, key=order)
    if sdk:
        found.see(f".NET {sdk[1]} (global.json)")
    elif ordered:
        found.see(f".NET {', '.join(ordered)} (TargetFramework)")
    version = number(sdk[1], 1) if sdk else (ordered or [DEFAULT])[-1]
    found.values |= {"dotnet": version, "dotnet_axis": ",".join(ordered or ["8", "9"])}
    found.word("lock", any(each.has("packages.lock.json") for each in folder.walk(2)))
    found.word("junit", any("JunitXml.TestLogger" in text for text in texts))
    found.word("pack", any("GeneratePackageOnBuild>true" in text for text in texts))
    found.word("coverage", any("coverlet.collector" in text for text in texts))
    return found.made()
