"""Small projects of several kinds, as a person would have them: to be built, and to be broken."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Small(NamedTuple):
    """A project: its files, what breaks its tests, and what its build leaves and says."""

    files: Mapping[str, str]
    broken: Mapping[str, str]  # files that make tests fail
    leaves: tuple[str, ...] = ()  # artifacts of a good build
    says: str = ""  # stands in the log of a good build
    counts: tuple[int, int] | tuple[()] = ()  # tests of the broken one: all, and those that fail
    names: str = ""  # stands in the name of the test that fails
    edits: tuple[tuple[str, str], ...] = ()  # what a person who has no network changes in the job
    args: str = ""  # what is given as the parameter args
    needs: tuple[str, ...] = ()  # programs


def _pom(body: str) -> str:
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        f"{body}</project>"
    )


def _module(name: str) -> str:
    parent = (
        "<parent><groupId>shop</groupId><artifactId>shop</artifactId><version>1</version></parent>"
    )
    junit = (
        "<dependencies><dependency><groupId>junit</groupId><artifactId>junit</artifactId>"
        "<version>4.x</version><scope>test</scope></dependency></dependencies>"
    )
    return _pom(f"{parent}<artifactId>{name}</artifactId>{junit}")


def _java_test(package: str, expected: int) -> str:
    return f"""package {package};
import static org.junit.Assert.*;
import org.junit.Test;
public class SumTest {{
    @Test public void adds() {{ assertEquals({expected}, 1 + 1); }}
    @Test public void holds() {{ assertTrue(true); }}
}}
"""


MAVEN = Small(
    {
        "pom.xml": _pom(
            "<groupId>shop</groupId><artifactId>shop</artifactId><version>1</version>"
            "<packaging>pom</packaging><modules><module>core</module><module>web</module></modules>"
            "<properties><maven.compiler.source>8</maven.compiler.source>"
            "<maven.compiler.target>8</maven.compiler.target>"
            "<project.build.sourceEncoding>UTF-8</project.build.sourceEncoding></properties>"
        ),
        "core/pom.xml": _module("core"),
        "core/src/main/java/core/Sum.java": "package core; public class Sum { }\n",
        "core/src/test/java/core/SumTest.java": _java_test("core", 2),
        "web/pom.xml": _module("web"),
        "web/src/main/java/web/Page.java": "package web; public class Page { }\n",
        "web/src/test/java/web/SumTest.java": _java_test("web", 2),
    },
    {"core/src/test/java/core/SumTest.java": _java_test("core", 3)},
    ("core/target/core-1.jar", "web/target/web-1.jar"),
    "BUILD SUCCESS",
    (4, 1),
    args="-s SETTINGS -DforkCount=0",  # a fork of surefire 3 in Debian ends ten seconds late
    needs=("mvn", "java"),
)

_GRADLE = """apply plugin: 'java'
repositories { maven { url 'file:///usr/share/maven-repo' } }
dependencies { testCompile 'junit:junit:4.x' }
sourceCompatibility = 1.8
"""
GRADLE = Small(
    {
        "settings.gradle": "include 'core', 'web'\n",
        "build.gradle": f"subprojects {{\n{_GRADLE}}}\n",
        "core/src/main/java/core/Sum.java": "package core; public class Sum { }\n",
        "core/src/test/java/core/SumTest.java": _java_test("core", 2),
        "web/src/main/java/web/Page.java": "package web; public class Page { }\n",
        "web/src/test/java/web/SumTest.java": _java_test("web", 2),
    },
    {"core/src/test/java/core/SumTest.java": _java_test("core", 3)},
    ("core/build/libs/core.jar", "web/build/libs/web.jar"),
    "BUILD SUCCESSFUL",
    (4, 1),
    args="--offline",
    needs=("gradle", "java"),
)

_NPM_TEST = """const {test} = require('node:test'); const assert = require('node:assert');
test('adds', () => assert.equal(1 + 1, %d));
test('holds', () => assert.ok(true));
"""
NPM = Small(
    {
        "package.json": """{
  "name": "web", "version": "1.0.0", "engines": {"node": ">=18"},
  "scripts": {"build": "mkdir -p dist && cp page.js dist/", "test": "node --test test/"}
}
""",
        "package-lock.json": """{
  "name": "web", "version": "1.0.0", "lockfileVersion": 3, "requires": true,
  "packages": {"": {"name": "web", "version": "1.0.0"}}
}
""",
        "page.js": "module.exports = 1\n",
        "test/sum.test.js": _NPM_TEST % 2,
    },
    {"test/sum.test.js": _NPM_TEST % 3},
    ("dist/page.js",),
    "pass 2",
    (2, 1),
    needs=("npm", "node"),
)

_RUST = "pub fn one() -> i32 { 1 }\n#[test]\nfn adds() { assert_eq!(1 + 1, %d); }\n#[test]\nfn holds() {}\n"
CARGO = Small(
    {
        "Cargo.toml": '[workspace]\nmembers = ["core", "web"]\n',
        "Cargo.lock": 'version = 3\n\n[[package]]\nname = "core_"\nversion = "0.1.0"\n\n'
        '[[package]]\nname = "web"\nversion = "0.1.0"\n',
        "core/Cargo.toml": '[package]\nname = "core_"\nversion = "0.1.0"\nedition = "2018"\n',
        "core/src/lib.rs": _RUST % 2,
        "web/Cargo.toml": '[package]\nname = "web"\nversion = "0.1.0"\nedition = "2018"\n',
        "web/src/lib.rs": _RUST % 2,
    },
    {"core/src/lib.rs": _RUST % 3},
    says="test adds ... ok",
    names="core_::adds",
    counts=(4, 1),
    needs=("cargo",),
)

_GO = """package %s
import "testing"
func TestAdds(t *testing.T) { if 1+1 != %d { t.Error("one and one") } }
func TestHolds(t *testing.T) { t.Run("part", func(t *testing.T) {}) }
"""
GO = Small(
    {
        "go.mod": "module example.org/shop\n\ngo 1.18\n",
        "core/sum.go": "package core\n",
        "core/sum_test.go": _GO % ("core", 2),
        "web/page.go": "package web\n",
        "web/page_test.go": _GO % ("web", 2),
    },
    {"core/sum_test.go": _GO % ("core", 3)},
    says="--- PASS: TestAdds",
    names="example.org/shop/core.TestAdds",
    counts=(6, 1),
    needs=("go",),
)

_PYTEST = "def test_adds():\n    assert 1 + 1 == %d\n\n\ndef test_holds():\n    pass\n"
_PYPROJECT = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "shop"
version = "1.0"
requires-python = ">=3.9"
%s
[tool.setuptools]
py-modules = ["shop"]
"""
PIP = Small(
    {
        "pyproject.toml": _PYPROJECT % 'optional-dependencies = { test = ["pytest"] }\n',
        "shop.py": "",
        "tests/test_shop.py": _PYTEST % 2,
    },
    {},  # uv has shown what happens
    ("dist/shop-1.0-py3-none-any.whl",),
    "2 passed",
    (),
    needs=("python3",),
)
UV = Small(
    {
        "pyproject.toml": _PYPROJECT % '[dependency-groups]\ndev = ["pytest"]\n[tool.uv]\n',
        "shop.py": "",
        "tests/test_shop.py": _PYTEST % 2,
    },
    {"tests/test_shop.py": _PYTEST % 3},
    ("dist/shop-1.0-py3-none-any.whl",),
    "2 passed",
    (2, 1),
    needs=("uv",),
)
TOX = Small(
    {
        "tox.ini": "[tox]\nenv_list = py\nskipsdist = true\n[testenv]\ndeps = pytest\ncommands = pytest\n",
        "tests/test_shop.py": _PYTEST % 2,
    },
    {},  # uv has shown what happens; a second environment takes its time
    says="congratulations",
    needs=("python3",),
)

