"""Users of this machine, as builds run as them."""

from __future__ import annotations

import grp
import os
import pwd
from typing import NamedTuple

from rota.errors import ExecutionError


class Account(NamedTuple):
    """A user as the kernel knows it; ``groups`` has ``gid`` too. ``name`` is "" without an entry."""

    uid: int
    gid: int
    groups: frozenset[int]
    name: str = ""
    home: str = "/"


def own_account() -> Account:
    """Return whom this process runs as."""
    uid = os.geteuid()
    try:
        entry = pwd.getpwuid(uid)
        name, home = entry.pw_name, entry.pw_dir
    except KeyError:
        name, home = "", "/"
    return Account(uid, os.getegid(), frozenset([os.getegid(), *os.getgroups()]), name, home)


def account(words: str) -> Account:
    """Return the user that ``USER`` or ``USER:GROUP`` names, by name or by number.

    Raises:
        ExecutionError: there is no such user, or no such group.
    """
    user, _, group = words.partition(":")
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError) as error:
        raise ExecutionError(
            f"there is no user {user!r} on this machine",
            hint=f"as root: useradd --system --create-home {user}",
        ) from error
    gid = _gid(group) if group else entry.pw_gid
    groups = os.getgrouplist(entry.pw_name, gid)
    return Account(entry.pw_uid, gid, frozenset([gid, *groups]), entry.pw_name, entry.pw_dir)


def _gid(group: str) -> int:
    try:
        return grp.getgrgid(int(group)).gr_gid if group.isdecimal() else grp.getgrnam(group).gr_gid
    except (KeyError, OverflowError) as error:
        raise ExecutionError(
            f"there is no group {group!r} on this machine", hint=f"as root: groupadd {group}"
        ) from error
