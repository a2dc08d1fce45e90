"""What is said is made to fit a network's messages, and kept from doing anything there."""

from __future__ import annotations

import re

from msgspec.structs import replace

from rota.ports.networks import Abilities, Saying

#: Colours and the like of terminals.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
#: What is invisible, turns the writing around, or is a control sign of a network.
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
#: Words that networks take for calls to everybody; parted by a sign that has no width.
_CALLS = re.compile(r"(?i)([@!])(channel|here|everyone|room|all)\b")
#: No line is longer than this, whatever the network takes.
MAX_WIDTH = 1000


def plain(text: str) -> str:
    """Return text without anything that a screen or a network would act upon; lines stay."""
    text = _ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ")
    return _CALLS.sub("\\1\u2060\\2", _HIDDEN.sub("", text))


def fitted(saying: Saying, abilities: Abilities, *, keep_first: bool = False) -> Saying:
    """Return a message as large as the network takes: of its code the last lines, or the first.

    What was left out is said, and the link goes along.
    """
    text = plain(saying.text).strip()
    link = plain(saying.link).replace("\n", "")
    room = max(80, abilities.characters - len(link) - 60)
    if len(text) > room // 2 and saying.code:
        text = text[: room // 2 - 1] + "…"
    elif len(text) > room:
        text = text[: room - 1] + "…"
    heads = text.split("\n")
    if len(heads) > abilities.lines:
        text = "\n".join([*heads[: max(1, abilities.lines - 1)], f"… {len(heads)} lines"])
    left = max(1, abilities.lines - text.count("\n") - (2 if link else 1))
    code = _cut(plain(saying.code), left, room - len(text), keep_first=keep_first)
    return replace(saying, text=text, code=code, link=link)


def _cut(code: str, lines: int, characters: int, *, keep_first: bool) -> str:
    found = [
        line[: MAX_WIDTH - 1] + "…" if len(line) > MAX_WIDTH else line for line in code.split("\n")
    ]
    while found and not found[-1].strip():
        found.pop()
    count = len(found)
    if not keep_first:
        found.reverse()
    kept: list[str] = []
    size = 0
    for line in found:
        if len(kept) >= lines or size + len(line) + 1 > max(characters, 40):
            break
        kept.append(line)
        size += len(line) + 1
    if not kept and found:
        kept = [found[0][: max(characters - 1, 40)] + "…"]
    if len(kept) < count and len(kept) >= lines:
        kept.pop()  # for the line that says so
    if not keep_first:
        kept.reverse()
    if len(kept) == count:
        return "\n".join(kept)
    note = f"… {count - len(kept):,} lines left out"
    return "\n".join([*kept, note] if keep_first else [note, *kept])
