"""Entity tags, as conditional requests name them (RFC 9110, § 8.8.3 and § 13.1)."""

from __future__ import annotations

import re

#: A tag in quotes, weak or not; one without quotes is taken too, as people type it.
_TAG = re.compile(r'(W/)?"([^"]*)"|([^\s",]+)')


def is_among(etag: str | None, named: str, *, weak: bool) -> bool:
    """Whether ``named`` (``*``, or tags with commas between them) names ``etag``.

    Nothing names what is not there (``None``). ``weak`` says that weak tags count too, as they do
    for If-None-Match; If-Match takes strong ones alone.
    """
    if etag is None:
        return False
    if named.strip() == "*":
        return True
    return any(
        (quoted or bare) == etag and (weak or not is_weak)
        for is_weak, quoted, bare in _TAG.findall(named)
    )
