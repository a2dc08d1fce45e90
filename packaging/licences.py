"""Of which packages a tree consists, and under which licences: what the Debian package lists.

Each package says it in its metadata: an expression of SPDX, else a word, else a classifier.
"""

from __future__ import annotations

import email.message
import email.parser
from pathlib import Path

from tree import PackagingError

_FILES = ("licen", "copying", "notice", "unlicense")


def listed(site: Path) -> str:
    """Return a line for each package of a folder: its name, its version, its licence.

    Raises:
        PackagingError: a package that says nothing of a licence and brings no text of one.
    """
    rows = []
    for folder in sorted(site.glob("*.dist-info"), key=lambda it: it.name.lower()):
        about = email.parser.HeaderParser().parsestr((folder / "METADATA").read_text("utf-8"))
        rows.append((about["Name"], about["Version"], _licence(about, folder)))
    name, version = (max((len(row[it]) for row in rows), default=0) for it in (0, 1))
    return "".join(f"{row[0]:{name}}  {row[1]:{version}}  {row[2]}\n" for row in rows)


def _licence(about: email.message.Message, folder: Path) -> str:
    said = about["License-Expression"] or about["License"] or ""
    if said and "\n" not in said and len(said) < 80:
        return said
    classes = [
        it.split(" :: ")[-1]
        for it in about.get_all("Classifier", [])
        if it.startswith("License :: ") and it != "License :: OSI Approved"
    ]
    if classes:
        return ", ".join(classes)
    texts = (it for it in folder.rglob("*") if it.is_file() and it.name.lower().startswith(_FILES))
    text = next(texts, None)
    if text is None:
        raise PackagingError(f"{about['Name']} names no licence: ask its authors, or leave it out")
    return f"see {text.relative_to(folder.parent)}"
