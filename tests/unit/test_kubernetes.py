"""The Kubernetes manifest fits itself and the image's script; tokens reach the Secret that it has.

Schemas are for `make dist-check`: they are 11 MB.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "packaging"
PUBLISH = FOLDER / "container" / "publish.py"


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    text = (FOLDER / "kubernetes" / "rota.yaml").read_text()
    return {f"{it['kind']} {it['metadata']['name']}": it for it in yaml.safe_load_all(text)}


def test_its_parts_name_each_other(parts: dict[str, Any]) -> None:
    agents = parts["StatefulSet rota"]["spec"]
    pod = agents["template"]["spec"]
    (container,) = pod["containers"]
    ports = {it["name"] for it in container["ports"]}
    labels = agents["template"]["metadata"]["labels"].items()
    assert f"Service {agents['serviceName']}" in parts
    for name in ("Service rota", "Service rota-agents"):
        assert parts[name]["spec"]["selector"].items() <= labels
    assert parts["PodDisruptionBudget rota"]["spec"]["selector"]["matchLabels"].items() <= labels
    assert f"ServiceAccount {pod['serviceAccountName']}" in parts
    assert parts["Role rota"]["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["rota-join"], "verbs": ["patch"]}
    ]  # fmt: skip
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "rest"}
    assert ports == {"rest"}
    volumes = {it["name"] for it in pod["volumes"]}
    volumes |= {it["metadata"]["name"] for it in agents["volumeClaimTemplates"]}
    assert {it["name"] for it in container["volumeMounts"]} == volumes
    assert agents["podManagementPolicy"] == "Parallel"
    assert parts["Service rota-agents"]["spec"]["publishNotReadyAddresses"]


def test_the_image_knows_what_it_is_told(parts: dict[str, Any]) -> None:
    pod = parts["StatefulSet rota"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    given = {it["name"]: it.get("value") for it in container["env"]}
    script = (FOLDER / "container" / "start.sh").read_text()
    for name in set(given) - {"POD"}:
        assert re.search(rf"^#   {name}\b", script, re.MULTILINE), name
    assert given["ROTA_JOIN_SECRET"] == "rota-join"
    assert given["ROTA_LISTEN"] == "$(POD).rota-agents:7070"
    user = re.search(
        r"^USER (\d+):", (FOLDER / "container" / "Dockerfile").read_text(), re.MULTILINE
    )
    assert user is not None
    assert pod["securityContext"]["runAsUser"] == int(user[1])


class Api(BaseHTTPRequestHandler):
    """What the cluster's API would be, without TLS."""

    status = 200
    asked: ClassVar[list[tuple[str, dict[str, str], Any]]] = []

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, dict(self.headers), body))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def api() -> Iterator[ThreadingHTTPServer]:
    Api.asked, Api.status = [], 200
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def publish(
    folder: Path, server: ThreadingHTTPServer, said: str
) -> subprocess.CompletedProcess[str]:
    (folder / "namespace").write_text("ci")
    (folder / "token").write_text("account-token")
    # The real one speaks TLS alone: the scheme is all that differs.
    program = folder / "publish.py"
    text = PUBLISH.read_text().replace('f"https://', 'f"http://')
    program.write_text(
        text.replace('ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))', "None")
    )
    environ = os.environ | {
        "ROTA_ACCOUNT": str(folder),
        "ROTA_JOIN_SECRET": "rota-join",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(server.server_port),
    }
    return subprocess.run(
        [sys.executable, program, "rota-1"],
        input=said, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_agent_puts_its_token_into_the_secret(tmp_path: Path, api: ThreadingHTTPServer) -> None:
    assert publish(tmp_path, api, "rota1.9f\n").returncode == 0
    ((path, headers, body),) = Api.asked
    assert path == "/api/v1/namespaces/ci/secrets/rota-join"
    assert headers["Authorization"] == "Bearer account-token"
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert body == {"data": {"rota-1": base64.b64encode(b"rota1.9f").decode()}}


def test_a_token_that_is_not_there_or_not_taken_is_tried_again(
    tmp_path: Path, api: ThreadingHTTPServer
) -> None:
    assert publish(tmp_path, api, "").returncode == 1
    assert Api.asked == []
    Api.status = 403
    done = publish(tmp_path, api, "rota1.9f\n")
    assert done.returncode == 1
    assert done.stderr == (
        "start: cannot put a join token into the Secret rota-join: HTTP Error 403: Forbidden\n"
    )
