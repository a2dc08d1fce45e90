"""Which repository a URL means, so that all of its URLs count as one."""

from __future__ import annotations

import re

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:[^/]*@)?([^/]*)(/.*)?", re.DOTALL)
_SCP = re.compile(r"(?:[^/@:\s]+@)?([^/@:\s]{2,}):(?!//)(.+)", re.DOTALL)
_PORTS = {"http": ":80", "https": ":443", "ssh": ":22", "git": ":9418"}


def repo_key(url: str) -> str:
    """Return a repository's host and path, such as ``git.example/web``; a local path as it is.

    Scheme, user, usual port, a trailing ``.git`` and slashes make no difference, nor does case in
    the host's name. Any text comes to something.
    """
    url = url.strip()
    if (found := _URL.fullmatch(url)) is not None:
        scheme, host, path = found[1].lower(), found[2].lower(), found[3] or ""
        if scheme == "file":
            return _path(path)
        host = host.removesuffix(_PORTS.get(scheme, ""))
        return f"{host}/{_path(path).lstrip('/')}".rstrip("/")
    if (found := _SCP.fullmatch(url)) is not None:
        return f"{found[1].lower()}/{_path(found[2]).lstrip('/')}"
    return _path(url)


def _path(path: str) -> str:
    return path.rstrip("/").removesuffix(".git").rstrip("/")
