"""Container engines for tests: one dockerd, one podman service a session, each started when asked for.

An engine runs in a network namespace of its own, so that it neither sees nor disturbs another one
on this machine. A pair of addresses joins it to this machine: containers reach what listens on
:attr:`Engine.host`, and tests reach ports that are published at :attr:`Engine.address`. Nothing
leads further: pulls from the internet fail at once. Images are made here (``tests/harness/images``).

Where it cannot run, tests that ask for it skip, and say why. It ends with this process, however
this ends.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pytest
from tests.harness import images

PATIENCE_S = 60.0
_T = TypeVar("_T")
#: What the small Python image has; other tests may ask for more with :meth:`Engine.of_packages`.
PYTHON = ("python3-minimal", "python3", "bash", "dash", "coreutils", "grep", "sed", "libc-bin")


class EngineError(Exception):
    """The engine said no; the text is its own."""


class Engine:
    """A running engine and what it listens on.

    Args:
        kind: ``docker`` or ``podman``.
        folder: All of its files.
        process: Its service.
        host: This machine's address, for containers.
        address: The engine's address, for this machine.
    """

    def __init__(
        self,
        kind: str,
        folder: Path,
        start: Callable[[], subprocess.Popen[bytes]],
        host: str,
        address: str,
    ) -> None:
        self.kind = kind
        self.folder = folder
        self.socket = folder / "e.sock"
        self.host = host
        self.address = address
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What ``$DOCKER_HOST`` is to be for it."""
        return f"unix://{self.socket}"

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Have it answer nothing for as long as the context is open; its containers go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def start(self) -> None:
        """Start the service and wait until it answers.

        Raises:
            EngineError: it does not; the text has its last lines.
        """
        self._process = self._start()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.request("GET", "/version")
            except OSError:
                if self._process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.05)
                    continue
                said = (self.folder / "log").read_text(errors="replace").splitlines()[-5:]
                raise EngineError(f"{self.kind} does not start: {' / '.join(said)}") from None
            return

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """End the service; with SIGTERM dockerd ends its containers first."""
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(PATIENCE_S)
            self._process = None

    def request(
        self, method: str, path: str, body: object = None, *, kind: str = "application/json"
    ) -> Any:
        """Ask the engine's API and return the answer, decoded where it is JSON.

        Args:
            method: As in HTTP.
            path: With the query, without a version.
            body: JSON, or bytes, or an open file.
            kind: Of a body that is not to be encoded.

        Raises:
            EngineError: it refuses.
            OSError: it does not answer.
        """
        raw = isinstance(body, bytes) or hasattr(body, "read")
        connection = _Connection(self.socket)
        try:
            sent: Any = body if raw or body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise EngineError(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        if b'"error"' in text and path.startswith("/images/create"):
            raise EngineError(text.decode(errors="replace"))
        try:
            return json.loads(text) if text else None
        except ValueError:
            return text

    def put(self, name: str, tar: bytes | Path, *changes: str) -> str:
        """Make an image of a root file system unless it is there, and return its name.

        Args:
            name: As a header has it, ``busybox`` or ``python:3.11-slim``.
            tar: What is in it.
            changes: Lines of a Dockerfile, such as ``ENV A=1``.
        """
        repository, _, tag = name.partition(":")
        if self._process is not None and (status := self._process.poll()) is not None:
            said = (self.folder / "log").read_text(errors="replace").splitlines()[-8:]
            raise EngineError(f"{self.kind} ended with {status}: {' / '.join(said)}")
        if not self.has(name):
            query = "".join(f"&changes={_quoted(change)}" for change in changes)
            path = f"/images/create?fromSrc=-&repo={repository}&tag={tag or 'latest'}{query}"
            with contextlib.ExitStack() as held:
                body = held.enter_context(tar.open("rb")) if isinstance(tar, Path) else tar
                self.request("POST", path, body, kind="application/x-tar")
        return name

    def has(self, name: str) -> bool:
        """Say whether there is an image of that name."""
        try:
            self.request("GET", f"/images/{name}/json")
        except EngineError:
            return False
        return True

    def busybox(self) -> str:
        """Return the name of an image with all of busybox."""
        return self.put("busybox:latest", _made(images.busybox), 'CMD ["/bin/sh"]')

    def single(self, applet: str) -> str:
        """Return the name of an image that holds one program and no shell."""
        return self.put(f"only-{applet}:latest", _made(lambda: images.single(applet)))

    def python(self) -> str:
        """Return the name of an image with Python 3, bash and coreutils; seconds the first time."""
        return self.of_packages("python:3.11-slim", *PYTHON)

    def of_packages(self, name: str, *packages: str) -> str:
        """Return ``name``, an image of installed Debian packages; skips where one is missing."""
        certificates = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
        told = [f"ENV {variable}={images.CERTIFICATES}" for variable in certificates]
        return self.put(name, _made(lambda: images.of_packages(*packages)), *told)

    def containers(self, label: str = "") -> list[dict[str, Any]]:
        """Return all containers, running or not, that have the label ``label``."""
        filters = json.dumps({"label": [label]} if label else {})
        found: list[dict[str, Any]] = self.request(
            "GET", f"/containers/json?all=1&filters={_quoted(filters)}"
        )
        return found


def _made(make: Callable[[], _T]) -> _T:
    try:
        return make()
    except images.CannotMakeError as error:
        pytest.skip(f"no image: {error}")


def _quoted(text: str) -> str:
    return quote(text, safe="")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Network:
    """A network namespace, joined to this machine by a pair of addresses.

    Raises:
        OSError, subprocess.SubprocessError: it cannot be made.
    """

    def __init__(self) -> None:
        self._name = f"rota-e{os.getpid()}-{next(_COUNT)}"
        for slot in range(1, 250):
            near, self.host, self.address = f"re{slot}", f"10.213.{slot}.1", f"10.213.{slot}.2"
            far = f"{near}f"
            made = _ip("link", "add", near, "type", "veth", "peer", "name", far, check=False)
            if made.returncode == 0:
                break
        else:
            raise OSError("no address is free for a network namespace")
        self._near = near
        _ip("netns", "add", self._name)
        _ip("link", "set", far, "netns", self._name)
        _ip("addr", "add", f"{self.host}/30", "dev", near)
        _ip("link", "set", near, "up")
        inside = ("-n", self._name)
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "addr", "add", f"{self.address}/30", "dev", far)
        _ip(*inside, "link", "set", far, "up")
        _ip(*inside, "route", "add", "default", "via", self.host)

    def words(self) -> tuple[str, ...]:
        """Return what to put before a command that is to run in it, and to end with this process."""
        # not `ip netns exec`: that would hide the control groups
        return (
            *("setpriv", "--pdeathsig", "TERM", "--"),
            *("nsenter", f"--net=/run/netns/{self._name}", "--"),
        )

    def close(self) -> None:
        """Remove it."""
        _ip("link", "del", self._near, check=False)
        _ip("netns", "del", self._name, check=False)


