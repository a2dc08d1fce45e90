"""Guards of attempts with a lease: small processes that one FIFO speaks to."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import rota
from rota.homes.lease import Lease


class Files(NamedTuple):
    """Where a lease is."""

    lease: Path
    expired: Path


@pytest.mark.parametrize("kind", ["docker", "process"])
def test_a_guard_imports_what_it_needs_alone(kind: str) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(rota.__file__).parents[1])!r})\n"
        f"import rota.adapters.{kind}.guard\n"
        "print({'asyncio', 'msgspec', 'subprocess'} & sys.modules.keys())"
    )
    words = [sys.executable, "-I", "-S", "-c", code]
    assert subprocess.check_output(words, text=True) == "set()\n"


def test_a_file_in_the_place_of_the_fifo_is_no_guard(tmp_path: Path) -> None:
    files = Files(tmp_path / "lease", tmp_path / "expired")
    files.lease.write_text("mine")
    files.expired.symlink_to(files.lease)
    lease = Lease(files)
    assert not lease.renew(1.0)
    lease.release()
    assert files.lease.read_text() == "mine"
