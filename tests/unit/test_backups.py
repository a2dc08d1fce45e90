"""What becomes of a state that is taken from a back-up; and what a file must be to be one."""

from __future__ import annotations

import tarfile
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from tests.harness.facts import moment

from rota.adapters.age import AgeSafe, seal, unseal
from rota.adapters.archive_file import ArchiveFile
from rota.adapters.clocks import SystemClock
from rota.cli.main import main
from rota.core.agents import Agent
from rota.core.backups import FORMAT, GONE, MANIFEST, STATE, TAIL_BYTES, Manifest, anew
from rota.core.cluster import Cluster, Picture
from rota.core.events import AgentStarted, BuildRequested, BuildStarted, Event
from rota.core.fold import apply
from rota.core.ids import parse_agent_name
from rota.core.job import Spec
from rota.core.schedules import Scheduled
from rota.core.settings import Artifacts, Bucket, Settings
from rota.core.states import State
from rota.core.triggers import Schedule
from rota.core.voter import Voter
from rota.errors import InputError, UnavailableError
from rota.service.archive import Archive
from rota.service.backup import _elsewhere

MADE = Manifest(
    rota="1.0", level=2, agent="a", at=moment(), seq=7, main="1" * 40, history="", ca=""
)


def hourly(**rule: object) -> Scheduled:
    return Scheduled(job="web", rule=Schedule(cron="0 * * * *", **rule), since=moment())  # type: ignore[arg-type]


def under_way() -> Picture:
    cluster = Cluster()
    happened: tuple[Event, ...] = (
        AgentStarted(at=moment(), agent="a", slots=1, peer="https://a:1"),
        BuildRequested(at=moment(), build="runs", job="web", spec=Spec()),
        BuildRequested(at=moment(), build="waits", job="web", spec=Spec()),
        BuildStarted(at=moment(), agent="a", build="runs", attempt=1),
    )
    for seq, event in enumerate(happened, start=1):
        apply(cluster, seq, event)
    return cluster.picture


def test_who_begins_anew_has_the_builds_and_none_of_the_members() -> None:
    picture = under_way()
    picture.leader, picture.leader_seq = "a", 3
    picture.voters = {"a": Voter(agent="a", server="s")}
    fresh = anew(picture, moment(60))
    assert (fresh.seq, fresh.numbers) == (picture.seq, {"web": 2})
    assert (fresh.agents, fresh.voters, fresh.leader, fresh.leader_seq) == ({}, {}, "", 0)
    assert fresh.builds["waits"].state is State.QUEUED
    assert {build.last_seq for build in fresh.builds.values()} == {0}
    assert isinstance(picture.agents["a"], Agent), "what was given stays as it was"


def test_what_ran_is_no_agents_that_could_be_there_again() -> None:
    fresh = anew(under_way(), moment(60))
    assert fresh.builds["runs"].agent == f"a{GONE}"
    with pytest.raises(InputError):
        parse_agent_name(f"a{GONE}")


def test_what_was_due_meanwhile_is_settled_on_record_and_fires_no_more() -> None:
    picture = Picture(
        seq=9, schedules={"s": hourly(), "c": hourly(calendars=("work",)), "n": hourly()}
    )
    picture.schedules["n"] = replace(picture.schedules["n"], cursor=moment() + timedelta(hours=5))
    at = moment() + timedelta(hours=3, minutes=30)
    fresh = anew(picture, at)
    (note,) = fresh.ledger
    by_id = {skip.schedule: skip for skip in note.skips}
    assert set(by_id) == {"s", "c"}, "of n all is settled beyond now"
    assert by_id["s"].count == 3
    assert fresh.schedules["s"].settled == by_id["s"].last <= at
    assert fresh.schedules["c"].settled == at, "what its calendar says is not at hand"
    assert "restored" in by_id["s"].why
    kept = anew(picture, at, keep_missed=True)
    assert (kept.schedules, kept.ledger) == (picture.schedules, ())


# -- the file ---------------------------------------------------------------------------------


def written(manifest: object = MADE) -> bytes:
    archive = Archive(moment())
    head = archive.whole(MANIFEST, msgspec.json.encode(manifest))
    state = archive.whole(STATE, b"x" * 700)
    long = archive.whole("artifacts/b/" + "é" * 150, b"bytes")
    return head + state + long + archive.end()


