"""Runs a piece of Python as an ordinary user of this machine, where the tests run as root."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import rota

USER = "nobody"
_SOURCE = Path(rota.__file__).parents[1]
_TESTS = Path(__file__).parents[2]
_PATH = os.pathsep.join([str(_SOURCE), str(_TESTS), sysconfig.get_path("purelib")])


def as_ordinary(code: str, *words: str) -> str:
    """Run Python code as an ordinary user; return what it printed."""
    done = _run(interpreter(), code, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def interpreter() -> str:
    """Return a Python that an ordinary user can run rota with; skip the test where there is none."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root, with setpriv, becomes another user")
    said = ""
    for path in (sys.executable, "/usr/bin/python3"):
        if Path(path).exists():
            done = _run(path, "import rota.adapters.process.executor")
            if done.returncode == 0:
                return path
            said = done.stderr.strip().rpartition("\n")[2]
    pytest.skip(f"{USER} cannot run rota here: {said}")


def _run(path: str, code: str, *words: str) -> subprocess.CompletedProcess[str]:
    become = ["setpriv", "--reuid", USER, "--clear-groups", "--", path, "-c", code]
    env = {"PATH": os.defpath, "PYTHONPATH": _PATH, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*become, *words],
        cwd="/",
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
