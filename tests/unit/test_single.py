"""The single file: a script with a tree behind it, here a small one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.unit.test_manual import script

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
SAYS = "import sys\nprint('said', *sys.argv[1:], sys.prefix)\n"


@pytest.fixture
def single(tmp_path: Path) -> Path:
    return make(tmp_path, "1.0")


def make(folder: Path, version: str, text: str = SAYS) -> Path:
    maker, root = script("single"), folder / f"tree-{version}"
    package = root / "site" / "rota"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(text)
    (root / "bin").mkdir()
    link = root / "lib" / f"python{VERSION}" / "site-packages"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../site")
    archive = maker.packed(root)
    assert archive == maker.packed(root)
    path = folder / f"rota-{version}"
    path.write_bytes(maker.stub(archive, version, (VERSION,)).encode() + archive)
    path.chmod(0o755)
    return path


def run(path: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "ROTA_UNPACK": str(path.parent / "unpacked"), **more}
    environ = {name: value for name, value in environ.items() if value}
    environ.setdefault("ROTA_PYTHON", sys.executable)
    return subprocess.run(
        [path, *words], env=environ, capture_output=True, text=True, check=False, timeout=60
    )


def test_it_unpacks_once_and_its_python_is_one_of_its_own(single: Path) -> None:
    first = run(single, "jobs", "a b")
    (tree,) = (single.parent / "unpacked").iterdir()
    assert (first.returncode, first.stdout) == (0, f"said jobs a b {tree}\n"), first.stderr
    (tree / "site" / "rota" / "__main__.py").write_text("print('not unpacked again')\n")
    assert run(single).stdout == "not unpacked again\n"


def test_a_newer_file_unpacks_beside_and_what_runs_of_the_older_stays(single: Path) -> None:
    run(single)
    (older,) = (single.parent / "unpacked").iterdir()
    os.utime(older, (0, 0))
    with subprocess.Popen([str(older / "bin" / "python3"), "-c", "input()"], stdin=-1) as runs:
        run(make(single.parent, "1.1"))
        assert older.exists()
        runs.communicate(b"\n")
    run(make(single.parent, "1.2"))
    assert not older.exists()


def test_a_python_that_is_gone_is_replaced(single: Path) -> None:
    run(single)
    (tree,) = (single.parent / "unpacked").iterdir()
    (tree / "bin" / "python3").unlink()
    (tree / "bin" / "python3").symlink_to("/gone/python3")
    assert run(single).returncode == 0


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        (
            {"ROTA_PYTHON": "/gone/python3"},
            (
                "error: no Python from 3.11 to 3.14 on the path: ROTA_PYTHON is /gone/python3\n\n"
                "hint: install one, or say where it is: ROTA_PYTHON=/opt/python/bin/python3\n"
            ),
        ),
        (
            {"ROTA_UNPACK": "/proc/nowhere"},
            (
                "error: cannot write to /proc/nowhere, into which rota unpacks itself\n\n"
                "hint: name another folder: ROTA_UNPACK=/var/cache/rota rota ...\n"
            ),
        ),
    ],
)
def test_what_is_in_its_way_is_said(single: Path, environ: dict[str, str], said: str) -> None:
    done = run(single, **environ)
    assert (done.returncode, done.stderr) == (3, said)


def test_a_damaged_file_says_so_and_leaves_nothing(single: Path) -> None:
    data = single.read_bytes()
    single.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = run(single)
    assert done.returncode == 3
    assert done.stderr == (
        f"error: {single} is damaged: its archive is not the one that was packed\n\n"
        "hint: fetch it again\n"
    )
    assert list((single.parent / "unpacked").iterdir()) == []


def test_versions_sort_in_debian_as_in_python() -> None:
    said = script("deb").debian_version
    assert said("0.1.dev420+g0fbfed2") == "0.1~dev420+g0fbfed2-1"
    assert said("0.1.dev535+gcb606b410") == "0.1~dev535+gcb606b410-1"  # letters of a hash
    assert said("1.0rc2") == "1.0~rc2-1"
    assert said("1.0") == "1.0-1"


def test_who_makes_the_package_is_named_as_debians_tools_have_it() -> None:
    deb = script("deb")
    assert deb.maintainer({}) == "rota maintainers <nobody@rota.invalid>"
    ann = {"DEBFULLNAME": "Ann Example", "DEBEMAIL": "ann@example.org"}
    assert deb.maintainer(ann) == "Ann Example <ann@example.org>"
    with pytest.raises(Exception, match="DEBFULLNAME and DEBEMAIL: both are to be set, or neither"):
        deb.maintainer({"DEBEMAIL": "ann@example.org"})


def test_each_package_is_listed_with_its_licence(tmp_path: Path) -> None:
    said = {
        "a": "License-Expression: MIT",
        "b": "License: BSD",
        "c": "License: " + "x" * 90 + "\nClassifier: License :: OSI Approved :: MIT License",
        "d": "",
    }
    for name, line in said.items():
        line = line or "Summary: nothing"
        (tmp_path / f"{name}-1.dist-info").mkdir()
        text = f"Name: {name}\nVersion: 1\n{line}\n\nLicense: none in what is told of it\n"
        (tmp_path / f"{name}-1.dist-info" / "METADATA").write_text(text)
    listed = script("licences").listed
    with pytest.raises(Exception, match="d names no licence: ask its authors"):
        listed(tmp_path)
    (tmp_path / "d-1.dist-info" / "COPYING").touch()
    assert listed(tmp_path).splitlines() == [
        "a  1  MIT",
        "b  1  BSD",
        "c  1  MIT License",
        "d  1  see d-1.dist-info/COPYING",
    ]


def test_all_that_is_needed_is_locked() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    bundled = set(re.findall(r"--extra (\w+)", (root / "Makefile").read_text()))
    assert bundled == set(extras) - {"dev", "docs", "release"}
    wanted = [*project["dependencies"], *(it for name in bundled for it in extras[name])]
    names = {re.sub(r"[_.]+", "-", re.split(r"[^\w.-]", it)[0].lower()) for it in wanted}
    lock = (root / "packaging" / "lock.txt").read_text()
    locked = set(re.findall(r"^([\w-]+)==", lock, re.MULTILINE))
    assert names <= locked, f"make lock: it has no {', '.join(sorted(names - locked))}"
