"""A registry of images with one image in it: what an engine pulls from, with or without a login."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Serves ``team/tools:1``, made of a root file system, at ``address``."""

    def __init__(self, address: str, layer: bytes, login: str) -> None:
        self._login = login
        packed = gzip.compress(layer, 1, mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": ["PATH=/bin", "FROM=registry"], "Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            }
        ).encode()
        self._blobs = {_digest(it): it for it in (packed, config)}
        layers = [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": len(packed),
                "digest": _digest(packed),
            }
        ]
        self._manifest = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {
                    "mediaType": "application/vnd.docker.container.image.v1+json",
                    "size": len(config),
                    "digest": _digest(config),
                },
                "layers": layers,
            }
        ).encode()
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status, kind, body = registry.answer(
                    self.path, self.headers.get("Authorization", "")
                )
                self.send_response(status)
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="tests"')
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                if kind == _MANIFEST:
                    self.send_header("Docker-Content-Digest", _digest(body))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self.server = ThreadingHTTPServer((address, 0), Handler)
        self.image = f"{address}:{self.server.server_address[1]}/team/tools:1"

    def answer(self, path: str, credential: str) -> tuple[int, str, bytes]:
        wanted = f"Basic {base64.b64encode(self._login.encode()).decode()}"
        if self._login and credential != wanted:
            return 401, "application/json", _error("UNAUTHORIZED", "authentication required")
        if path == "/v2/":
            return 200, "application/json", b"{}"
        digest = path.rpartition("/")[2]
        if path.startswith("/v2/team/tools/blobs/") and digest in self._blobs:
            return 200, "application/octet-stream", self._blobs[digest]
        if path in ("/v2/team/tools/manifests/1", f"/v2/team/tools/manifests/{self.digest}"):
            return 200, _MANIFEST, self._manifest
        return 404, "application/json", _error("MANIFEST_UNKNOWN", "manifest unknown")

    @property
    def digest(self) -> str:
        return _digest(self._manifest)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@contextmanager
def registry(address: str, layer: bytes, login: str = "") -> Iterator[Registry]:
    """A registry that asks for ``login``, ``user:password``, unless that is empty."""
    made = Registry(address, layer, login)
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()