_MAKE = """shop: shop.c
	$(CC) -o $@ $<

check: shop
	./shop
"""
_C = "int main(void) { return %d; }\n"
MAKE = Small(
    {"Makefile": _MAKE, "shop.c": _C % 0}, {"shop.c": _C % 3}, needs=("make", "gcc"), says="./shop"
)
_CMAKE = """cmake_minimum_required(VERSION 3.13)
project(shop C)
enable_testing()
add_executable(shop shop.c)
add_executable(other other.c)
add_test(NAME adds COMMAND shop)
add_test(NAME holds COMMAND other)
"""
CMAKE = Small(
    {"CMakeLists.txt": _CMAKE, "shop.c": _C % 0, "other.c": _C % 0},
    {"shop.c": _C % 3},
    says="100% tests passed",
    counts=(2, 1),
    needs=("cmake", "gcc"),
)

_SPEC = """RSpec.describe 'shop' do
  it('adds') { expect(1 + 1).to eq(%d) }
  it('holds') { }
end
"""
RUBY = Small(
    {
        "Gemfile": "source 'https://rubygems.org'\ngem 'rspec'\n",
        ".rspec": "",
        "spec/shop_spec.rb": _SPEC % 2,
    },
    {"spec/shop_spec.rb": _SPEC % 3},
    says="2 examples, 0 failures",
    edits=(("BUNDLE_PATH=vendor/bundle ", ""), ("bundle install", "bundle install --local")),
    needs=("ruby", "bundle", "rspec"),
)

PROJECTS = {
    "maven": MAVEN,
    "gradle": GRADLE,
    "npm": NPM,
    "cargo": CARGO,
    "go": GO,
    "pip": PIP,
    "uv": UV,
    "tox": TOX,
    "make": MAKE,
    "cmake": CMAKE,
    "ruby": RUBY,
}


def lay(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files below a folder; what begins like a script may be run."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if text.startswith("#!"):
            path.chmod(0o755)
    return folder


def git(folder: Path, *args: str) -> str:
    """Run git in a folder, as somebody."""
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    done = subprocess.run(
        ["git", *who, "-C", str(folder), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def commit(folder: Path, files: Mapping[str, str], message: str) -> None:
    """Commit files in a work tree, and push where it came from."""
    lay(folder, files)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    git(folder, "push", "--quiet", "origin", "HEAD")


def cloned(folder: Path, files: Mapping[str, str]) -> Path:
    """Make a repository with these files; return a clone of it."""
    bare = folder.with_suffix(".git")
    subprocess.run(
        ["git", "init", "--quiet", "--bare", "--initial-branch=main", str(bare)],
        check=True,
        timeout=30,
    )
    subprocess.run(
        ["git", "clone", "--quiet", str(bare), str(folder)],
        check=True,
        timeout=30,
        capture_output=True,
    )
    git(folder, "checkout", "--quiet", "-B", "main")
    commit(folder, files, "all of it")
    return folder
