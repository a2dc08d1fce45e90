"""Three pods of the Kubernetes manifest, without a cluster: its environment, its entrypoint, a stand-in for its API.

Each pod is namespaces of processes, mounts and host name, so that all of it ends with its first process. Names
are those of a headless service, by `/etc/hosts`. What a kubelet shows of the Secret is a folder that the stand-in
writes. Nothing is joined by hand.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from tests.harness.daemon import ROTA, wait_until

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
NAMES = ("rota-0", "rota-1", "rota-2")
PATIENCE_S = 120.0
POD = """
set -e
hostname "$POD"
mount --bind "$HOSTS" /etc/hosts
mount -t tmpfs none /opt
mkdir -p /opt/rota/lib/python3/site-packages
echo image-1 >/opt/rota/id
cp "$PACKAGING/start.sh" "$PACKAGING/publish.py" /opt/rota/
ln -s "$SOURCE" /opt/rota/lib/python3/site-packages/rota
exec sh /opt/rota/start.sh
"""

pytestmark = [pytest.mark.fault, pytest.mark.nats, pytest.mark.slow, pytest.mark.timeout(400)]


class Pods:
    """The pods; each keeps its volume, whatever becomes of it."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        self._folder, self._environ = folder, environ
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        data = self._folder / name
        data.mkdir(exist_ok=True)
        environ = {key: value.replace("$(POD)", name) for key, value in self._environ.items()}
        environ |= {"POD": name, "ROTA_DATA": str(data)}
        words = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [*words, "sh", "-c", POD], env=environ, stdout=log, stderr=log
            )

    def kill(self, name: str) -> None:
        pod = self._running.pop(name)
        pod.send_signal(signal.SIGKILL)
        pod.wait()

    def end(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def said(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def run(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [ROTA, "--data", str(self._folder / name), *words],
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def has_up(self, name: str, count: int) -> bool:
        return len(re.findall(r" up ", self.run(name, "agents").stdout)) == count


class Api(BaseHTTPRequestHandler):
    """Takes a patch of the Secret, and shows it as a kubelet does."""

    shown: Path

    def do_PATCH(self) -> None:
        assert self.path == "/api/v1/namespaces/ci/secrets/rota-join"
        assert self.headers["Authorization"] == "Bearer account"
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for name, value in body["data"].items():
            (self.shown / f".{name}").write_bytes(base64.b64decode(value))
            (self.shown / f".{name}").rename(self.shown / name)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Pods]:
    if os.getuid() != 0 or not all(map(shutil.which, ("unshare", "openssl", "mount"))):
        pytest.skip("needs root, unshare, mount and openssl")
    account, shown = tmp_path / "account", tmp_path / "join"
    account.mkdir()
    shown.mkdir()
    (account / "token").write_text("account")
    (account / "namespace").write_text("ci")
    key, cert = tmp_path / "key.pem", account / "ca.crt"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=api",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            cert,
        ],
        check=True,
        capture_output=True,
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Shown", (Api,), {"shown": shown}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hosts = tmp_path / "hosts"
    lines = [f"127.0.17.{at} {it} {it}.rota-agents" for at, it in enumerate(NAMES, 1)]
    hosts.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
    made = Pods(
        tmp_path,
        {
            **manifest(),
            "ROTA_JOIN": str(shown),
            "ROTA_ACCOUNT": str(account),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(server.server_port),
            "HOSTS": str(hosts),
            "PACKAGING": str(PACKAGING / "container"),
            "SOURCE": str(ROOT / "src" / "rota"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )
    try:
        yield made
    finally:
        made.end()
        server.shutdown()
        server.server_close()


def manifest() -> dict[str, str]:
    """Return the environment that the manifest gives a pod; what it takes of the pod itself is left open."""
    parts = yaml.safe_load_all((PACKAGING / "kubernetes" / "rota.yaml").read_text())
    agents = next(it for it in parts if it["kind"] == "StatefulSet")
    (container,) = agents["spec"]["template"]["spec"]["containers"]
    return {it["name"]: it["value"] for it in container["env"] if "value" in it}


def test_pods_join_by_themselves_and_come_back(pods: Pods, tmp_path: Path) -> None:
    for name in reversed(NAMES):  # all at once, the founder last
        pods.start(name)
    wait_until("three are up", lambda: pods.has_up("rota-2", 3), PATIENCE_S)
    assert "founding a cluster" in pods.said("rota-0")
    for name in NAMES[1:]:
        assert "joining by the token of" in pods.said(name)
        assert "founding" not in pods.said(name)
    (tmp_path / "job").write_text("#!/bin/sh\nhostname\n")
    added = pods.run("rota-1", "add", "which", str(tmp_path / "job"))
    assert added.returncode == 0, added.stderr

    def tolerates() -> bool:
        return '"tolerates":1' in pods.run("rota-1", "status", "--json").stdout.replace(" ", "")

    wait_until("one may be lost", tolerates, PATIENCE_S)
    pods.kill("rota-0")
    wait_until(
        "the others build on",
        lambda: pods.run("rota-2", "run", "which", "--wait").returncode == 0,
        PATIENCE_S,
    )
    pods.start("rota-0")
    wait_until("all are back", lambda: pods.has_up("rota-0", 3), PATIENCE_S)
    assert pods.said("rota-0").count("founding a cluster") == 1
