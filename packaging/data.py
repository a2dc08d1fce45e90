"""What is installed beside the program, below ``share``: the manual, completion, the unit.

``python packaging/data.py FOLDER`` writes it to look at.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]

import manual
from rota.cli.commands.completion import SCRIPTS

#: Where each shell looks below ``share``.
COMPLETION = {
    "bash": "bash-completion/completions/rota",
    "zsh": "zsh/site-functions/_rota",
    "fish": "fish/vendor_completions.d/rota.fish",
}


def write(folder: Path, version: str) -> dict[str, Path]:
    """Write everything below ``folder``; return each file by its place below ``share``."""
    written = manual.write(folder, version)
    for shell, place in COMPLETION.items():
        written[place] = folder / place
        written[place].parent.mkdir(parents=True, exist_ok=True)
        written[place].write_text(SCRIPTS[shell], encoding="utf-8")
    return written


if __name__ == "__main__":
    from rota import __version__

    write(Path(sys.argv[1]), __version__)
