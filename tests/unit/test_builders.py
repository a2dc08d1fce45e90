"""What is found in folders, and the jobs that are made of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rota import builders
from rota.builders.catalogue import KINDS, SCRIPTS, findings_in, imagined, known
from rota.builders.finding import Finding
from rota.builders.folder import Folder, Origin
from rota.builders.proposal import Wish, job_names, project_name, script_of
from rota.builders.template import names_of, rendered, words_of
from rota.cli.main import main
from rota.core.header import parse_header
from rota.errors import InputError

NOWHERE = Origin()
GIT = Origin("https://git.example/shop.git", "main")


class Said(NamedTuple):
    status: int
    out: str
    err: str


Rota = Callable[..., Said]


@pytest.fixture
def rota(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Rota:
    """Run a command in the folder of the test."""
    monkeypatch.chdir(tmp_path)
    # Whatever the temporary folder lies in is no repository of these projects.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    def run(*args: str) -> Said:
        status = main(list(args))
        out, err = capfd.readouterr()
        return Said(status, out, err)

    return run


def lay(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if text.startswith("#!"):
            path.chmod(0o755)
    return folder


def repository(folder: Path, url: str = "https://git.example/shop.git") -> None:
    for args in (("init", "-q", "-b", "main"), ("remote", "add", "origin", url)):
        subprocess.run(["git", "-C", str(folder), *args], check=True, timeout=30)


# -- templates ----------------------------------------------------------------------------------


def test_lines_stand_under_conditions() -> None:
    text = "a\nb  #: one\nc  #: !one\nd  #: one|two !three\n\ne  #: none\n\n\nf\n\n"
    assert rendered(text, {"one"}, {}) == "a\nb\nd\n\nf\n"
    assert rendered(text, {"two", "three"}, {}) == "a\nc\n\nf\n"
    assert words_of(text) == {"one", "two", "three", "none"}


def test_a_header_without_its_last_part_has_no_gap() -> None:
    text = (
        '# /// script\n# [tool.rota]\n# env = { A = "@a@" }\n#\n# [tool.rota.matrix]  #: m\n# ///\n'
    )
    assert rendered(text, set(), {"a": "b"}) == (
        '# /// script\n# [tool.rota]\n# env = { A = "b" }\n# ///\n'
    )


@given(st.text())
def test_a_value_stays_a_value(value: str) -> None:
    text = '# /// script\n# key = "@a@"\n# list = ["@a@"]\n# ///\nprintf %s @a@\n'
    lines = rendered(text, set(), {"a": value}).splitlines()
    assert len(lines) == 5
    seen = "".join(letter if letter.isprintable() else "?" for letter in value)
    header = tomllib.loads("\n".join(line[2:] for line in lines[1:3]))
    assert header["key"] == seen
    assert header["list"] == [it.strip() for it in seen.split(",") if it.strip()]
    assert shlex.split(lines[4])[2:] == [seen]


def every_script() -> dict[str, str]:
    """Return the scripts of all templates, in all variants, in a repository and in none."""
    found = {}
    for name, path in known().items():
        if name in SCRIPTS:
            continue
        text = path.read_text()
        words = words_of(text)
        for container in {False, "container" in words}:
            for matrix in {False, "matrix" in words}:
                for origin, folder in ((GIT, ""), (NOWHERE, "it's/web")):
                    wish = Wish(container, matrix)
                    script = script_of(text, imagined(name, folder), origin, "shop", wish)
                    found[f"{name}-{container}-{matrix}-{bool(folder)}.sh"] = script.text
    return found


def test_every_template_is_a_good_job_in_every_variant() -> None:
    scripts = every_script()
    assert len(scripts) > 100
    for name, text in scripts.items():
        job, problems = parse_header(text, name="job", path=name)
        assert not problems, (name, problems)
        assert job is not None
        assert job.description.startswith("shop: ")
        assert job.spec.timeout_s


def test_the_shell_understands_every_template(tmp_path: Path) -> None:
    lay(tmp_path, every_script())
    files = sorted(str(it) for it in tmp_path.iterdir())
    bash = 'for file; do bash -n "$file" || exit; done'
    assert subprocess.run(["bash", "-c", bash, "-", *files], timeout=60).returncode == 0
    if shutil.which("shellcheck") is None:
        pytest.skip("there is no shellcheck; bash itself understands them all")
    done = subprocess.run(["shellcheck", "-x", *files], capture_output=True, text=True, timeout=100)
    assert done.stdout == ""


def test_no_condition_of_a_template_is_one_that_nobody_fulfils() -> None:
    """What a kind may say stands in its module; a word that is misspelt stands nowhere else."""
    folder = Path(builders.__file__).parent
    said = "".join(path.read_text() for path in folder.rglob("*.py"))
    for name, path in known().items():
        for word in words_of(path.read_text()) - {"path", "git", "branch"}:
            assert f'"{word}"' in said, f"{name}: {word}"


# -- what is found ------------------------------------------------------------------------------

POM = "<project><modules><module>core</module><module>web</module></modules></project>"


def found(folder: Path) -> dict[str, Finding]:
    return {it.template: it for it in findings_in(Folder(folder))}


def one(folder: Path, files: Mapping[str, str], name: str) -> Finding:
    projects = found(lay(folder, files))
    assert list(projects) == [name]
    return projects[name]


@pytest.mark.parametrize(
    ("pom", "java"),
    [
        ("<maven.compiler.release>21</maven.compiler.release>", "21"),
        ("<maven.compiler.source>1.8</maven.compiler.source>", "8"),
        ("<java.version>11</java.version>", "11"),
        ("<plugin><configuration><release> 17 </release></configuration></plugin>", "17"),
        ("<!-- <java.version>21</java.version> --><source>1.7</source>", "8"),
    ],
)
def test_maven_says_which_java(tmp_path: Path, pom: str, java: str) -> None:
    project = one(tmp_path, {"pom.xml": f"<project>{pom}</project>"}, "maven")
    assert project.values["java"] == java


def test_maven_with_modules_and_a_wrapper(tmp_path: Path) -> None:
    url = (
        "https://repo.example/maven2/org/apache/maven/apache-maven/3.9.6/apache-maven-3.9.6-bin.zip"
    )
    files = {
        "pom.xml": POM,
        "core/pom.xml": "<project><java.version>11</java.version>jacoco-maven-plugin</project>",
        "web/pom.xml": "<project/>",
        "mvnw": "#!/bin/sh\n",
        ".mvn/wrapper/maven-wrapper.properties": f"distributionUrl={url}\n",
    }
    project = one(tmp_path, files, "maven")
    assert project.seen == (
        "pom.xml, 2 modules",
        "Java 11 (java.version)",
        "./mvnw (3.9.6)",
    )
    assert project.words == {"wrapper", "executable", "jacoco"}
    assert project.values["java_axis"] == "11,21,25"


def test_gradle_in_both_languages(tmp_path: Path) -> None:
    files = {
        "settings.gradle.kts": 'include(":app", ":lib")\n',
        "app/build.gradle.kts": "java { toolchain { languageVersion.set(JavaLanguageVersion.of(21)) } }",
        "lib/build.gradle": "sourceCompatibility = 1.8",
        "gradlew": "no bit says that it may run\n",
        "gradle/wrapper/gradle-wrapper.properties": "distributionUrl=https\\://s/gradle-8.5-all.zip",
    }
    project = one(tmp_path, files, "gradle")
    assert project.seen == (
        "settings.gradle.kts, 2 projects",
        "Java 21 (toolchain)",
        "./gradlew (8.5)",
    )
    assert project.words == {"wrapper"}
    old = one(lay(tmp_path / "old", {}), {"build.gradle": "sourceCompatibility = '1.8'"}, "gradle")
    assert old.values["java"] == "8"


def npm(folder: Path, package: object, **files: str) -> Finding:
    return one(folder, {"package.json": json.dumps(package), **files}, "npm")


@pytest.mark.parametrize(
    ("package", "files", "manager", "word"),
    [
        ({}, {"package-lock.json": "{}"}, "", "npm"),
        ({}, {"yarn.lock": "# yarn lockfile v1"}, "yarn@1", "yarn"),
        ({}, {"yarn.lock": "__metadata:\n  version: 6\n"}, "@yarnpkg/cli-dist@3", "berry"),
        ({}, {"pnpm-lock.yaml": "", "package-lock.json": "{}"}, "pnpm@9", "pnpm"),
        ({}, {"pnpm-lock.yaml": "lockfileVersion: '6.0'\n"}, "pnpm@8", "pnpm"),
        ({"packageManager": "yarn@4.1.0"}, {}, "@yarnpkg/cli-dist@4.1.0", "berry"),
        ({"packageManager": "pnpm@9.1.0+sha512.abc"}, {"yarn.lock": ""}, "pnpm@9.1.0", "pnpm"),
        ({"packageManager": "yarn"}, {"yarn.lock": ""}, "yarn@1", "yarn"),
    ],
)
def test_the_lock_file_says_which_package_manager(
    tmp_path: Path, package: object, files: dict[str, str], manager: str, word: str
) -> None:
    project = npm(tmp_path, package, **files)
    assert project.values.get("package", "") == manager
    assert word in project.words


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("vitest run", {"vitest"}),
        ("tsc --noEmit && vitest", {"vitest"}),
        ("jest --coverage", {"jest"}),
        ("NODE_ENV=test npx jest", {"jest"}),
        ("mocha test/*.js", {"mocha", "tap"}),
        ("c8 ava", {"ava", "tap"}),
        ("node --test", {"node_test", "test"}),
        ("vitest run --reporter=dot", {"test"}),
        ("vitest && echo done", {"test"}),
        ("./run-tests.sh", {"test"}),
        ('echo "Error: no test specified" && exit 1', set()),
    ],
)
def test_the_test_script_says_who_runs_the_tests(
    tmp_path: Path, script: str, words: set[str]
) -> None:
    project = npm(tmp_path, {"scripts": {"test": script}}, **{"package-lock.json": "{}"})
    assert project.words == {"npm", "lock", *words}


@pytest.mark.parametrize(
    ("package", "files", "node"),
    [
        ({}, {".nvmrc": "v20.11.1\n"}, "20"),
        ({}, {".tool-versions": "java 17\nnodejs 18.2.0\n"}, "18"),
        ({"engines": {"node": ">=18.0.0 <21"}}, {}, "18"),
        ({"engines": {"node": "^22 || ^20"}}, {}, "20"),
        ({"engines": {"node": "*"}}, {".nvmrc": "lts/*"}, "18"),
        ({"engines": "node"}, {}, "18"),
    ],
)
def test_which_node(tmp_path: Path, package: object, files: dict[str, str], node: str) -> None:
    assert npm(tmp_path, package, **files).values["node"] == node


def test_a_package_that_is_no_json_is_said_to_be_none(tmp_path: Path) -> None:
    project = one(tmp_path, {"package.json": "{,}"}, "npm")
    assert project.notes[0].startswith("package.json cannot be read: Expecting property name")
    assert npm(tmp_path, ["a list"]).words == {"npm"}


def test_cargo(tmp_path: Path) -> None:
    files = {
        "Cargo.toml": '[workspace]\nmembers = ["a"]\n[workspace.package]\nrust-version = "1.70"',
        "Cargo.lock": "",
        "a/Cargo.toml": '[package]\nname = "a"',
        ".config/nextest.toml": '[profile.ci.junit]\npath = "junit.xml"',
    }
    project = one(tmp_path, files, "cargo")
    assert project.words == {"lock", "nextest", "library"}
    assert project.values["rust_image"] == "1.70"
    assert project.values["profile"] == "ci"
    lay(tmp_path, {"rust-toolchain.toml": '[toolchain]\nchannel = "nightly-2026-01-01"'})
    assert one(tmp_path, {}, "cargo").values["rust_image"] == "1"
    lay(tmp_path, {"rust-toolchain.toml": "", "rust-toolchain": "1.65.0\n"})
    assert one(tmp_path, {}, "cargo").values["rust_image"] == "1.65.0"


def test_go(tmp_path: Path) -> None:
    assert one(tmp_path, {"go.mod": "module m\n\ngo 1.21.3\n"}, "go").values["go"] == "1.21"
    lay(tmp_path, {"go.work": "go 1.22\nuse ./a\n", "a/go.mod": "module a\n"})
    project = one(tmp_path, {}, "go")
    assert project.words == {"workspace"}
    assert project.values["go"] == "1.22"


@pytest.mark.parametrize(
    ("files", "name", "words"),
    [
        (
            {
                "pyproject.toml": '[project]\nname = "a"\n[tool.pytest]\n',
                "uv.lock": "",
                "tox.ini": "",
            },
            "uv",
            {"lock", "package", "pytest", "pytest_named"},
        ),
        ({"tox.ini": "[testenv]\ndeps = pytest"}, "tox", {"pytest", "pytest_named"}),
        (
            {"setup.py": "", "tests/test_a.py": "import unittest\n"},
            "pip",
            {"package"},
        ),
        (
            {"requirements.txt": "flask", "requirements-dev.txt": "pytest-cov"},
            "pip",
            {
                *("requirements", "requirements_txt", "requirements_dev"),
                *("pytest", "pytest_named", "coverage"),
            },
        ),
    ],
)
def test_python_in_its_ways(
    tmp_path: Path, files: dict[str, str], name: str, words: set[str]
) -> None:
    assert one(tmp_path, files, name).words == words


def test_python_says_what_its_tests_need_and_which_versions(tmp_path: Path) -> None:
    text = """[project]
