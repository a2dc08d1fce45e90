"""Source code: brought from other people's repositories into workspaces, by mirrors on this disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from rota.core.scm import Commit, Revision, Scm

Say = Callable[[str], None]
"""Takes a line for the build's log."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A revision that is here now. ``ref`` is its full name, ``base`` the commit to merge it into."""

    commit: str
    ref: str = ""
    base: str = ""


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """A commit and those before it up to another one, newest first; ``more`` were left out."""

    head: Commit
    changes: tuple[Commit, ...] = ()
    more: bool = False


class Checkout(Protocol):
    """All may be called at the same time; of one repository one fetch runs at a time.

    All that speak with another machine raise CheckoutError where it does not answer in time or
    refuses, with git's own words.
    """

    async def find(self, want: Revision, *, depth: int, say: Say) -> Found:
        """Bring a revision here. Speaks with nobody if its commit is known and here.

        Raises:
            CheckoutError: there is no such ref or commit.
        """
        ...

    async def write(self, want: Revision, found: Found, scm: Scm, folder: Path, *, say: Say) -> str:
        """Lay a revision out below ``folder``, which is there; return the commit that lies there.

        It is a repository of its own, with a remote ``origin``. Cancelled, it leaves a part.

        Raises:
            CheckoutError: it cannot be merged, or laid out.
        """
        ...

    async def story(self, url: str, commit: str, before: str, *, depth: int, limit: int) -> Story:
        """Tell of a commit that was found, and of those since ``before``, as far as they are here."""
        ...

    async def refs(self, url: str) -> Mapping[str, str]:
        """Return where the branches, tags and pull requests of a repository are now."""
        ...

    async def changed(self, want: Revision, before: str) -> tuple[str, ...] | None:
        """Return the paths that differ from a commit ``before``; ``None`` where nobody knows."""
        ...

    async def files(
        self, want: Revision, folder: str, *, max_files: int, max_bytes: int
    ) -> Mapping[str, bytes]:
        """Return the regular files below a folder of a revision, by path within it.

        Raises:
            CheckoutError: they are too many, or one is too large.
        """
        ...
