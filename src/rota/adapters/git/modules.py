"""Submodules: which a commit has, and where they may lie. What a repository says of them is hostile."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import msgspec

from rota.adapters.git.process import Git
from rota.adapters.git.remote import call
from rota.core.scm import is_local, shown, url_fault
from rota.errors import CheckoutError

MAX_MODULES = 500
_KEY = re.compile(r"submodule\.(.*)\.(path|url)", re.DOTALL)
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^/]*)?(.*)", re.DOTALL)


class Module(msgspec.Struct, frozen=True):
    """One submodule of a commit."""

    path: str
    url: str
    commit: str


async def listed(
    git: Git, env: Mapping[str, str], commit: str, url: str, idle_s: float
) -> list[Module]:
    """Return the submodules that a commit has, by path.

    Raises:
        CheckoutError: one of them is not to be touched: its URL or its path would do harm.
    """
    names = await call(
        git, "ls-tree", "-z", "--name-only", commit, "--", ".gitmodules", env=env, idle_s=idle_s
    )
    if not names:
        return []
    blob = f"{commit}:.gitmodules"
    out = await call(git, "config", "--blob", blob, "--null", "--list", env=env, idle_s=idle_s)
    found: dict[str, dict[str, str]] = {}
    for entry in filter(None, out.decode("utf-8", "replace").split("\0")):
        key, _, value = entry.partition("\n")
        if (match := _KEY.fullmatch(key)) is not None:
            found.setdefault(match[1], {})[match[2]] = value
    urls = {it["path"]: it["url"] for it in found.values() if it.keys() >= {"path", "url"}}
    if len(urls) > MAX_MODULES:
        raise CheckoutError(f"{len(urls)} submodules, the limit is {MAX_MODULES}")
    if not urls:
        return []
    for path in urls:
        _check_path(path)
    args = ("--literal-pathspecs", "ls-tree", "-z", commit, "--", *sorted(urls))
    tree = await call(git, *args, env=env, idle_s=idle_s)
    modules = []
    for entry in filter(None, tree.decode("utf-8", "replace").split("\0")):
        about, _, path = entry.partition("\t")
        mode, _, at = about.split()
        if mode == "160000" and path in urls:
            modules.append(Module(path, _resolved(url, urls[path], path), at))
    return modules


def place(root: Path, path: str) -> Path:
    """Return where a submodule is to lie.

    Raises:
        CheckoutError: a symbolic link of the tree leads elsewhere.
    """
    here = root
    for part in PurePosixPath(path).parts:
        here = here / part
        if here.is_symlink():
            raise CheckoutError(f"the submodule {path!r} lies behind a symbolic link")
    return here


def _check_path(path: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or any(it in ("", ".", "..") or it.lower() == ".git" for it in parts):
        raise CheckoutError(f"a submodule has the path {path!r}, which is none of this workspace")


def _resolved(base: str, url: str, path: str) -> str:
    """Return a submodule's URL; a relative one is one beside its superproject's."""
    if url.startswith(("./", "../")):
        found = _URL.fullmatch(base)
        assert found is not None
        head, rest = found[1] or "", found[2]
        if not head and not rest.startswith("/"):
            host, _, rest = rest.partition(":")
            head, rest = f"{host}:", f"/{rest}"
            url = head + posixpath.normpath(posixpath.join(rest, url)).lstrip("/")
        else:
            url = head + posixpath.normpath(posixpath.join(rest, url))
    if (fault := url_fault(url)) is not None:
        raise CheckoutError(f"the URL of the submodule {path!r} {fault}")
    if is_local(url) and not is_local(base):
        raise CheckoutError(
            f"the submodule {path!r} is on this machine's own disk ({shown(url)}), which a"
            " repository elsewhere cannot ask for"
        )
    return url
