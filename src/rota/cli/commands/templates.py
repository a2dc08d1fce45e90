"""Jobs to start from."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

from rota.cli.nearest import nearest
from rota.cli.render import Cell, table
from rota.cli.screen import Screen
from rota.errors import ConflictError, InputError, NotFoundError

FOLDER = Path(__file__).parents[2] / "templates"
_DESCRIPTION = re.compile(r'^[#/;-]+ description = "(.*)"$', re.MULTILINE)


def templates(args: Namespace, screen: Screen) -> int:
    """List the templates."""
    rows = [(Cell(name, "bold"), Cell(described(path))) for name, path in known().items()]
    screen.lines(table(rows, screen.out, shrink=(1,)))
    return 0


def new(args: Namespace, screen: Screen) -> int:
    """Print a template, or write it to a file that is not there yet."""
    name = args.template or "bash"
    path = known().get(name)
    if path is None:
        raise NotFoundError(
            f"no template {name!r}", hint=nearest(name, known()) or "see which: rota templates"
        )
    if not args.output or args.output == "-":
        screen.raw(path.read_bytes())
        return 0
    output = Path(args.output)
    try:
        with output.open("xb") as file:
            file.write(path.read_bytes())
        output.chmod(0o755)
    except FileExistsError as error:
        raise ConflictError(f"{output} is there already", hint="give another -o") from error
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from error
    screen.note(f"wrote {output}; add it: rota add NAME {output}")
    return 0


def known() -> dict[str, Path]:
    """Return the templates: name -> file."""
    return {path.stem: path for path in sorted(FOLDER.iterdir()) if path.is_file()}


def described(path: Path) -> str:
    """Return what a template says that it is."""
    match = _DESCRIPTION.search(path.read_text(encoding="utf-8"))
    return match[1] if match else ""
