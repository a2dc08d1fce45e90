"""Projects of make and of CMake."""

from __future__ import annotations

import re

from rota.builders.finding import Draft, Finding
from rota.builders.folder import Folder
from rota.builders.versions import number

_MAKEFILES = ("GNUmakefile", "Makefile", "makefile")
_TARGET = re.compile(r"^(check|test)\s*::?(?!=)", re.MULTILINE)
_COMPILES = re.compile(r"\$[({]CC[)}]|\bgcc\b|\bcc\b|\$[({]CXX[)}]|\bg\+\+", re.MULTILINE)
_LEAST = re.compile(
    r"cmake_minimum_required\s*\(\s*VERSION\s+(\S+?)[\s.)]*(?:\.\.\.|\))", re.IGNORECASE
)


def make(folder: Folder) -> Finding | None:
    """Find a Makefile of C or C++, or what makes one: configure, configure.ac.

    A Makefile that compiles nothing is somebody's list of short cuts, and no project of its own
    where another kind is found.
    """
    makefile = next((it for it in _MAKEFILES if folder.has(it)), None)
    autoconf = next((it for it in ("configure.ac", "configure.in") if folder.has(it)), None)
    if makefile is None and autoconf is None and not folder.has("configure", "Makefile.am"):
        return None
    found = Draft("make", folder)
    text = folder.text(makefile) if makefile else ""
    if makefile is None:
        found.word("autotools")
        if folder.has("configure"):
            found.word("configure")
            found.word("executable", folder.is_executable("configure"))
            found.see("configure")
        else:
            found.word("autoreconf")
            found.word("executable")
            found.see(autoconf or "Makefile.am")
        found.word("check")
    else:
        found.see(makefile)
        for target in dict.fromkeys(_TARGET.findall(text)):
            found.word(target)
            found.see(f"make {target}")
    found.word("compiles", makefile is None or _COMPILES.search(text))
    found.values |= {"cc_axis": "gcc,clang"}
    return found.made()


def cmake(folder: Folder) -> Finding | None:
    """Find the uppermost CMakeLists.txt."""
    if not folder.has("CMakeLists.txt"):
        return None
    found = Draft("cmake", folder)
    match = _LEAST.search(folder.text("CMakeLists.txt"))
    least = number(match[1], 2) if match else ""
    found.see("CMakeLists.txt" + (f", CMake {least} or newer" if least else ""))
    # -S and --build --parallel came with 3.13.
    major, _, minor = (least or "3.13").partition(".")
    is_later = (int(major), int(minor or 0)) > (3, 13)
    found.values |= {
        "cmake": least if is_later else "3.13",
        "build_type": "Release",
        "build_type_axis": "Debug,Release",
        "image": "gcc:14",
    }
    return found.made()
