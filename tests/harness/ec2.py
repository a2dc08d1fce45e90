"""An EC2 on this machine: moto, a front that behaves as Amazon does where moto does not, machines.

What is launched is really run: each instance's user data is a process here, as root's cloud-init
would run it, and is killed with all its children when the instance is terminated.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs
from urllib.request import Request, urlopen
from xml.etree import ElementTree

from tests.harness.daemon import wait_until
from tests.harness.lab import free_port

REGION = "eu-central-1"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "not a secret"}
MOTO = Path(sys.executable).parent / "moto_server"


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """Run moto's server; yields its URL."""
    port = free_port()
    checks = ("EC2_ENABLE_INSTANCE_TYPE", "ENABLE_KEYPAIR", "ENABLE_AMI")
    env = {**os.environ, "MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}
    env |= {f"MOTO_{check}_VALIDATION": "yes" for check in checks}
    with subprocess.Popen(
        [str(MOTO), "-H", "127.0.0.1", "-p", str(port)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until("moto answers", lambda: _answers(f"{url}/moto-api/"))
            yield url
        finally:
            server.kill()


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urlopen(url, timeout=5):
        return True
    return False


@dataclasses.dataclass
class Call:
    """One request, as the provider saw it."""

    action: str
    fields: dict[str, str]
    at: float


class Front:
    """Between callers and moto: what it adds is what Amazon has.

    ``knows_tokens`` makes a repeated RunInstances answer what the first one did. ``faults`` are asked
    before a call is answered: ``lose`` drops the connection after it was carried out, ``refuse:CODE``
    does not carry it out, anything else (or nothing) lets it through; ``hold`` keeps the answer
    until :attr:`release` is set. ``hidden`` instances are not listed.
    """

    def __init__(self, moto_url: str) -> None:
        self.moto = moto_url
        self.calls: list[Call] = []
        self.knows_tokens = False
        self.fault: Callable[[str], str] = lambda _: ""
        self.release = threading.Event()
        self.hides_s = 0.0
        self._answers: dict[str, bytes] = {}
        self._born: dict[str, float] = {}
        self._lock = threading.Lock()
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self._serve()

            def do_GET(self) -> None:
                self._serve()

            def _serve(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    front.serve(self)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def number(self, action: str) -> int:
        return sum(it.action == action for it in self.calls)

    def close(self) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        query = handler.path.partition("?")[2] + "&" + body.decode("latin-1")
        fields = {name: values[0] for name, values in parse_qs(query).items()}
        action = fields.get("Action", "")
        self.calls.append(Call(action, fields, time.monotonic()))
        fault = self.fault(action)
        if fault.startswith("refuse:"):
            code = fault.partition(":")[2]
            _reply(handler, 503 if "Limit" in code else 400, _refusal(code))
            return
        status, answer = self._carry_out(handler, body, action, fields)
        if fault == "hold":
            self.release.wait(60)
        if fault in ("lose", "hold"):
            handler.close_connection = True
            handler.connection.close()
            return
        _reply(handler, status, answer)

    def _carry_out(
        self, handler: BaseHTTPRequestHandler, body: bytes, action: str, fields: dict[str, str]
    ) -> tuple[int, bytes]:
        token = fields.get("ClientToken", "")
        with self._lock:
            if self.knows_tokens and action == "RunInstances" and token in self._answers:
                return 200, self._answers[token]
            status, answer = self._ask(handler, body)
            if action == "RunInstances" and status == 200:
                self._answers[token] = answer
                self._born[_between(answer, b"<instanceId>", b"<")] = time.monotonic()
        if action == "DescribeInstances":
            answer = self._without_the_young(answer)
        return status, answer

    def _ask(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes]:
        headers = {
            name: value
            for name, value in handler.headers.items()
            if name.lower() not in ("host", "content-length", "connection", "accept-encoding")
        }
        asked = Request(
            self.moto + handler.path, body or None, headers=headers, method=handler.command
        )
        try:
            with urlopen(asked, timeout=30) as reply:
                status, answer = reply.status, reply.read()
        except HTTPError as error:
            status, answer = error.code, error.read()
        # Amazon has a slash at the end of its namespace, and none at all where it refuses.
        name = b"http://ec2.amazonaws.com/doc/2016-11-15"
        if status == 200:
            return status, answer.replace(b'xmlns="' + name + b'"', b'xmlns="' + name + b'/"')
        return status, answer.replace(b' xmlns="' + name + b'"', b"")

    def _without_the_young(self, answer: bytes) -> bytes:
        """Return a list of instances that lacks what has just been launched."""
        whole, now = ElementTree.fromstring(answer), time.monotonic()
        space = {"e": "http://ec2.amazonaws.com/doc/2016-11-15/"}
        listed = whole.find("e:reservationSet", space)
        for one in list(listed if listed is not None else ()):
            instance = one.findtext("e:instancesSet/e:item/e:instanceId", "", space)
            if listed is not None and now - self._born.get(instance, 0.0) < self.hides_s:
                listed.remove(one)
        return ElementTree.tostring(whole)


def _between(text: bytes, start: bytes, end: bytes) -> str:
    return text.partition(start)[2].partition(end)[0].decode()


def _refusal(code: str) -> bytes:
    return (
        f"<Response><Errors><Error><Code>{code}</Code><Message>that is how it is</Message></Error>"
        "</Errors><RequestID>r</RequestID></Response>"
    ).encode()


def _reply(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", "text/xml")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class Account:
    """What somebody sees who looks at the provider's own pages: straight at moto."""

    def __init__(self, moto_url: str) -> None:
        import boto3

        self._client = boto3.client(
            "ec2",
            region_name=REGION,
            endpoint_url=moto_url,
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )
        self.image = str(self._client.register_image(Name="debian")["ImageId"])

    def instances(self, *states: str) -> dict[str, dict[str, Any]]:
        """Return the instances in these states, by id; by default all that live."""
        wanted = states or ("pending", "running")
        pages = self._client.describe_instances()["Reservations"]
        found = [it for page in pages for it in page["Instances"]]
        return {it["InstanceId"]: it for it in found if it["State"]["Name"] in wanted}

    def all(self) -> dict[str, dict[str, Any]]:
        return self.instances("pending", "running", "shutting-down", "terminated", "stopped")

    def user_data(self, instance: str) -> str:
        import base64

        found = self._client.describe_instance_attribute(InstanceId=instance, Attribute="userData")
        return base64.b64decode(found["UserData"]["Value"]).decode()

    def take(self, instance: str) -> None:
        """Terminate an instance, as a provider does that needs its spot back."""
        self._client.terminate_instances(InstanceIds=[instance])


class Machines:
    """Runs instances, until they are terminated. ``folder`` is where their agents keep their data."""

    def __init__(self, account: Account, folder: Path) -> None:
        self.account, self.folder = account, folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.is_booting = True
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        folder.mkdir()
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(0.1):
            living = self.account.instances()
            for instance in living:
                if instance not in self.processes and self.is_booting:
                    self._boot(instance)
            for instance, process in self.processes.items():
                if instance not in living and process.poll() is None:
                    self.kill(instance)

    def _boot(self, instance: str) -> None:
        script = self.folder / f"{instance}.sh"
        script.write_text(self.account.user_data(instance))
        script.chmod(0o700)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ROTA_", "AWS_"))}
        with (self.folder / f"{instance}.log").open("wb") as log:
            self.processes[instance] = subprocess.Popen(
                [str(script)],
                env={**clean, "INSTANCE": instance},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, instance: str) -> None:
        """End all that runs on a machine, as when its power is cut."""
        mark = f"INSTANCE={instance}".encode()
        name = b"/machines/" + self._name(instance) if self._name(instance) else mark
        for path in Path("/proc").iterdir():
            if not path.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if (
                    mark in (path / "environ").read_bytes()
                    or name in (path / "cmdline").read_bytes()
                ):
                    os.kill(int(path.name), signal.SIGKILL)
        self.processes[instance].wait(10)

    def _name(self, instance: str) -> bytes:
        tags = self.account.all().get(instance, {}).get("Tags", [])
        return next((it["Value"].encode() for it in tags if it["Key"] == "rota-machine"), b"")

    def log(self) -> str:
        """Return what all machines printed, for a failed test."""
        return "\n".join(
            f"{path.name}:\n{path.read_text(errors='replace')[-2000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )

    def close(self) -> None:
        self._is_over.set()
        self._thread.join(20)
        for instance in self.processes:
            self.kill(instance)