_COUNT = itertools.count()


def _ip(*words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ip", *words], check=check, capture_output=True)


@contextlib.contextmanager
def running(kind: str, *, live_restore: bool = False) -> Iterator[Engine]:
    """Start an engine and stop it in the end; skips where it cannot run, with the reason.

    With ``live_restore`` dockerd's containers go on while it is away.

    A test that restarts the engine starts one of its own with this; others use the fixtures.
    """
    programs = {"docker": ("dockerd", "containerd"), "podman": ("podman", "conmon")}[kind]
    if os.geteuid() != 0:
        pytest.skip(f"{kind}: starting an engine needs root")
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for program in (*programs, "runc", "iptables", "ip", "nsenter", "setpriv"):
        if shutil.which(program, path=path) is None:
            pytest.skip(f"{kind}: {program} is not installed")
    folder = Path(tempfile.mkdtemp(prefix=f"rota-{kind}-"))
    folder.chmod(0o755)  # users in containers and rootless ones have to get through
    with contextlib.ExitStack() as left:
        left.callback(_remove, folder)
        try:
            network = Network()
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"{kind}: no network namespace can be made: {error}")
        left.callback(network.close)
        command = [*_command(kind, folder), *(["--live-restore"] if live_restore else [])]

        def start() -> subprocess.Popen[bytes]:
            with (folder / "log").open("ab") as log:
                return subprocess.Popen(
                    [*network.words(), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")},
                    cwd=folder,  # where conmon notes that a container was out of memory
                )

        engine = Engine(kind, folder, start, network.host, network.address)
        left.callback(engine.stop)
        try:
            engine.start()
        except EngineError as error:
            pytest.skip(str(error))
        try:
            yield engine
        finally:
            # also of a test that failed: with live restore they would outlive the engine
            with contextlib.suppress(OSError):
                for container in engine.containers():
                    with contextlib.suppress(EngineError):
                        engine.request("DELETE", f"/containers/{container['Id']}?force=1&v=1")


def _command(kind: str, folder: Path) -> Sequence[str]:
    address = f"unix://{folder / 'e.sock'}"
    if kind == "docker":
        return (
            *("dockerd", "--data-root", f"{folder}/root", "--exec-root", f"{folder}/exec"),
            *("--pidfile", f"{folder}/pid", "-H", address),
            *("--storage-driver", "overlay2", "--default-ulimit", "nofile=20000:20000"),
            # registries of tests, on this machine's side of the pair
            *("--insecure-registry", "10.213.0.0/16"),
        )
    (folder / "containers.conf").write_text(
        '[containers]\ndefault_ulimits=["nofile=20000:20000", "nproc=4096:4096"]\n'
        '[engine]\nruntime="runc"\ncgroup_manager="cgroupfs"\nevents_logger="file"\n'
    )
    state = ("--root", f"{folder}/root", "--runroot", f"{folder}/run")
    return ("podman", *state, "system", "service", "-t", "0", address)


def _remove(folder: Path) -> None:
    """Remove an engine's files, what it left mounted included."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    for line in reversed(mounts):
        target = line.split(" ")[1]
        if target.startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", target], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def docker_engine() -> Iterator[Engine]:
    """A dockerd for all tests of a module; it has no image until one is asked for."""
    with running("docker") as engine:
        yield engine


@pytest.fixture(scope="module")
def podman_engine() -> Iterator[Engine]:
    """A podman service for all tests of a module."""
    with running("podman") as engine:
        yield engine


@pytest.fixture(params=["docker", "podman"])
def any_engine(request: pytest.FixtureRequest) -> Engine:
    """Each of the two, one after the other."""
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    return engine
