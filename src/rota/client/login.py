"""What is kept between two commands: a login, and the agents that were seen last."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from rota.errors import InputError

#: An answer names at most so many agents: by chance, if there are more.
MAX_AGENTS = 8


class Login(NamedTuple):
    """An agent that somebody logged in to. ``ca`` and ``is_pinned`` are those of a place.

    ``refresh`` is by what the login is renewed, if the provider gave something: as secret as the token.
    """

    url: str
    token: str
    ca: str = ""
    is_pinned: bool = False
    agents: tuple[str, ...] = ()
    refresh: str = ""


def login_path(env: Mapping[str, str]) -> str:
    """Return where ``rota login`` keeps what it was told."""
    config = env.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    return f"{config}/rota/login.json"


def read_login(env: Mapping[str, str]) -> Login | None:
    """Return the saved login, or ``None``.

    Raises:
        InputError: the file is there and cannot be read.
    """
    path = login_path(env)
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib: 8 ms
            saved = json.load(file)
        return Login(
            url=str(saved["url"]),
            token=str(saved["token"]),
            ca=str(saved.get("ca", "")),
            is_pinned=saved.get("is_pinned") is True,
            agents=_urls(saved.get("agents")),
            refresh=str(saved.get("refresh", "")),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read the login in {path}: {error}", hint="make it anew: rota login URL"
        ) from error


def save_login(login: Login, env: Mapping[str, str]) -> None:
    """Write a login so that only its owner may read it, and never half of it.

    Raises:
        InputError: it cannot be written.
    """
    path = login_path(env)
    draft = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(login._asdict(), file)
        os.replace(draft, path)  # noqa: PTH105 - pathlib: 8 ms
    except OSError as error:
        raise InputError(f"cannot save the login in {path}: {error.strerror}") from error


@contextlib.contextmanager
def turn(env: Mapping[str, str]) -> Iterator[None]:
    """Be the only command of this person that renews the login, for as long as the context is open.

    Raises:
        InputError: nothing can be written beside the login.
    """
    import fcntl

    path = f"{login_path(env)}.lock"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remember(urls: Iterable[str], env: Mapping[str, str]) -> None:
    """Keep with the login which other agents were named last. It is for later: it never fails.

    Only those over TLS: at a forgotten port of this machine a stranger may listen by then. And no
    others than these: who left the cluster is not to be shown a token.
    """
    try:
        login = read_login(env)
        safe = tuple(url for url in urls if url.startswith("https://"))
        if login is None or _is_known(safe, login.agents):
            return
        save_login(login._replace(agents=safe), env)
    except InputError:
        return


def cluster_agents(folder: str) -> tuple[str, ...]:
    """Return the URLs that the agent of a data folder keeps of its peers; none if it does not."""
    try:
        with open(f"{folder}/cluster.json", encoding="utf-8") as file:  # noqa: PTH123
            members = json.load(file)["members"]
        return _urls([member.get("peer") for member in members.values()])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()


def _is_known(named: tuple[str, ...], saved: tuple[str, ...]) -> bool:
    if len(named) < MAX_AGENTS:
        return set(named) == set(saved)
    return set(named) <= set(saved)


def _urls(value: Any) -> tuple[str, ...]:
    return (
        tuple(it for it in value if it and isinstance(it, str)) if isinstance(value, list) else ()
    )
