"""What is given to a command by the name of a file, or on standard input."""

from __future__ import annotations

from rota.cli.screen import Screen
from rota.errors import InputError

#: More than any script, crontab or project has; who names a device by mistake is told.
MAX_BYTES = 4 << 20


def read_given(name: str, screen: Screen) -> bytes:
    """Return a file's bytes; standard input's for ``-``.

    Raises:
        InputError: it cannot be read, has more than ``MAX_BYTES``, or there is no standard input.
    """
    # Not pathlib: it costs what a command takes to start.
    try:
        if name == "-":
            data = screen.input().buffer.read(MAX_BYTES + 1)
        else:
            with open(name, "rb") as file:  # noqa: PTH123
                data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {name}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{name}: more than {MAX_BYTES} bytes", hint="is it the right file?")
    return data
