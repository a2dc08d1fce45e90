"""Projects of cargo."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from rota.builders.finding import Draft, Finding
from rota.builders.folder import Folder
from rota.builders.versions import Wanted, number

_RELEASE = re.compile(r"1(\.[0-9]+)+")


def cargo(folder: Folder) -> Finding | None:
    """Find a crate or a workspace."""
    if not folder.has("Cargo.toml"):
        return None
    found = Draft("cargo", folder)
    manifest = read_toml(folder, "Cargo.toml", found)
    workspace = manifest.get("workspace")
    found.see("Cargo.toml" + (", a workspace" if isinstance(workspace, dict) else ""))
    wanted = _version(folder, manifest)
    found.see(wanted.words("Rust"))
    least = wanted.version
    found.values |= {
        "rust_image": least if _RELEASE.fullmatch(least) else "1",
        "rust_axis": ",".join(dict.fromkeys([*([least] if least else []), "stable", "beta"])),
        "rust_image_axis": f"{least if _RELEASE.fullmatch(least) else '1.80'},1",
        "profile": "default",
    }
    if found.word("lock", folder.has("Cargo.lock")):
        found.see("Cargo.lock")
    nextest = read_toml(folder.below(".config"), "nextest.toml", found)
    for name, profile in (nextest.get("profile") or {}).items():
        if isinstance(profile, dict) and isinstance(profile.get("junit"), dict):
            found.word("nextest")
            found.values["profile"] = name
            found.see(f"cargo-nextest, with reports in the profile {name}")
            break
    found.word("library", folder.below("src").has("lib.rs") or isinstance(workspace, dict))
    return found.made()


def read_toml(folder: Folder, name: str, found: Draft) -> dict[str, Any]:
    """Return a file's tables; a note says it if it is none."""
    try:
        return tomllib.loads(folder.text(name))
    except tomllib.TOMLDecodeError as error:
        found.notes.append(f"{name} cannot be read: {error}")
        return {}


def _version(folder: Folder, manifest: dict[str, Any]) -> Wanted:
    for name in ("rust-toolchain.toml", "rust-toolchain"):
        text = folder.text(name).strip()
        if not text:
            continue
        match = re.search(r"channel\s*=\s*['\"]([^'\"]+)", text)
        channel = match[1] if match else text.splitlines()[0]
        if re.fullmatch(r"[A-Za-z0-9.-]+", channel):
            return Wanted(channel, name)
    workspace = manifest.get("workspace")
    shared = workspace.get("package") if isinstance(workspace, dict) else None
    for table in (manifest.get("package"), shared):
        if isinstance(table, dict) and isinstance(table.get("rust-version"), str):
            return Wanted(number(table["rust-version"], 3), "rust-version")
    return Wanted("", "")
