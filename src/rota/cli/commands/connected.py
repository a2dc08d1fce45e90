"""The client that a command's options and environment ask for."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from rota.client.client import Client
from rota.errors import InputError


def connected(args: Namespace) -> Client:
    """Return a client for the agent that ``args`` and the environment name.

    It goes on at others of its cluster if that one is gone.
    """
    return Client.find(args.at, args.data_folder, env=os.environ, note=say)


def at_this_agent(args: Namespace) -> Client:
    """Return a client for the very agent that was named: it is what is asked about."""
    return Client.find(args.at, args.data_folder, env=os.environ, note=say, moves=False)


def say(text: str) -> None:
    """Print a line that is no data."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)


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
