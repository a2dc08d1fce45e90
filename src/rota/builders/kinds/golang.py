"""Go modules."""

from __future__ import annotations

import re

from rota.builders.finding import Draft, Finding
from rota.builders.folder import Folder
from rota.builders.versions import Wanted, asked, at_least, number, order

KNOWN = ("1.23", "1.24", "1.25")
DEFAULT = "1.24"
_GO = re.compile(r"^go\s+(\S+)", re.MULTILINE)


def go(folder: Folder) -> Finding | None:
    """Find a module, or several of a go.work."""
    name = next((it for it in ("go.work", "go.mod") if folder.has(it)), None)
    if name is None:
        return None
    found = Draft("go", folder)
    found.see(name)
    found.word("workspace", name == "go.work")
    match = _GO.search(folder.text(name))
    wanted = (Wanted(number(match[1], 2), name) if match else None) or asked(
        folder, "go", (".go-version",), 2
    )
    version = wanted.version if wanted else DEFAULT
    found.see(wanted.words("Go") if wanted else "")
    found.values |= {
        "go": version if wanted else "1.18",
        "go_image": version if order(version) >= (1, 13) else "1.13",
        "go_axis": ",".join(at_least(KNOWN, version, 3)),
    }
    return found.made()
