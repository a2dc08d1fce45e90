"""Writes :mod:`rota.client.wire` from the table of verbs: ``python -m rota.cli.mirror``.

The table of verbs needs msgspec, which costs a command 35 ms before it has said a word; so the
command line reads a plain copy of it. A test compares the two, so the copy cannot go stale.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

from msgspec import Meta

from rota.client import wire
from rota.service.messages import Request
from rota.service.verbs import VERBS, Verb

#: The copy is the client library's, which knows nothing of the service.
WIRE = Path(wire.__file__)

HEAD = '''"""The table of verbs as plain values: what each is called on the wire, and what its fields mean.

Written by ``python -m rota.cli.mirror`` from :mod:`rota.service.verbs`; change that, not this.
"""

from __future__ import annotations

from typing import NamedTuple


class Route(NamedTuple):
    """A verb's method and path, and its request's fields with their descriptions.

    Of one that ``repeats``, asking twice is asking once.
    """

    method: str
    path: str
    summary: str
    fields: dict[str, str]
    repeats: bool = False


ROUTES: dict[str, Route] = {
'''


def descriptions(request: type[Request]) -> dict[str, str]:
    """Return a request's fields and their texts, in the order of their declaration."""
    hints = get_type_hints(request, include_extras=True)
    return {name: _description(hints[name]) for name in request.__struct_fields__}


def wire_source() -> str:
    """Return the text that ``wire.py`` ought to have."""
    return HEAD + "".join(map(_entry, VERBS)) + "}\n"


def _description(hint: object) -> str:
    if get_origin(hint) is not Annotated:
        return ""
    texts = [it.description for it in get_args(hint)[1:] if isinstance(it, Meta)]
    return next((text for text in texts if text), "")


def _entry(verb: Verb) -> str:
    quoted = [_quoted(text) for text in (verb.method, verb.path, verb.summary)]
    fields = descriptions(verb.request)
    lines = [f"            {_quoted(name)}: {_quoted(text)},\n" for name, text in fields.items()]
    inner = "{\n" + "".join(lines) + "        }" if lines else "{}"
    arguments = "".join(f"        {text},\n" for text in (*quoted, inner))
    repeats = "        repeats=True,\n" if verb.repeats else ""
    return f"    {_quoted(verb.name)}: Route(\n{arguments}{repeats}    ),\n"


def _quoted(text: str) -> str:
    # As the formatter has it: double quotes, unless there are such in the text.
    return repr(text) if '"' in text else json.dumps(text, ensure_ascii=False)


if __name__ == "__main__":
    WIRE.write_text(wire_source(), encoding="utf-8")