def test_an_archive_is_read_by_tar_and_known_to_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(written())
    with tarfile.open(path) as tar:
        assert tar.getnames()[:2] == [MANIFEST, STATE]
    archive = ArchiveFile(path)
    assert archive.check() == MADE
    members = [(name, size, data.read()) for name, size, data in archive.members()]
    assert members == [
        (STATE, 700, b"x" * 700),
        ("artifacts/b/" + "é" * 150, 5, b"bytes"),
    ]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is no back-up of rota"),
        (b"#!/bin/sh\necho\n", "is no back-up of rota"),
        (b"\0" * 5000, "is no back-up of rota"),
        (written()[:-1], "is cut off: it has no ending"),
        (written()[:-TAIL_BYTES], "is cut off: it has no ending"),
        (written()[:900], "is cut off: it has no ending"),
        (written() + b"\0" * 512, "is cut off: it has no ending"),
        (written({"format": FORMAT + 1}), f"has format {FORMAT + 1}, and this rota knows {FORMAT}"),
        (written({"format": "x"}), "is no back-up of rota: its first file is"),
    ],
)
def test_what_is_no_back_up_is_refused_in_one_sentence(
    tmp_path: Path, data: bytes, says: str
) -> None:
    path = tmp_path / "b.tar"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        ArchiveFile(path).check()
    assert says in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_every_changed_byte_is_found(tmp_path: Path) -> None:
    path, good = tmp_path / "b.tar", written()
    for at in range(0, len(good) - TAIL_BYTES, 97):
        bad = bytearray(good)
        bad[at] ^= 1
        path.write_bytes(bad)
        with pytest.raises(InputError):
            ArchiveFile(path).check()


def test_a_foreign_archive_and_no_file_are_told_apart(tmp_path: Path) -> None:
    other = tmp_path / "other.tar"
    with tarfile.open(other, "w") as tar:
        tar.add(__file__, "some.py")
    with pytest.raises(InputError, match=r"its first file is 'some\.py', and not a manifest"):
        ArchiveFile(other).check()
    with pytest.raises(UnavailableError, match=r"cannot read .*: No such file"):
        ArchiveFile(tmp_path / "none").check()


# -- the keys ---------------------------------------------------------------------------------


def test_keys_are_sealed_for_whom_they_are_meant(tmp_path: Path) -> None:
    safe = AgeSafe(tmp_path, SystemClock())
    identity, other = safe.make(), safe.make()
    (recipient,) = safe.keep(identity)
    sealed = seal(b"keys", recipient)
    assert unseal(sealed, f"# mine\n{identity}") == b"keys"
    with pytest.raises(InputError, match="cannot be decrypted with that identity"):
        unseal(sealed, other)
    with pytest.raises(InputError, match="holds no identity of age"):
        unseal(sealed, "nothing")
    with pytest.raises(InputError, match="is no recipient of age"):
        seal(b"keys", "age1nonsense")


def test_what_two_back_ups_have_in_common_is_the_same_byte_for_byte() -> None:
    first, second = Archive(moment()), Archive(moment(3600))
    assert first.whole("state", b"x") != second.whole("state", b"x")
    assert first.whole("logs/a", b"x", moment(5)) == second.whole("logs/a", b"x", moment(5))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Settings(), ""),
        (Settings(artifacts=Artifacts(store="engine")), ""),
        (Settings(artifacts=Artifacts(store="files", path="/mnt/a")), "the folder /mnt/a"),
        (
            Settings(artifacts=Artifacts(store="bucket"), bucket=Bucket(name="ci")),
            "the bucket ci",
        ),
    ],
)
def test_what_is_kept_elsewhere_is_named(settings: Settings, says: str) -> None:
    assert _elsewhere(settings) == says


def test_a_back_up_says_which_artifacts_are_not_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "all.tar"
    path.write_bytes(b"x")
    told = replace(MADE, elsewhere="the bucket ci")
    monkeypatch.setattr("rota.bootstrap.restoring.check_backup", lambda _: told)
    assert main(["backup", "--check", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "whole and good" in out
    assert err.startswith("artifacts in the bucket ci are not in it\n\nhint: copy that as well")
