"""The systemd unit, and the words by which an agent tells systemd that it is alive."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from tests.unit.test_manual import script

from rota.daemon.unit import unit
from rota.daemon.watchdog import period_s, watch


def test_packages_and_the_command_line_have_one_text() -> None:
    own = unit("/opt/rota agent", is_system=True).splitlines()
    packaged = script("data").packaged_unit().splitlines()
    assert set(own) - set(packaged) == {"ExecStart=/opt/rota agent"}
    assert "User=rota" in packaged
    assert "NoNewPrivileges=yes" in packaged
    assert not [line for line in packaged if line.startswith(("PrivateTmp", "ProtectKernelT"))]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_knows_all_that_the_unit_says(tmp_path: Path) -> None:
    text = script("data").packaged_unit().replace("/usr/bin/rota", "/bin/true")
    text = "\n".join(line for line in text.split("\n") if not line.startswith("Documentation"))
    (tmp_path / "rota.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(tmp_path / "rota.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "rota.service" in line]
    assert ours == []


def test_a_watchdog_is_for_the_process_that_it_names() -> None:
    assert period_s({}, 7) is None
    assert period_s({"WATCHDOG_USEC": "60000000"}, 7) == 60.0
    assert period_s({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 7) == 60.0
    assert period_s({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, 7) is None
    assert period_s({"WATCHDOG_USEC": "0"}, 7) is None
    assert period_s({"WATCHDOG_USEC": "soon"}, 7) is None


async def test_an_agent_says_that_it_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "20000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        task = asyncio.ensure_future(watch())
        for _ in range(2):
            heard = await asyncio.get_running_loop().sock_recv(systemd, 100)
            assert heard == b"WATCHDOG=1"
        task.cancel()
    monkeypatch.delenv("WATCHDOG_USEC")
    await watch()  # nobody waits for it
