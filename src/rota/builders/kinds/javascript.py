"""Projects with a package.json."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from rota.builders.finding import Draft, Finding
from rota.builders.folder import Folder
from rota.builders.versions import Wanted, asked, at_least, number, of_range, order

KNOWN = ("18", "20", "22", "24")
DEFAULT = "22"
_FILES = (".nvmrc", ".node-version")
#: What npm writes where nobody has thought of tests.
_NO_TEST = "no test specified"
_TAP = ("mocha", "ava", "tape")
#: Versions of lock files, and who writes them; the first where it is not said.
_YARNS = {"8": "4", "7": "3", "6": "3", "5": "2", "4": "2"}
_PNPMS = {"9": "9", "6": "8", "5": "7"}
_LOCK = re.compile(r"^(?:lockfileVersion:\s*'?|__metadata:\s+version:\s*)([0-9]+)", re.MULTILINE)
#: The last command of a test script is the one that arguments reach.
_LAST = re.compile(r"(?:^|&&|;|\|\|)\s*([^&;|]*)$")
_OUT = re.compile(r'"outDir"\s*:\s*"(?!/|[^"]*\.\.)([^"*?\[\]{}]+)"')
_PREFIXES = re.compile(r"^(?:cross-env\s+|[A-Z_]+=\S*\s+|npx\s+|c8\s+|nyc\s+(?:--\S+\s+)*)*")


def npm(folder: Folder) -> Finding | None:
    """Find a project that npm, yarn or pnpm builds."""
    if not folder.has("package.json"):
        return None
    found = Draft("npm", folder)
    package = _package(folder, found)
    found.see("package.json" + _workspaces(package, folder))
    _manager(found, folder, package)
    _node(found, folder, package)
    scripts = _texts(package.get("scripts"))
    for name in ("lint", "build"):
        found.word(name, name in scripts)
    found.values["output"] = _output(folder, scripts.get("build", ""))
    test = scripts.get("test", "")
    if not test or _NO_TEST in test:
        found.notes.append("package.json says no way to test: the job only builds")
    else:
        _test(found, package, test)
    return found.made()


def _package(folder: Folder, found: Draft) -> dict[str, Any]:
    try:
        package = json.loads(folder.text("package.json"))
    except ValueError as error:
        found.notes.append(f"package.json cannot be read: {error}")
        return {}
    return package if isinstance(package, dict) else {}


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {str(key): text for key, text in value.items() if isinstance(text, str)}


def _output(folder: Folder, build: str) -> str:
    """Return the folder in which a build most likely leaves what it makes."""
    match = _OUT.search(folder.text("tsconfig.json"))
    if "react-scripts" in build:
        return "build"
    if match and build.split()[:1] == ["tsc"]:
        return match[1].removeprefix("./").strip("/") or "dist"
    return "dist"


def _workspaces(package: dict[str, Any], folder: Folder) -> str:
    if package.get("workspaces") or folder.has("pnpm-workspace.yaml"):
        return " with workspaces"
    return ""


def _manager(found: Draft, folder: Folder, package: dict[str, Any]) -> None:
    """Say which package manager it is: what package.json names, else whose lock file there is."""
    named = package.get("packageManager")
    name, _, version = (named if isinstance(named, str) else "").partition("@")
    version = number(version, 3)
    if name in ("npm", "yarn", "pnpm"):
        found.see(" ".join(filter(None, (name, version, "(packageManager)"))))
    elif folder.has("pnpm-lock.yaml"):
        name = "pnpm"
        found.see("pnpm (pnpm-lock.yaml)")
    elif folder.has("yarn.lock"):
        name = "yarn"
        found.see("yarn (yarn.lock)")
    else:
        name = "npm"
    if name == "npm":
        found.word("npm")
        if found.word("lock", folder.has("package-lock.json", "npm-shrinkwrap.json")):
            found.see("npm (package-lock.json)")
        else:
            found.notes.append(
                "there is no package-lock.json: each build takes the newest packages that fit"
            )
    elif name == "yarn":
        lock = folder.text("yarn.lock")
        is_new = order(number(version, 1) or "1") >= (2,) or "__metadata:" in lock
        found.word("berry" if is_new else "yarn")
        said = version or (_by_lock(lock, _YARNS) if is_new else "1")
        found.values["package"] = f"{'@yarnpkg/cli-dist' if is_new else 'yarn'}@{said}"
    else:
        found.word(name)
        said = version or _by_lock(folder.text("pnpm-lock.yaml"), _PNPMS)
        found.values["package"] = f"pnpm@{said}"


def _by_lock(lock: str, known: Mapping[str, str]) -> str:
    """Return the version of a package manager that writes lock files of this version."""
    match = _LOCK.search(lock)
    return known.get(match[1] if match else "", next(iter(known.values())))


def _node(found: Draft, folder: Folder, package: dict[str, Any]) -> None:
    engines = _texts(package.get("engines")).get("node", "")
    wanted = (
        asked(folder, "node", _FILES, 1)
        or (Wanted(least, "engines") if (least := of_range(engines, 1)) not in ("", "0") else None)
        or Wanted(DEFAULT, "")
    )
    found.see(wanted.words("Node"))
    version = wanted.version
    image = version if order(version) >= (16,) else KNOWN[0]
    found.values |= {
        "node": version if wanted.where else "18",
        "node_image": image,
        "node_axis": ",".join(at_least(KNOWN, image, 3)),
    }


def _test(found: Draft, package: dict[str, Any], script: str) -> None:
    """Find out who runs the tests, and how that one is asked for a report."""
    last = _LAST.search(script)
    command = _PREFIXES.sub("", (last[1] if last else script).strip())
    words = command.split()
    runner = words[0].rpartition("/")[2] if words else ""
    all_packages = {
        **_texts(package.get("dependencies")),
        **_texts(package.get("devDependencies")),
    }
    if runner == "react-scripts":
        runner = "jest" if words[1:2] == ["test"] else runner
    if runner == "node" and "--test" in words and "--test-reporter" not in command:
        found.see("tests by node --test")
        found.word("node_test")
        found.word("test")
    elif runner == "vitest" and "--reporter" not in command:
        found.see("tests by vitest")
        found.word("vitest")
    elif runner == "jest" and "--reporters" not in command:
        found.see("tests by jest")
        found.word("jest")
        found.word("jest_junit", "jest-junit" in all_packages)
    elif runner in _TAP and "--reporter" not in command and "--tap" not in command:
        found.see(f"tests by {runner}")
        found.word(runner)
        found.word("tap")
    else:
        found.word("test")