name = "a"
requires-python = ">=3.10,<4"
classifiers = ["Programming Language :: Python :: 3.11", "Programming Language :: Python :: 3.10"]
[project.optional-dependencies]
dev = ["pytest"]
"""
    project = one(tmp_path, {"pyproject.toml": text}, "pip")
    assert project.seen == (
        "pyproject.toml",
        "Python 3.10 or newer (requires-python)",
        "tests by pytest",
    )
    assert project.values["editable"] == ".[dev]"
    assert project.values["python_axis"] == "3.10,3.11"
    assert project.values["python_least"] == "3.10"


def test_settings_of_a_tool_are_no_python_project(tmp_path: Path) -> None:
    assert found(lay(tmp_path, {"pyproject.toml": "[tool.ruff]\n"})) == {}


def test_native_ones(tmp_path: Path) -> None:
    project = one(tmp_path, {"Makefile": "a: a.c\n\t$(CC) a.c\ntest: a\n"}, "make")
    assert project.words == {"test", "compiles"}
    lay(tmp_path, {"CMakeLists.txt": "cmake_minimum_required(VERSION 3.20...3.29)\n"})
    assert one(tmp_path, {}, "cmake").values["cmake"] == "3.20"
    other = tmp_path / "auto"
    assert one(lay(other, {}), {"configure": "#!/bin/sh\n"}, "make").words == {
        *("autotools", "configure", "executable", "check", "compiles"),
    }


def test_a_makefile_of_short_cuts_is_no_project_beside_another(tmp_path: Path) -> None:
    lay(tmp_path, {"Makefile": "test:\n\tgo test ./...\n", "go.mod": "module m\ngo 1.20\n"})
    lay(tmp_path, {"guide/Makefile": "all:\n\tgo generate\n"})
    assert list(found(tmp_path)) == ["go"]


def test_dotnet_ruby_and_images(tmp_path: Path) -> None:
    project = (
        "<Finding><TargetFrameworks>net8.0;net6.0</TargetFrameworks>coverlet.collector</Finding>"
    )
    lay(
        tmp_path,
        {
            "a.sln": "a.csproj",
            "b.sln": "b.vcxproj",
            "src/a/a.csproj": project,
            "Dockerfile": "FROM debian AS b\nFROM x:1\n",
        },
    )
    projects = found(tmp_path)
    assert list(projects) == ["dotnet", "docker"]
    assert projects["dotnet"].values["dotnet_axis"] == "6,8"
    assert projects["dotnet"].words == {"coverage"}
    assert projects["docker"].seen == ("Dockerfile from x:1",)
    gems = {"Gemfile": "ruby '3.2.1'\n", "Gemfile.lock": "", ".rspec": "", "Rakefile": ""}
    assert one(tmp_path / "r", gems, "ruby").words == {"lock", "rspec", "rake"}


def test_a_monorepo_has_its_projects_and_not_their_parts(tmp_path: Path) -> None:
    files = {
        "pom.xml": POM,
        "core/pom.xml": "<project/>",
        "front/package.json": "{}",
        "front/node_modules/a/package.json": "{}",
        "front/packages/b/package.json": "{}",
        "tools/cli/go.mod": "module m\n",
        ".hidden/Cargo.toml": "",
    }
    projects = list(findings_in(Folder(lay(tmp_path, files))))
    assert [(it.template, it.path) for it in projects] == [
        ("maven", ""),
        ("npm", "front"),
        ("go", "tools/cli"),
    ]
    assert job_names(projects, "shop") == ["shop/build", "shop/front/build", "shop/tools/cli/build"]


def test_nothing_outside_is_read_and_nothing_goes_on_for_ever(tmp_path: Path) -> None:
    outside = lay(tmp_path / "outside", {"pom.xml": "<project/>"})
    inside = lay(tmp_path / "inside", {"a/b/c/d/e/pom.xml": "<project/>"})
    (inside / "link").symlink_to(outside)
    (inside / "round").symlink_to(inside)
    os.mkfifo(inside / "package.json")
    (inside / "Cargo.toml").write_bytes(b"\xff\xfe[" * 10)
    (inside / "go.mod").mkdir()
    projects = found(inside)
    assert list(projects) == ["npm", "cargo"]
    assert "cannot be read" in projects["cargo"].notes[0]


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(max_size=60))
def test_whatever_a_file_says_it_is_a_good_job(kind: str, text: str) -> None:
    from rota.builders.folder import Imagined

    names = {
        *("pom.xml", "build.gradle", "build.sbt", "package.json", "Cargo.toml", "go.mod"),
        *(
            "uv.lock",
            "tox.ini",
            "pyproject.toml",
            "a.csproj",
            "Gemfile",
            "CMakeLists.txt",
            "Makefile",
        ),
        *("Dockerfile", ".nvmrc", ".java-version", "rust-toolchain", "setup.py", ".ruby-version"),
    }
    project = KINDS[kind](Imagined(dict.fromkeys(names, text), "web"))
    assert project is not None
    template = known()[kind].read_text()
    for container, matrix in ((False, False), (True, True)):
        wish = Wish(container and "container" in words_of(template), matrix and kind != "docker")
        script = script_of(template, project, GIT, "shop", wish)
        _, problems = parse_header(script.text, name="job", path="job")
        assert not problems


# -- the commands -------------------------------------------------------------------------------


def test_new_alone_proposes_and_writes_nothing(rota: Rota, tmp_path: Path) -> None:
    repository(lay(tmp_path, {"pom.xml": POM, "web/package.json": '{"engines": {"node": "20"}}'}))
    before = sorted(tmp_path.rglob("*"))
    assert rota("new") == (
        0,
        """shop: https://git.example/shop.git, branch main

