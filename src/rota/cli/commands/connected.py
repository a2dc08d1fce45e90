"""The client that a command's options and environment ask for."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable

from rota.client.client import Client
from rota.errors import InputError


def connected(args: Namespace) -> Client:
    """Return a client for the agent that ``args`` and the environment name.

    It goes on at others of its cluster if that one is gone. Where the mouth has a client, it is
    that one, unless the command names another agent.
    """
    client = _given(args)
    if client is not None:
        return client
    return Client.find(args.at, args.data_folder, env=os.environ, note=_note(args))


def at_this_agent(args: Namespace) -> Client:
    """Return a client for the very agent that was named: it is what is asked about."""
    client = _given(args)
    if client is not None:
        return client.staying()
    return Client.find(args.at, args.data_folder, env=os.environ, note=_note(args), moves=False)


def _given(args: Namespace) -> Client | None:
    client: Client | None = getattr(args, "client", None)
    return client if args.at is None and args.data_folder is None else None


def _note(args: Namespace) -> Callable[[str], None] | None:
    return getattr(args, "say", None)


def pairs(words: list[str]) -> dict[str, str]:
    """Return ``name=value`` words as a dictionary.

    Raises:
        InputError: a word has no ``=``, or no name, or a name comes twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"{word!r} is not name=value", hint="such as suite=full")
        if name in found:
            raise InputError(f"{name} is given twice: {found[name]!r} and {value!r}")
        found[name] = value
    return found
