"""Python projects: by uv, tox or pip, whichever they are made for."""

from __future__ import annotations

import re
from typing import Any

from rota.builders.finding import Draft, Finding
from rota.builders.folder import Folder
from rota.builders.kinds.rust import read_toml
from rota.builders.versions import Wanted, asked, at_least, fitting, of_range

KNOWN = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
DEFAULT = "3.12"
_CLASSIFIER = re.compile(r"Programming Language :: Python :: (3\.[0-9]+)")
_REQUIRES = re.compile(r"python_requires\s*=\s*['\"]?([^'\"\n]+)")
#: What projects call the extra, or the group, that has what their tests need; the first that is there.
_TESTS = ("test", "tests", "testing", "dev")


def uv(folder: Folder) -> Finding | None:
    """Find a project with uv's lock file, or its settings."""
    has_lock = folder.has("uv.lock")
    if not has_lock and "[tool.uv" not in folder.text("pyproject.toml"):
        return None
    found = Draft("uv", folder)
    found.see("uv.lock" if found.word("lock", has_lock) else "[tool.uv] in pyproject.toml")
    return _made(found, folder)


def tox(folder: Folder) -> Finding | None:
    """Find a project with environments of tox."""
    if folder.has("tox.ini"):
        where = "tox.ini"
    elif "[tool.tox" in folder.text("pyproject.toml"):
        where = "[tool.tox] in pyproject.toml"
    elif "[tox:tox]" in folder.text("setup.cfg"):
        where = "[tox:tox] in setup.cfg"
    else:
        return None
    found = Draft("tox", folder)
    found.see(where)
    return _made(found, folder)


def pip(folder: Folder) -> Finding | None:
    """Find any other Python project: one that can be installed, or has its needs in a file."""
    needs = folder.matching("requirements*.txt")
    package = folder.matching("pyproject.toml", "setup.py", "setup.cfg")
    if not package and not needs:
        return None
    table = read_toml(folder, "pyproject.toml", Draft("pip", folder))
    if (
        package == ["pyproject.toml"]
        and not table.keys() & {"project", "build-system"}
        and not needs
    ):
        return None  # settings of some tool
    found = Draft("pip", folder)
    found.see((package or needs)[0])
    return _made(found, folder)


def _made(found: Draft, folder: Folder) -> Finding:
    pyproject = read_toml(folder, "pyproject.toml", found)
    setup = folder.text("setup.cfg") + folder.text("setup.py")
    project = pyproject.get("project")
    project = project if isinstance(project, dict) else {}
    _python(found, folder, project, setup)
    can_install = bool(project or "build-system" in pyproject or folder.has("setup.py"))
    found.word("package", can_install)
    found.word("requirements", folder.matching("requirements*.txt"))
    found.word("requirements_txt", folder.has("requirements.txt"))
    found.word("requirements_dev", folder.has("requirements-dev.txt"))
    texts = _all_text(folder, setup)
    named = "pytest" in texts
    has_tests = any(name.startswith("test") for name in (*folder.folders, *folder.files))
    uses_pytest = named or folder.has("conftest.py", "pytest.ini") or not _is_unittest(folder)
    if found.word("pytest", uses_pytest):
        found.see("tests by pytest")
        found.word("pytest_named", named)
    elif has_tests:
        found.see("tests by unittest")
    found.word("coverage", "pytest-cov" in texts)
    extra, group = _tests_of(project, pyproject)
    found.values["editable"] = f".[{extra}]" if extra else "."
    found.values["group"] = group
    found.word("group", group)
    return found.made()


def _all_text(folder: Folder, setup: str) -> str:
    names = (
        "pyproject.toml",
        "tox.ini",
        "uv.lock",
        "Pipfile",
        *folder.matching("requirements*.txt"),
    )
    return setup + "".join(folder.text(name) for name in names)


def _is_unittest(folder: Folder) -> bool:
    """Whether a test in it imports unittest."""
    for each in (folder, *(folder.below(it) for it in folder.folders if it.startswith("test"))):
        for name in each.matching("test*.py", "*_test.py")[:20]:
            if re.search(r"^(?:import|from) unittest", each.text(name), re.MULTILINE):
                return True
    return False


def _tests_of(project: dict[str, Any], pyproject: dict[str, Any]) -> tuple[str, str]:
    extras = project.get("optional-dependencies")
    groups = pyproject.get("dependency-groups")
    extra = next((it for it in _TESTS if isinstance(extras, dict) and it in extras), "")
    group = next((it for it in _TESTS if isinstance(groups, dict) and it in groups), "")
    return extra, "" if extra else group


def _python(found: Draft, folder: Folder, project: dict[str, Any], setup: str) -> None:
    said = project.get("requires-python")
    least = of_range(said, 2) if isinstance(said, str) else ""
    where = "requires-python"
    if not least and (match := _REQUIRES.search(setup)):
        least, where = of_range(match[1], 2), "python_requires"
    exact = asked(folder, "python", (".python-version",), 2)
    if least and "." not in least:
        least = ""  # ">=3" says nothing
    if exact:
        found.see(exact.words("Python"))
    elif least:
        found.see(Wanted(f"{least} or newer", where).words("Python"))
    classifiers = project.get("classifiers")
    texts = "\n".join(map(str, classifiers)) if isinstance(classifiers, list) else setup
    named = sorted(set(_CLASSIFIER.findall(texts)), key=lambda it: int(it[2:]))
    version = exact.version if exact else fitting((DEFAULT, *KNOWN[-2:]), least or DEFAULT)
    found.values |= {
        "python": version,
        "python_least": least or (exact.version if exact else "3.8"),
        "python_axis": ",".join(named or at_least(KNOWN, least or "3.10", 4)),
    }