maven  pom.xml, 2 modules
npm    web/: package.json; Node 20 (engines)
       there is no package-lock.json: each build takes the newest packages that fit
       package.json says no way to test: the job only builds

rota new maven        | rota add shop/build -
rota new npm --in web | rota add shop/web/build -
rota new --write      # all of them, to files in .rota/jobs/
""",
        "",
    )
    shown = json.loads(rota("new", "--json").out)
    assert [it["command"] for it in shown] == ["rota new maven", "rota new npm --in web"]
    assert sorted(tmp_path.rglob("*")) == before


def test_new_where_nothing_is(rota: Rota, tmp_path: Path) -> None:
    said = rota("new")
    assert said.status == 5
    assert said.err == (
        f"error: nothing in {tmp_path} says how it is built\n\n"
        "hint: rota templates lists what there is; rota new bash prints a script to start from\n"
    )
    assert rota("new", "--in", "nope").err == (
        "error: nope is no folder\n\nhint: --in takes the folder of a project\n"
    )


def test_new_prints_a_good_job(rota: Rota, tmp_path: Path) -> None:
    repository(lay(tmp_path, {"pom.xml": POM}), "https://ann:secret@git.example/shop.git")
    said = rota("new", "maven")
    assert said.err == ""
    assert "secret" not in said.out
    assert '# scm = { git = "https://git.example/shop.git", branch = "main" }' in said.out
    (tmp_path / "job").write_text(said.out)
    assert rota("check", "job") == (0, "", "")


def test_a_job_for_programs(rota: Rota, tmp_path: Path) -> None:
    lay(tmp_path, {"go.mod": "module m\ngo 1.20\n"})
    said = rota("new", "go", "--json")
    shown = json.loads(said.out)
    assert said.err == ""
    assert shown["script"].startswith("#!/usr/bin/env bash\n")
    assert shown["seen"] == ["go.mod", "Go 1.20 (go.mod)"]
    assert shown["notes"][0].startswith("nothing says where the code comes from")


def test_names_that_are_no_text_do_no_harm(rota: Rota, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9\n$(id)"
    os.mkdir(folder)
    with open(folder + b"/go.mod", "wb") as file:
        file.write(b"module m\ngo 1.20\n")
    said = rota("new")
    assert said.status == 0
    assert "$(id)" in said.out
    assert len(said.out.splitlines()) == 6
    said = rota("new", "go", "git=/srv/a.git")
    assert said.status == 0
    assert "\ncd 'caf??$(id)'\n" in said.out
    shown = json.loads(rota("new", "--json").out)
    assert shown[0]["template"] == "go"


def test_a_template_that_does_not_fit_says_so(rota: Rota, tmp_path: Path) -> None:
    said = rota("new", "cargo")
    assert said.status == 0
    assert said.err == (
        f"note: no cargo project in {tmp_path}: its usual form\n"
        'note: nothing says where the code comes from: give it git=URL, or write scm = "URL" into the header\n'
    )
    said = rota("new", "cargo", "git=/srv/git/a.git", "branch=main")
    assert said.err == f"note: no cargo project in {tmp_path}: its usual form\n"
    assert '# scm = { git = "/srv/git/a.git", branch = "main" }' in said.out
    assert "the remote's URL" in rota("new", "cargo", "git=ext::sh -c id").err


def test_new_says_what_is_wrong(rota: Rota, tmp_path: Path) -> None:
    assert rota("new", "mavne") == (
        5,
        "",
        "error: no template 'mavne'\n\nhint: did you mean 'maven'?\n",
    )
    assert rota("new", "?").err == "error: no template '?'\n\nhint: see which: rota templates\n"
    assert rota("new", "maven", "jva=17") == (
        2,
        "",
        "error: the template maven asks for no 'jva'\n\nhint: did you mean 'java'?\n",
    )
    assert rota("new", "maven", "size=3").err == (
        "error: the template maven asks for no 'size'\n\n"
        "hint: it asks for: branch, executable, failsafe, git, jacoco, java, project, wrapper\n"
    )
    assert rota("new", "docker", "--matrix").err == (
        "error: the template docker has no variant --matrix\n"
    )
    assert rota("new", "maven", "a", "b").err == "error: one job has one name, not a and b\n"
    assert rota("new", "maven", "../b").err.startswith("error: bad job name '../b'")
    assert rota("new", "bash", "java=17").err == (
        "error: the template bash asks for no 'java'\n\nhint: it asks for: nothing: edit it\n"
    )
    lay(tmp_path, {"pom.xml": POM})
    assert rota("new", "--container").err == (
        "error: it is not said which template\n\nhint: such as: rota new maven\n"
    )
    assert sorted(it.name for it in tmp_path.iterdir()) == ["pom.xml"]


def test_of_several_it_must_be_said_which(rota: Rota, tmp_path: Path) -> None:
    lay(tmp_path, {"a/package.json": "{}", "b/package.json": "{}"})
    assert rota("new", "npm").err == (
        "error: there are several: a, b\n\n"
        "hint: say which: rota new npm --in a or rota new npm --in b\n"
    )
    assert rota("new", "npm", "--in", "a").status == 0
    shutil.rmtree(tmp_path / "b")
    # A folder that is in no repository is the whole workspace, wherever it lies here.
    assert "\ncd a\n" in rota("new", "npm", "git=/x").out


def test_the_one_project_below_is_the_one(rota: Rota, tmp_path: Path) -> None:
    repository(lay(tmp_path, {"web shop/package.json": "{}"}))
    said = rota("new", "npm")
    assert "\ncd 'web shop'\n" in said.out
    assert "{hash:web shop/package.json}" in said.out


def test_files_are_written_and_never_over_others(rota: Rota, tmp_path: Path) -> None:
    repository(lay(tmp_path, {"go.mod": "module m\ngo 1.20\n"}))
    assert rota("new", "go", "build") == (
        0,
        "",
        "wrote .rota/jobs/build; commit it, and once: rota watch https://git.example/shop.git\n",
    )
    job = tmp_path / ".rota/jobs/build"
    assert os.access(job, os.X_OK)
    assert "scm" not in job.read_text()  # its own repository, on whichever branch it stands
    job.write_text("mine")
    again = (
        6,
        "",
        "error: .rota/jobs/build is there already\n\nhint: --force replaces it, -o writes elsewhere\n",
    )
    assert rota("new", "go", "build") == again
    assert rota("new", "--write") == again
    assert job.read_text() == "mine"
    assert rota("new", "--write", "--force").status == 0
    assert job.read_text() != "mine"
    (tmp_path / "jobs").mkdir()
    assert rota("new", "go", "shop/go", "--container").err == (
        "wrote jobs/shop/go; add it: rota add shop/go jobs/shop/go\n"
    )
    assert "scm" in (tmp_path / "jobs/shop/go").read_text()
    assert rota("new", "python", "-o", "nightly.py").err == (
        "wrote nightly.py; add it: rota add shop/build nightly.py\n"
    )
    assert rota("new", "go", "-o", "nightly.py").status == 6
    assert rota("new", "go", "-o", "go.mod/job").err == "error: cannot make go.mod: File exists\n"


def test_versions_with_commas_make_a_matrix(rota: Rota) -> None:
    out = rota("new", "maven", "java=17,21").out
    assert '# java = ["17", "21"]' in out
    assert '# labels = "java={java} && mvn"' in out
    out = rota("new", "pip", "--matrix", "python=3.11").out
    assert '# python = ["3.11"]' in out
    out = rota("new", "deploy-ssh", "host=w@h", "files=a,b", "folder=/srv/a b").out
    assert 'artifacts = ["a", "b"]' in out
    assert 'folder = { default = "/srv/a b"' in out


def test_what_was_found_can_be_decided_otherwise(rota: Rota, tmp_path: Path) -> None:
    lay(tmp_path, {"pom.xml": POM, "mvnw": "#!/bin/sh\n"})
    assert "\n./mvnw --batch-mode" in rota("new", "maven").out
    out = rota("new", "maven", "wrapper=no", "jacoco=yes").out
    assert "\nmvn --batch-mode" in out
    assert "jacoco.xml" in out
    assert rota("new", "npm", "pnpm=yes", "npm=no").err.endswith(
        "error: the template npm needs package=VALUE for that\n"
    )
    assert rota("new", "maven", "wrapper=mvn").err == "error: wrapper is yes or no, not 'mvn'\n"


def test_templates_are_listed_with_where_they_fit(rota: Rota, tmp_path: Path) -> None:
    lay(tmp_path, {"web/package.json": "{}"})
    lines = rota("templates").out.splitlines()
    assert lines[0] == "maven  Maven, with tests  --container --matrix  -"
    assert "npm  JavaScript, with tests  --container --matrix  fits web" in lines
    listed: list[dict[str, Any]] = json.loads(rota("templates", "--json").out)
    assert {it["name"] for it in listed} == set(known())
    assert all(it["description"] for it in listed)


def test_a_project_is_called_as_its_repository() -> None:
    for url in ("git@host:team/shop.git", "ssh://host/shop/", "/srv/git/shop.git", "host:shop"):
        assert project_name(Origin(url), "folder") == "shop"
    assert project_name(NOWHERE, "my shop!") == "my-shop"
    assert project_name(NOWHERE, "...") == "project"


def test_unknown_values_and_variants_are_refused() -> None:
    text = known()["maven"].read_text()
    assert "java_axis" in names_of(text)
    with pytest.raises(InputError, match="asks for no 'java_axis'"):
        script_of(text, imagined("maven", ""), GIT, "shop", Wish(values={"java_axis": "17"}))
