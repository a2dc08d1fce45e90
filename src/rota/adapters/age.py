"""The safe as a file of age identities: ``tls/secrets.key``, which ``age -d -i`` takes as it is.

age (https://age-encryption.org/v1): X25519, ChaCha20-Poly1305. The newest identity stands last, as
who appends would have it. The library costs a millisecond and 1.3 MB, and is imported when needed.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from rota.errors import InputError, NotFoundError, UnavailableError
from rota.ports.clock import Clock

NAME = "secrets.key"
_MARK = "AGE-SECRET-KEY-1"
_HINT = "put the file back as it was; other agents of the cluster have it as well"


def seal(data: bytes, recipient: str) -> bytes:
    """Return ``data``, encrypted for a recipient (``age1…``), for ``age -d -i`` as well.

    Raises:
        InputError: that is none.
    """
    import pyrage
    from pyrage import x25519

    try:
        to = x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError as error:
        raise InputError(
            f"{recipient[:80]!r} is no recipient of age", hint="the public key: age-keygen -y FILE"
        ) from error
    sealed: bytes = pyrage.encrypt(data, [to])
    return sealed


def unseal(data: bytes, identities: str) -> bytes:
    """Return what was encrypted, with the identities that stand in a text.

    Raises:
        InputError: there is none in it, none of them fits, or the data is damaged.
    """
    import pyrage
    from pyrage import x25519

    lines = _identities(identities)
    if not lines:
        raise InputError("that holds no identity of age", hint="a line AGE-SECRET-KEY-1…")
    try:
        opened: bytes = pyrage.decrypt(data, [x25519.Identity.from_str(line) for line in lines])
    except (pyrage.DecryptError, pyrage.IdentityError) as error:
        raise InputError(f"the keys cannot be decrypted with that identity: {error}") from error
    return opened


class AgeSafe:
    """See :class:`rota.ports.safe.Safe`. Safe to use from several threads."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._path, self._clock = folder / NAME, clock
        self._lock = threading.Lock()

    def recipients(self) -> tuple[str, ...]:
        """Return the public keys of the identities, the last one that was kept first."""
        return tuple(_recipient(line) for line in reversed(self._lines()))

    def identities(self) -> str:
        """Return all identities as a text."""
        return "".join(f"{line}\n" for line in self._lines())

    def identity(self, recipient: str) -> str:
        """Return the identity whose public key is ``recipient``."""
        found = next((line for line in self._lines() if _recipient(line) == recipient), None)
        if found is None:
            raise NotFoundError(f"this agent has not the key {recipient[:12]}…")
        return found

    def make(self) -> str:
        """Return a new identity as a text; it is kept nowhere."""
        from pyrage import x25519

        return f"{x25519.Identity.generate()}\n"

    def keep(self, identities: str) -> tuple[str, ...]:
        """Keep what a text has and is not there yet, on disk; return the public keys of all of it."""
        given = _identities(identities)
        if not given:
            raise InputError("that holds no identity of age")
        try:
            found = tuple(_recipient(line) for line in given)
        except UnavailableError:
            raise InputError("that is no identity of age") from None
        with self._lock:
            former = self._lines()
            fresh = [line for line in dict.fromkeys(given) if line not in former]
            if fresh:
                self._write([*former, *fresh])
        return found

    def encrypt(self, data: bytes, recipient: str) -> str:
        """Return ``data``, encrypted and armoured."""
        import pyrage
        from pyrage import x25519

        if recipient not in self.recipients():
            raise NotFoundError(
                f"this agent has not the key that secrets are encrypted for ({recipient[:12]}…)"
            )
        to = x25519.Recipient.from_str(recipient)
        sealed: bytes = pyrage.encrypt(data, [to], armored=True)
        return sealed.decode("ascii")

    def decrypt(self, text: str) -> bytes:
        """Return what was encrypted."""
        import pyrage
        from pyrage import x25519

        keys = [x25519.Identity.from_str(line) for line in reversed(self._lines())]
        try:
            return pyrage.decrypt(text.encode("utf-8", "replace"), keys) if keys else _missing()
        except pyrage.DecryptError as error:
            # The library tells of both by words alone.
            if "no matching keys" in str(error).lower():
                _missing()
            raise InputError("its value is damaged") from error

    # -- the file -------------------------------------------------------------------------------

    def _lines(self) -> list[str]:
        try:
            return _identities(self._path.read_text(encoding="ascii"))
        except FileNotFoundError:
            return []
        except UnicodeError as error:
            raise UnavailableError(f"cannot use {self._path}: it is damaged", hint=_HINT) from error
        except OSError as error:
            raise UnavailableError(f"cannot read {self._path}: {error.strerror}") from error

    def _write(self, lines: list[str]) -> None:
        """Write the file whole, for this user's eyes alone, so that a power cut leaves old or new."""
        text = "# identities of age, for the secrets on main; the last one is the present one\n"
        text += f"# written {self._clock.now():%Y-%m-%dT%H:%M:%SZ}\n"
        text += "".join(f"# public key: {_recipient(line)}\n{line}\n" for line in lines)
        fresh = self._path.with_name(f"{NAME}.new")
        with _translated(self._path):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            with os.fdopen(os.open(fresh, flags, 0o600), "wb") as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(text.encode("ascii"))
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _identities(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith(_MARK)]


def _recipient(line: str) -> str:
    import pyrage
    from pyrage import x25519

    try:
        return str(x25519.Identity.from_str(line).to_public())
    except pyrage.IdentityError as error:
        raise UnavailableError("the file of identities is damaged", hint=_HINT) from error


def _missing() -> bytes:
    raise NotFoundError("it is encrypted for a key that this agent has not")


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"cannot write {path}: {error.strerror}") from error
