"""A bucket for tests: moto's S3, as a server of its own in this process."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

_numbers = itertools.count()


class Buckets:
    """A server of buckets at ``endpoint``. Each test makes one of its own."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def make(self) -> str:
        """Make a bucket and return its name."""
        name = f"bucket-{next(_numbers)}"
        _client(self.endpoint).create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> list[str]:
        """Return the keys of all objects in it."""
        pages = _client(self.endpoint).get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", ()))


def _client(endpoint: str) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="key-id",
        aws_secret_access_key="the-key",
    )


@contextlib.contextmanager
def serving() -> Iterator[Buckets]:
    """Serve buckets while the context is open."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield Buckets(f"http://{host}:{port}")
    finally:
        server.stop()


@pytest.fixture(scope="session")
def buckets() -> Iterator[Buckets]:
    """Buckets that live as long as the test run."""
    with serving() as found:
        yield found
