"""The lab itself: a cut host is unreachable, a dead one leaves nothing, a skewed clock is skewed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness import lab as labs
from tests.harness.daemon import is_alive, wait_until
from tests.harness.lab import Host, Lab, NotHereError, lab, no_spaces

pytestmark = [pytest.mark.fault]

needs_spaces = pytest.mark.skipif(bool(no_spaces()), reason=no_spaces())
LISTEN = """
import socket, sys
with socket.create_server((sys.argv[1], 7001)) as server:
    print("up", flush=True)
    while True:
        client, _ = server.accept()
        client.sendall(client.recv(9))
        client.close()
"""


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        for _ in range(3):
            made.add()
        yield made


def listen(host: Host) -> None:
    """Answer on port 7001 until the host is taken away."""
    command = host.argv(sys.executable, "-c", LISTEN, host.address)
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    # Reaped as soon as it is killed: a zombie is in no namespace.
    threading.Thread(target=process.wait, daemon=True).start()
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdout.close()


def reaches(one: Host, other: Host) -> bool:
    """Whether something sent from one host comes back from the other."""
    ask = "import socket,sys\ns=socket.create_connection((sys.argv[1],7001),.3);s.settimeout(.3)\n"
    ask += "s.sendall(b'x');sys.exit(s.recv(9)!=b'x')"
    return one.execute([sys.executable, "-c", ask, other.address]).returncode == 0


def until_reached(one: Host, other: Host) -> None:
    """A host that was cut off asks for its neighbours' addresses once a second."""
    wait_until(f"{one} reaches {other}", lambda: reaches(one, other))


@needs_spaces
def test_hosts_reach_each_other_until_they_are_cut_split_or_mute(three: Lab) -> None:
    a, b, c = three.hosts
    for host in three.hosts:
        listen(host)
    until_reached(a, b)
    b.cut()
    assert not reaches(a, b)
    assert not reaches(b, c)
    until_reached(c, a)
    b.heal()
    until_reached(a, b)
    three.split([a], [b, c])
    assert not reaches(b, a)
    until_reached(b, c)
    three.heal()
    until_reached(b, a)
    a.mute(b)
    assert not reaches(b, a)  # b is heard, and gets no answer
    until_reached(c, a)
    a.unmute(b)
    until_reached(b, a)


@needs_spaces
def test_a_lossy_host_still_answers_and_a_slow_one_too(three: Lab) -> None:
    a, b, _ = three.hosts
    listen(a)
    a.slow("1mbit")
    if shutil.which("iptables"):
        a.lossy(0.01)
    wait_until("something comes through", lambda: reaches(b, a))
    a.heal()
    until_reached(b, a)


@needs_spaces
def test_what_runs_on_a_dead_host_is_dead_its_daemons_too(three: Lab) -> None:
    a, b, _ = three.hosts
    survivor = subprocess.Popen(b.argv("sleep", "60"))
    a.execute(["sh", "-c", "sleep 60 >/dev/null 2>&1 &"])
    wait_until("it runs", lambda: len(a.processes()) == 1)
    (pid,) = a.processes()
    assert a.slay("host") == [pid]
    assert not is_alive(pid)
    assert survivor.poll() is None
    survivor.kill()
    survivor.wait()


@needs_spaces
def test_a_lab_leaves_no_link_no_space_and_no_process(tmp_path: Path) -> None:
    with lab(tmp_path) as made:
        tag, host = made.tag, made.add()
        host.execute(["sh", "-c", "sleep 60 >/dev/null 2>&1 &"])
        (pid,) = host.processes()
    wait_until("the process is gone", lambda: not is_alive(pid))
    assert not [name for name in labs._names() if name.startswith(tag)]


@needs_spaces
def test_what_a_killed_lab_left_is_swept_away_by_the_next(tmp_path: Path) -> None:
    code = """
import sys, pathlib
from tests.harness.lab import lab
with lab(pathlib.Path(sys.argv[1])) as made:
    host = made.add()
    host.execute(["sh", "-c", "sleep 60 >/dev/null 2>&1 &"])
    print(made.tag, *host.processes(), flush=True)
    sys.stdin.read()
"""
    env = {**os.environ, "PYTHONPATH": f"src{os.pathsep}."}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as maker:
        assert maker.stdout is not None
        tag, pid = maker.stdout.readline().split()
        maker.send_signal(signal.SIGKILL)
        maker.wait()
    assert is_alive(int(pid))
    with lab(tmp_path / "next"):
        assert not [name for name in labs._names() if name.startswith(tag)]
        wait_until("the process is gone", lambda: not is_alive(int(pid)))


def test_a_skewed_clock_moves_at_once_and_monotonic_time_does_not(tmp_path: Path) -> None:
    with lab(tmp_path) as made:
        host = made.add()
        try:
            host.skewable()
        except NotHereError as error:
            pytest.skip(str(error))
        for offset in (300.0, -300.0, 0.0):
            host.skew(offset)
            ask = "import time; print(time.time(), time.monotonic())"
            before = time.time(), time.monotonic()
            wall, monotonic = map(float, host.execute([sys.executable, "-c", ask]).stdout.split())
            after = time.time(), time.monotonic()
            assert before[0] <= wall - offset <= after[0]
            assert before[1] <= monotonic <= after[1]


def test_a_small_disk_gets_full_and_is_freed_again(tmp_path: Path) -> None:
    with lab(tmp_path) as made:
        host = made.add()
        try:
            host.small_disk(2)
        except NotHereError as error:
            pytest.skip(str(error))
        host.fill_disk()
        with pytest.raises(OSError, match="No space left"):
            (host.data / "more").write_bytes(bytes(100_000))
        host.free_disk()
        (host.data / "more").write_bytes(bytes(100_000))
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_without_namespaces_hosts_share_an_address_and_cannot_be_cut(tmp_path: Path) -> None:
    with lab(tmp_path, spaces=False) as made:
        a, b = made.add(), made.add()
        assert a.address == b.address == "127.0.0.1"
        assert a.port != b.port
        with socket.create_server((a.address, a.port)):
            pass
        with pytest.raises(NotHereError, match="cannot be cut off"):
            a.cut()
        process = subprocess.Popen(["sleep", "60"], env={**os.environ, "ROTA_DATA": str(a.data)})
        threading.Thread(target=process.wait, daemon=True).start()
        assert b.slay("host") == []
        assert a.slay("host") == [process.pid]
