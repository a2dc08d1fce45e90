"""What is installed beside the program, below ``share``: manual, completion, unit, what is for Prometheus.

``python packaging/data.py FOLDER`` writes it to look at.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]

import manual
from rota.cli.commands.completion import SCRIPTS
from rota.daemon.unit import unit

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
    written["rota/rota.service"] = folder / "rota/rota.service"
    written["rota/rota.service"].parent.mkdir(parents=True, exist_ok=True)
    written["rota/rota.service"].write_text(packaged_unit(), encoding="utf-8")
    prometheus = Path(__file__).with_name("prometheus")
    return written | {f"rota/prometheus/{it.name}": it for it in prometheus.iterdir()}


def packaged_unit() -> str:
    """Return the unit as packages install it."""
    return unit("/usr/bin/rota agent $ROTA_OPTIONS", is_system=True, is_packaged=True)


if __name__ == "__main__":
    from rota import __version__

    write(Path(sys.argv[1]), __version__)
