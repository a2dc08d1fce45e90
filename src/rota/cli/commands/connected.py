"""The client that a command's options and environment ask for."""

from __future__ import annotations

import os
from argparse import Namespace

from rota.cli.client import Client, client_from
from rota.cli.place import find_place
from rota.errors import InputError


def connected(args: Namespace) -> Client:
    """Return a client for the agent that ``args`` and the environment name."""
    return client_from(find_place(args.at, args.data_folder, os.environ))


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
