"""What a build left and its header names: odd names, links, races, too many, unreadable."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace
from tests.harness.facts import moment

from rota.agent.leftovers import keep_artifacts
from rota.agent.matching import bytes_of, is_inside, matching_files
from rota.core.build import Build
from rota.core.job import Spec
from rota.core.masks import Masks
from rota.core.states import State
from rota.errors import ExecutionError
from rota.service import artifacts
from rota.service.context import Service
from rota.service.messages import ArtifactRequest


def tree(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name, errors="surrogateescape")


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("*.txt", ["a.txt"]),
        ("**/*.txt", ["a.txt", "d/b.txt", "d/e/c.txt"]),
        ("**", ["a.txt", "d/b.txt", "d/e/c.txt", "d/e/n"]),
        ("d", ["d/b.txt", "d/e/c.txt", "d/e/n"]),
        ("./d/", ["d/b.txt", "d/e/c.txt", "d/e/n"]),
        ("d/*", ["d/b.txt"]),
        ("d/**/n", ["d/e/n"]),
        ("d/e/n", ["d/e/n"]),
        ("a.txt/x", []),
        ("none/*", []),
        ("a**b", []),
        ("[", []),
        (".git/*", [".git/config"]),
        ("link/*", ["link/b.txt"]),
    ],
)
def test_globs_mean_files(tmp_path: Path, glob: str, found: list[str]) -> None:
    tree(tmp_path, "a.txt", "d/b.txt", "d/e/c.txt", "d/e/n", ".git/config")
    (tmp_path / "link").symlink_to("d")
    result = matching_files(tmp_path, [glob])[glob]
    assert [it for it in result if it != "link"] == found


def test_any_name_is_found(tmp_path: Path) -> None:
    odd = ["new\nline", "ü", os.fsdecode(b"\xff"), " ", "-rf", "*", "x" * 255]
    tree(tmp_path, *odd)
    assert sorted(matching_files(tmp_path, ["*"])["*"]) == sorted(odd)


def test_what_leads_out_or_is_no_file_is_not_inside(tmp_path: Path) -> None:
    tree(tmp_path / "work", "a")
    root = (tmp_path / "work").resolve()
    os.mkfifo(root / "pipe")
    (root / "away").symlink_to("/etc/passwd")
    (root / "circle").symlink_to("circle")
    (root / "within").symlink_to("a")
    (root / "dangling").symlink_to("nothing")
    found = matching_files(root, ["*"])["*"]
    assert [it for it in found if is_inside(root / it, root)] == ["a", "within"]


async def whole(pieces: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def test_a_file_that_grows_or_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path, root = tmp_path / "a", tmp_path.resolve()
    path.write_bytes(b"x" * 600_000)
    reading = bytes_of(path, root)
    first = await anext(reading)
    with path.open("ab") as file:
        file.write(b"y" * 600_000)
    assert first + await whole(reading) == b"x" * 600_000
    path.write_bytes(b"x" * 600_000)
    reading = bytes_of(path, root)
    await anext(reading)
    os.truncate(path, 10)
    with pytest.raises(ExecutionError, match="became shorter while it was read"):
        await whole(reading)


async def test_what_is_swapped_after_it_was_found_is_not_read(tmp_path: Path) -> None:
    root = tmp_path.resolve()
    os.mkfifo(root / "pipe")
    (root / "away").symlink_to("/etc/passwd")
    for name in ("pipe", "away"):
        with pytest.raises(ExecutionError, match="is no file in the workspace any more"):
            await whole(bytes_of(root / name, root))
    with pytest.raises(ExecutionError, match="cannot be read: No such file or directory"):
        await whole(bytes_of(root / "gone", root))


async def test_a_sparse_file_and_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(3_000_000)
    assert await whole(bytes_of(tmp_path / "empty", tmp_path.resolve())) == b""
    assert await whole(bytes_of(tmp_path / "holes", tmp_path.resolve())) == bytes(3_000_000)


async def test_faults_are_told_and_too_many_files_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []

    async def keep(
        service: object, request: ArtifactRequest, who: object, data: AsyncIterator[bytes]
    ) -> None:
        path = artifacts.check_path(request.path)
        await whole(data)
        kept.append(path)

    monkeypatch.setattr(artifacts, "keep", keep)
    tree(tmp_path, "a", "b", "c", *(f"bad{n}\n" for n in range(7)))
    service = cast("Service", SimpleNamespace(me=SimpleNamespace(name="here")))
    build = Build(
        id="b1",
        job="web",
        number=1,
        state=State.RUNNING,
        requested_at=moment(),
        spec=Spec(artifacts=("?", "a", "none", "bad*")),
    )
    faults = await keep_artifacts(service, build, tmp_path, Masks())
    assert kept == ["a", "b", "c"], "each once"
    assert faults[0] == "artifacts: nothing matches 'none'"
    assert faults[1] == r"artifact 'bad0\n': bad artifact path 'bad0\n'"
    assert faults[-1] == "and 2 more"
    assert len(faults) == 1 + 5 + 1
    monkeypatch.setattr(artifacts, "MAX_ARTIFACTS", 2)
    kept.clear()
    build = replace(build, spec=Spec(artifacts=("?",)))
    faults = await keep_artifacts(service, build, tmp_path, Masks())
    assert kept == ["a", "b"]
    assert faults == ["artifacts: 3 files match, the first 2 are kept; pack them"]
