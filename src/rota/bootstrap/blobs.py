"""Where artifacts can be stored, as the settings name it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rota.adapters.blob_bucket import BucketBlobs, Keys, Place
from rota.adapters.blob_files import FileBlobs
from rota.core.settings import Settings
from rota.ports.blobs import Blobs, Make, ReadSecret


def _files(settings: Settings, _: ReadSecret) -> Blobs | None:
    path = settings.artifacts.path
    return FileBlobs(Path(path)) if path else None


def _bucket(settings: Settings, read_secret: ReadSecret) -> Blobs | None:
    bucket = settings.bucket
    if not bucket.name:
        return None

    async def keys() -> Keys:
        if not bucket.key:
            return Keys()
        secret = await read_secret(bucket.secret)
        return Keys(id=bucket.key, secret=secret.decode("utf-8", "replace").strip())

    place = Place(
        bucket=bucket.name, endpoint=bucket.endpoint, region=bucket.region, prefix=bucket.prefix
    )
    return BucketBlobs(place, keys)


BLOB_STORES: Mapping[str, Make] = {"files": _files, "bucket": _bucket}
