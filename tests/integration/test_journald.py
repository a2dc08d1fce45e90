"""What journald itself makes of our lines: one of its own, in a mount namespace where nobody else has one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

JOURNALD = Path("/lib/systemd/systemd-journald")
SENDS = r"""
import logging, sys
from rota.daemon.log_formats import JournalHandler
from rota.service.log_fields import about
handler = JournalHandler(lambda: "here")
about(build="web/test#3", attempt="1")
logger = logging.getLogger("rota.x")
logger.addHandler(handler)
logger.warning("two\nlines")
try:
    int("odd")
except ValueError:
    logger.exception("broke")
"""
RUNS = r"""
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journald.conf.d /run/log/journal
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\n' > /run/systemd/journald.conf.d/x.conf
"$1" & journald=$!
trap 'kill $journald' EXIT
while ! [ -S /run/systemd/journal/socket ]; do sleep 0.05; done
"$2" -c "$3"
while ! journalctl -D /run/log/journal -t rota -o cat --no-pager 2>/dev/null | grep -q broke; do sleep 0.05; done
journalctl -D /run/log/journal ROTA_BUILD=web/test#3 -o json --no-pager
"""


def test_journald_has_the_fields_and_lines_are_found_by_them() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has mounts of its own without more ado")
    if not JOURNALD.exists() or shutil.which("journalctl") is None:
        pytest.skip("systemd-journald is not installed")
    tried = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True)
    if tried.returncode:
        pytest.skip("this machine lets nobody have mounts of its own")
    command = ["unshare", "-m", "--propagation", "private", "sh", "-c", RUNS, "sh"]
    done = subprocess.run(
        [*command, str(JOURNALD), sys.executable, SENDS],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": "src"},
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    warned, broke = map(json.loads, done.stdout.splitlines())
    assert warned["MESSAGE"] == "two\nlines"
    assert warned["PRIORITY"] == "4"
    assert warned["_TRANSPORT"] == "journal"
    assert (warned["ROTA_AGENT"], warned["ROTA_ATTEMPT"]) == ("here", "1")
    assert broke["PRIORITY"] == "3"
    assert broke["MESSAGE"].startswith("broke\nTraceback")
