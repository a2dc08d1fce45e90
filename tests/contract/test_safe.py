"""What any safe does, in memory and by age."""

from __future__ import annotations

import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rota.adapters.age import AgeSafe
from rota.adapters.clocks import SystemClock
from rota.adapters.memory_secrets import MemorySafe
from rota.errors import InputError, NotFoundError, UnavailableError
from rota.ports.safe import Safe

Make = Callable[[], Safe]


@pytest.fixture(params=["memory", "age"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Returns another safe at each call."""
    folders = iter(range(100))

    def made() -> Safe:
        if request.param == "memory":
            return MemorySafe()
        return AgeSafe(tmp_path / str(next(folders)), SystemClock())

    return made


def test_what_was_encrypted_for_a_kept_identity_is_read_again(make: Make) -> None:
    safe = make()
    assert safe.recipients() == ()
    assert safe.identities() == ""
    [recipient] = safe.keep(safe.make())
    assert safe.recipients() == (recipient,)
    value = bytes(range(256)) * 3
    text = safe.encrypt(value, recipient)
    assert recipient.startswith("age1")
    assert safe.decrypt(text) == value
    assert safe.encrypt(value, recipient) is not text


def test_a_former_identity_reads_on_and_the_last_one_is_the_present_one(make: Make) -> None:
    safe = make()
    [first] = safe.keep(safe.make())
    text = safe.encrypt(b"value", first)
    [second] = safe.keep(safe.make())
    assert safe.recipients() == (second, first)
    assert safe.decrypt(text) == b"value"
    assert safe.keep(safe.identities()) == (first, second)
    assert safe.recipients() == (second, first)


def test_an_identity_is_found_by_its_public_key(make: Make) -> None:
    safe = make()
    [first], [second] = safe.keep(safe.make()), safe.keep(safe.make())
    assert safe.identities().split() == [safe.identity(first), safe.identity(second)]
    with pytest.raises(NotFoundError, match="this agent has not the key age1"):
        make().identity(first)


def test_another_safe_reads_once_it_was_handed_the_identities(make: Make) -> None:
    one, other = make(), make()
    [recipient] = one.keep(one.make())
    text = one.encrypt(b"value", recipient)
    with pytest.raises(NotFoundError, match="encrypted for a key that this agent has not"):
        other.decrypt(text)
    other.keep(other.make())
    with pytest.raises(NotFoundError, match="encrypted for a key that this agent has not"):
        other.decrypt(text)
    with pytest.raises(NotFoundError, match="has not the key that secrets are encrypted for"):
        other.encrypt(b"value", recipient)
    other.keep(one.identities())
    assert other.decrypt(text) == b"value"


def test_what_holds_no_identity_and_what_is_damaged_is_refused(make: Make) -> None:
    safe = make()
    for text in ("", "nonsense", "age1qqq"):
        with pytest.raises(InputError):
            safe.keep(text)
    assert safe.recipients() == ()
    [recipient] = safe.keep(safe.make())
    text = safe.encrypt(b"value" * 50, recipient)
    half = len(text) // 2
    with pytest.raises((InputError, NotFoundError)):
        safe.decrypt(f"{text[:half]}!{text[half + 1 :]}")


# -- of age alone ---------------------------------------------------------------------------------


def test_the_file_is_for_its_owner_alone_and_age_takes_it(tmp_path: Path) -> None:
    safe = AgeSafe(tmp_path / "tls", SystemClock())
    [recipient] = safe.keep(safe.make())
    path = tmp_path / "tls" / "secrets.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    text = safe.encrypt(b"value", recipient)
    assert text.startswith("-----BEGIN AGE ENCRYPTED FILE-----\n")
    if shutil.which("age") is None:
        pytest.skip("age itself is not installed")
    done = subprocess.run(
        ["age", "-d", "-i", str(path)], input=text.encode(), capture_output=True, check=True
    )
    assert done.stdout == b"value"


def test_a_damaged_file_is_told_with_what_to_do(tmp_path: Path) -> None:
    safe = AgeSafe(tmp_path, SystemClock())
    safe.keep(safe.make())
    path = tmp_path / "secrets.key"
    path.write_text(path.read_text().replace("AGE-SECRET-KEY-1", "AGE-SECRET-KEY-1X"))
    with pytest.raises(UnavailableError) as told:
        safe.recipients()
    assert told.value.message == "the file of identities is damaged"
    assert (
        told.value.hint
        == "put the file back as it was; other agents of the cluster have it as well"
    )
    assert "AGE-SECRET" not in str(told.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(UnavailableError, match="Is a directory"):
        safe.recipients()
