"""Providers of secrets: the examples with real and with pretended managers, and programs that fail."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from rota.adapters.programs import MAX_OUTPUT, SystemPrograms
from rota.errors import UnavailableError

EXAMPLES = Path(__file__).parents[2] / "examples" / "secrets"


def sh(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", text, "tool")


async def output(*argv: str, within_s: float = 20.0) -> bytes:
    return await SystemPrograms().output(argv, within_s=within_s)


def pretended(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program on the path."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


async def test_what_a_program_prints_is_returned_as_it_is() -> None:
    assert await output(*sh("printf 'a\\000b\\n'; echo chatter >&2")) == b"a\0b\n"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo wrong path >&2; exit 4", "sh exited with 4: wrong path"),
        ("echo half-a-secret; echo it was half-a-secret >&2; exit 1", "sh exited with 1"),
        ("exit 7", "sh exited with 7"),
        ("printf 'a\\033[31mb\\n' >&2; exit 1", "sh exited with 1: a?[31mb"),
        (f"head -c {MAX_OUTPUT + 1} /dev/zero", f"sh printed more than {MAX_OUTPUT} bytes"),
    ],
)
async def test_a_program_that_fails_is_told_without_what_it_printed(
    script: str, message: str
) -> None:
    with pytest.raises(UnavailableError) as told:
        await output(*sh(script))
    assert told.value.message == message


async def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(UnavailableError) as told:
        await output("/nowhere/read")
    assert told.value.message == "cannot run /nowhere/read: No such file or directory"


async def test_nothing_is_left_of_a_program_that_takes_too_long_or_is_cancelled(
    tmp_path: Path,
) -> None:
    pids = tmp_path / "pids"
    script = sh(f"sleep 600 & echo $! $$ >{pids}.new; mv {pids}.new {pids}; wait")
    with pytest.raises(UnavailableError, match=r"sh did not answer within 0\.3 s"):
        await output(*script, within_s=0.3)
    running = asyncio.ensure_future(output(*script))
    pids.unlink(missing_ok=True)
    while not pids.exists():
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    for pid in map(int, pids.read_text().split()):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.01)


async def test_vault_is_asked_for_a_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "t")
    pretended(tmp_path, "vault", 'echo "$VAULT_TOKEN $*"', monkeypatch)
    read = str(EXAMPLES / "vault-read")
    assert await output(read, "kv/web#token") == b"t kv get -field=token -- kv/web\n"
    assert await output(read, "kv/web") == b"t kv get -field=value -- kv/web\n"


async def test_aws_is_asked_for_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretended(tmp_path, "aws", 'echo "$*"', monkeypatch)
    assert await output(str(EXAMPLES / "aws-read"), "prod/web") == (
        b"secretsmanager get-secret-value --secret-id prod/web --query SecretString --output text\n"
    )


@pytest.mark.skipif(not shutil.which("pass"), reason="pass is not installed")
async def test_pass_gives_the_first_line_of_an_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    monkeypatch.setenv("GNUPGHOME", str(home))
    monkeypatch.setenv("PASSWORD_STORE_DIR", str(tmp_path / "store"))
    # An agent of gpg's own would outlive the test.
    for command, said in (
        ("gpg --batch --quiet --passphrase '' --quick-gen-key agent@example default default", b""),
        ("pass init agent@example", b""),
        ("pass insert -m web/npm", b"npm-s3cret\nurl: https://npm.example\n"),
    ):
        subprocess.run(["/bin/sh", "-c", command], input=said, check=True, capture_output=True)
    try:
        assert await output(str(EXAMPLES / "pass-read"), "web/npm") == b"npm-s3cret\n"
        with pytest.raises(UnavailableError) as told:
            await output(str(EXAMPLES / "pass-read"), "web/other")
        assert told.value.message == (
            "pass-read exited with 1: Error: web/other is not in the password store."
        )
    finally:
        subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=False)
